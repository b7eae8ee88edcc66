"""The methods: the only list of them. Their options stand under the same names in `semiseg.config.methods`."""

from semiseg.methods.ael import AEL
from semiseg.methods.cct import CCT
from semiseg.methods.corrmatch import CorrMatch
from semiseg.methods.cps import CPS
from semiseg.methods.cutmix import CutMix
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.gct import GCT
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import Method, Setting
from semiseg.methods.pc2seg import PC2Seg
from semiseg.methods.prototype import Prototype
from semiseg.methods.pseudoseg import PseudoSeg
from semiseg.methods.supervised import Supervised
from semiseg.methods.u2pl import U2PL
from semiseg.methods.unimatch import UniMatch
from semiseg.methods.unimatch_v2 import UniMatchV2

METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix": CutMix,
    "pseudoseg": PseudoSeg,
    "cct": CCT,
    "gct": GCT,
    "cps": CPS,
    "pc2seg": PC2Seg,
    "ael": AEL,
    "u2pl": U2PL,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "unimatch_v2": UniMatchV2,
    "corrmatch": CorrMatch,
    "prototype": Prototype,
}

__all__ = ["METHODS", "Method", "Setting"]
