"""The methods: the only list of them. Their options stand under the same names in `semiseg.method_options`."""

from semiseg.methods.cct import CCT
from semiseg.methods.cutmix import CutMix
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import Method, Predictor, Setting
from semiseg.methods.pc2seg import PC2Seg
from semiseg.methods.prototype import Prototype
from semiseg.methods.pseudoseg import PseudoSeg
from semiseg.methods.supervised import Supervised

METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix": CutMix,
    "pseudoseg": PseudoSeg,
    "cct": CCT,
    "pc2seg": PC2Seg,
    "prototype": Prototype,
}

__all__ = ["METHODS", "Method", "Predictor", "Setting"]
