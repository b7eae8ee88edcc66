"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against those of `semiseg.methods.METHODS`.
"""

from semiseg.method_options.cutmix import CutMixOptions
from semiseg.method_options.mean_teacher import MeanTeacherOptions
from semiseg.method_options.prototype import PrototypeOptions
from semiseg.method_options.shared import PlugInOptions, RegularizerOptions, TeacherOptions, UnlabeledOptions
from semiseg.method_options.supervised import SupervisedOptions
from semiseg.method_options.u2pl import U2PLOptions

METHOD_OPTIONS: dict[str, type] = {
    "supervised": SupervisedOptions,
    "mean_teacher": MeanTeacherOptions,
    "cutmix": CutMixOptions,
    "u2pl": U2PLOptions,
    "prototype": PrototypeOptions,
}

__all__ = [
    "METHOD_OPTIONS",
    "CutMixOptions",
    "MeanTeacherOptions",
    "PlugInOptions",
    "PrototypeOptions",
    "RegularizerOptions",
    "SupervisedOptions",
    "TeacherOptions",
    "U2PLOptions",
    "UnlabeledOptions",
]
