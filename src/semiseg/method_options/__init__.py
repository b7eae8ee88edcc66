"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against those of `semiseg.methods.METHODS`.
"""

from semiseg.method_options.corrmatch import CorrMatchOptions
from semiseg.method_options.cutmix import CutMixOptions
from semiseg.method_options.fixmatch import FixMatchOptions
from semiseg.method_options.mean_teacher import MeanTeacherOptions
from semiseg.method_options.prototype import PrototypeOptions
from semiseg.method_options.shared import PlugInOptions, RegularizerOptions, TeacherOptions, UnlabeledOptions
from semiseg.method_options.supervised import SupervisedOptions
from semiseg.method_options.unimatch import UniMatchOptions
from semiseg.method_options.unimatch_v2 import UniMatchV2Options

METHOD_OPTIONS: dict[str, type] = {
    "supervised": SupervisedOptions,
    "mean_teacher": MeanTeacherOptions,
    "cutmix": CutMixOptions,
    "fixmatch": FixMatchOptions,
    "unimatch": UniMatchOptions,
    "unimatch_v2": UniMatchV2Options,
    "corrmatch": CorrMatchOptions,
    "prototype": PrototypeOptions,
}

__all__ = [
    "METHOD_OPTIONS",
    "CorrMatchOptions",
    "CutMixOptions",
    "FixMatchOptions",
    "MeanTeacherOptions",
    "PlugInOptions",
    "PrototypeOptions",
    "RegularizerOptions",
    "SupervisedOptions",
    "TeacherOptions",
    "UniMatchOptions",
    "UniMatchV2Options",
    "UnlabeledOptions",
]
