"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against those of `semiseg.methods.METHODS`.
"""

from semiseg.method_options.ael import AELOptions
from semiseg.method_options.cct import CCTOptions
from semiseg.method_options.corrmatch import CorrMatchOptions
from semiseg.method_options.cps import CPSOptions
from semiseg.method_options.cutmix import CutMixOptions
from semiseg.method_options.fixmatch import FixMatchOptions
from semiseg.method_options.gct import GCTOptions
from semiseg.method_options.mean_teacher import MeanTeacherOptions
from semiseg.method_options.pc2seg import PC2SegOptions
from semiseg.method_options.prototype import PrototypeOptions
from semiseg.method_options.pseudoseg import PseudoSegOptions
from semiseg.method_options.shared import (
    BackgroundOptions,
    MixOptions,
    PairOptions,
    PlugInOptions,
    RegularizerOptions,
    TeacherOptions,
    UnlabeledOptions,
)
from semiseg.method_options.supervised import SupervisedOptions
from semiseg.method_options.u2pl import U2PLOptions
from semiseg.method_options.unimatch import UniMatchOptions
from semiseg.method_options.unimatch_v2 import UniMatchV2Options

METHOD_OPTIONS: dict[str, type] = {
    "supervised": SupervisedOptions,
    "mean_teacher": MeanTeacherOptions,
    "cutmix": CutMixOptions,
    "pseudoseg": PseudoSegOptions,
    "cct": CCTOptions,
    "gct": GCTOptions,
    "cps": CPSOptions,
    "pc2seg": PC2SegOptions,
    "ael": AELOptions,
    "u2pl": U2PLOptions,
    "fixmatch": FixMatchOptions,
    "unimatch": UniMatchOptions,
    "unimatch_v2": UniMatchV2Options,
    "corrmatch": CorrMatchOptions,
    "prototype": PrototypeOptions,
}

__all__ = [
    "METHOD_OPTIONS",
    "AELOptions",
    "BackgroundOptions",
    "CCTOptions",
    "CPSOptions",
    "CorrMatchOptions",
    "CutMixOptions",
    "FixMatchOptions",
    "GCTOptions",
    "MeanTeacherOptions",
    "MixOptions",
    "PC2SegOptions",
    "PairOptions",
    "PlugInOptions",
    "PrototypeOptions",
    "PseudoSegOptions",
    "RegularizerOptions",
    "SupervisedOptions",
    "TeacherOptions",
    "U2PLOptions",
    "UniMatchOptions",
    "UniMatchV2Options",
    "UnlabeledOptions",
]
