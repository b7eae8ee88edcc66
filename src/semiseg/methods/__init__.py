"""The methods by name. Their options stand under the same names in `semiseg.config.methods`, which needs no torch.

A method of one's own joins by one line, `semiseg.METHODS["mine"] = Mine`: its `Options` join the list of options.
"""

from __future__ import annotations

from collections import UserDict
from dataclasses import is_dataclass

from semiseg.config.methods import METHOD_OPTIONS, UnlabeledOptions
from semiseg.methods.ael import AEL
from semiseg.methods.cct import CCT
from semiseg.methods.corrmatch import CorrMatch
from semiseg.methods.cps import CPS
from semiseg.methods.cutmix import CutMix
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.gct import GCT
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.method import Method, MethodContext
from semiseg.methods.pc2seg import PC2Seg
from semiseg.methods.prototype import Prototype
from semiseg.methods.pseudoseg import PseudoSeg
from semiseg.methods.supervised import Supervised
from semiseg.methods.u2pl import U2PL
from semiseg.methods.unimatch import UniMatch
from semiseg.methods.unimatch_v2 import UniMatchV2


class Methods(UserDict[str, type[Method]]):
    """Name -> class. A class that is added brings its options along."""

    def __setitem__(self, name: str, method: type[Method]) -> None:
        """Raises ValueError for a class whose options are missing, or lack what every method's have."""
        options = getattr(method, "Options", None)
        expected = UnlabeledOptions if getattr(method, "uses_unlabeled", True) else object
        if not (is_dataclass(options) and isinstance(options, type) and issubclass(options, expected)):
            raise ValueError(
                f"the method {name!r} needs a class attribute Options: a frozen dataclass derived from "
                f"semiseg.config.methods.UnlabeledOptions; it has {options!r}"
            )
        METHOD_OPTIONS[name] = options
        super().__setitem__(name, method)

    def __delitem__(self, name: str) -> None:
        del METHOD_OPTIONS[name]
        super().__delitem__(name)


METHODS = Methods(
    {
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
)

__all__ = [
    "AEL",
    "CCT",
    "CPS",
    "GCT",
    "METHODS",
    "U2PL",
    "CorrMatch",
    "CutMix",
    "FixMatch",
    "MeanTeacher",
    "Method",
    "MethodContext",
    "PC2Seg",
    "Prototype",
    "PseudoSeg",
    "Supervised",
    "UniMatch",
    "UniMatchV2",
]  # fmt: skip
