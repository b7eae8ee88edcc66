"""The methods: the only list of them. Their options stand under the same names in `semiseg.method_options`."""

from semiseg.methods.cps import CPS
from semiseg.methods.cutmix import CutMix
from semiseg.methods.gct import GCT
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import JointPredictor, Method, Predictor, Setting
from semiseg.methods.prototype import Prototype
from semiseg.methods.supervised import Supervised

METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix": CutMix,
    "gct": GCT,
    "cps": CPS,
    "prototype": Prototype,
}

__all__ = ["METHODS", "JointPredictor", "Method", "Predictor", "Setting"]
