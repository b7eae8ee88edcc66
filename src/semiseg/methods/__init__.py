"""The methods: the only list of them. Their options stand under the same names in `semiseg.method_options`."""

from semiseg.methods.cutmix import CutMix
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import Method, Predictor, Setting
from semiseg.methods.prototype import Prototype
from semiseg.methods.supervised import Supervised
from semiseg.methods.u2pl import U2PL

METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix": CutMix,
    "u2pl": U2PL,
    "prototype": Prototype,
}

__all__ = ["METHODS", "Method", "Predictor", "Setting"]
