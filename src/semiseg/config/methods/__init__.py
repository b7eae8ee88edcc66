"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against the keys of `semiseg.methods.METHODS`.
"""

from semiseg.config.methods.ael import AELOptions
from semiseg.config.methods.cct import CCTOptions
from semiseg.config.methods.corrmatch import CorrMatchOptions
from semiseg.config.methods.cps import CPSOptions
from semiseg.config.methods.cutmix import CutMixOptions
from semiseg.config.methods.fixmatch import FixMatchOptions
from semiseg.config.methods.gct import GCTOptions
from semiseg.config.methods.mean_teacher import MeanTeacherOptions
from semiseg.config.methods.pc2seg import PC2SegOptions
from semiseg.config.methods.prototype import PrototypeOptions
from semiseg.config.methods.pseudoseg import PseudoSegOptions
from semiseg.config.methods.shared import UnlabeledOptions
from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.config.methods.u2pl import U2PLOptions
from semiseg.config.methods.unimatch import UniMatchOptions
from semiseg.config.methods.unimatch_v2 import UniMatchV2Options

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

__all__ = ["METHOD_OPTIONS", "UnlabeledOptions"]
