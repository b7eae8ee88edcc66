"""Options of the paper's method."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Share, ShareBelowOne, require
from semiseg.config.methods.shared import AdaptOptions, Denominator, MixOptions
from semiseg.config.prototypes import PrototypesOptions


@dataclass(frozen=True)
class PrototypeOptions(AdaptOptions, MixOptions):
    """Prototype-based consistency regularization (Xu et al., NeurIPS 2022)."""

    warmup: ShareBelowOne = field(default=0.0125, metadata=NOT_COUNTED)
    """Share of the steps that are supervised only, so that K-means finds features that mean something. The default is
    the releases' one epoch of 80."""
    threshold: Share = field(default=0.8, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches, tau (Table 7)."""
    linear: bool = True
    """The linear predictor's losses after warm-up, on labelled images too. Off: labels come from the teacher's
    prototypes (Table 4, row 2)."""
    denominator: Denominator = "all"
    """Divides the losses on unlabelled pixels: all pixels of the image, the kept ones, or as U2PL (N / kept x mean)."""
    prototypes: PrototypesOptions | None = field(default_factory=PrototypesOptions)
    """The prototype predictor and its losses; false: row 1 of Table 4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.linear or self.prototypes is not None,
            "without the linear predictor and without prototypes no loss is left: turn on method.linear or prototypes",
        )
