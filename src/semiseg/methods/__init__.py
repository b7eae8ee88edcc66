"""The methods: the only list of them. Their options stand under the same names in `semiseg.method_options`."""

from semiseg.methods.corrmatch import CorrMatch
from semiseg.methods.cct import CCT
from semiseg.methods.ael import AEL
from semiseg.methods.cutmix import CutMix
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import JointPredictor, Method, Predictor, Setting
from semiseg.methods.pc2seg import PC2Seg
from semiseg.methods.prototype import Prototype
from semiseg.methods.pseudoseg import PseudoSeg
from semiseg.methods.supervised import Supervised
from semiseg.methods.unimatch import UniMatch
from semiseg.methods.unimatch_v2 import UniMatchV2
from semiseg.methods.u2pl import U2PL

METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix": CutMix,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "unimatch_v2": UniMatchV2,
    "corrmatch": CorrMatch,
    "pseudoseg": PseudoSeg,
    "cct": CCT,
    "pc2seg": PC2Seg,
    "ael": AEL,
    "u2pl": U2PL,
    "prototype": Prototype,
}

__all__ = ["METHODS", "JointPredictor", "Method", "Predictor", "Setting"]
