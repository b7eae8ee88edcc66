"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against those of `semiseg.methods.METHODS`.
"""

from semiseg.method_options.cps import CPSOptions
from semiseg.method_options.cutmix import CutMixOptions
from semiseg.method_options.gct import GCTOptions
from semiseg.method_options.mean_teacher import MeanTeacherOptions
from semiseg.method_options.prototype import PrototypeOptions
from semiseg.method_options.shared import (
    PairOptions,
    PlugInOptions,
    RegularizerOptions,
    TeacherOptions,
    UnlabeledOptions,
)
from semiseg.method_options.supervised import SupervisedOptions

METHOD_OPTIONS: dict[str, type] = {
    "supervised": SupervisedOptions,
    "mean_teacher": MeanTeacherOptions,
    "cutmix": CutMixOptions,
    "gct": GCTOptions,
    "cps": CPSOptions,
    "prototype": PrototypeOptions,
}

__all__ = [
    "METHOD_OPTIONS",
    "CPSOptions",
    "CutMixOptions",
    "GCTOptions",
    "MeanTeacherOptions",
    "PairOptions",
    "PlugInOptions",
    "PrototypeOptions",
    "RegularizerOptions",
    "SupervisedOptions",
    "TeacherOptions",
    "UnlabeledOptions",
]
