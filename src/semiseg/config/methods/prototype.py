"""Options of the paper's method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semiseg.config.methods.shared import (
    Denominator,
    MixOptions,
    RegularizerOptions,
    TeacherOptions,
    require_probability,
)
from semiseg.config.options import require


@dataclass(frozen=True)
class PrototypeOptions(TeacherOptions, MixOptions):
    """Prototype-based consistency regularization (Xu et al., NeurIPS 2022)."""

    warmup: float = 0.0125
    """Share of the steps that are supervised only, so that K-means finds features that mean something. The default is
    the releases' one epoch of 80."""
    linear: bool = True
    """The linear predictor's losses after warm-up, on labelled images too. Off: labels come from the teacher's
    prototypes (Table 4, row 2)."""
    prototype: bool = True
    """The prototype predictor and its losses (Table 4, row 1: off)."""
    update: bool = True
    """Prototypes follow the features (Table 4, row 3: off)."""
    update_rule: Literal["mean", "per_pixel"] = "mean"
    """Eq. 11 once per step with the mean of the assigned features, or its closed form over single pixels."""
    prototypes: int = 4
    """Prototypes per class, K (Fig. 3)."""
    temperature: float = 0.1
    """T of Eq. 2."""
    momentum: float = 0.99
    """Alpha of Eq. 11."""
    threshold: float = 0.8
    """Confidence from which a pseudo-label teaches, tau (Table 7)."""
    denominator: Denominator = "all"
    """Divides the losses on unlabelled pixels: all pixels of the image, the kept ones, or as U2PL (N / kept x mean)."""
    grid: int | None = 32
    """One random point per cell of a grid x grid enters the prototype losses and updates. None: every pixel."""
    prototype_weight: float = 1.0
    """Weight of both prototype losses (Eq. 6 and 10)."""
    init_pixels: int = 20_000
    """At most so many labelled pixels per class go into the K-means start (Algorithm 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.linear or self.prototype, "method: turn on linear or prototype, or both; neither leaves no loss")
        require(self.prototypes >= 1, "method.prototypes must be at least 1")
        require(self.temperature > 0, "method.temperature must be positive")
        require(0 <= self.momentum <= 1, "method.momentum: between 0 and 1")
        require_probability("threshold", self.threshold)
        require(self.grid is None or self.grid >= 1, "method.grid must be at least 1, or none for every pixel")
        require(self.init_pixels >= self.prototypes, "method.init_pixels must be at least method.prototypes")

    @property
    def regularizer(self) -> RegularizerOptions | None:
        """None without the prototype predictor."""
        if not self.prototype:
            return None
        return RegularizerOptions(
            self.prototypes,
            self.temperature,
            self.momentum,
            self.update_rule if self.update else "none",
            self.grid,
            self.prototype_weight,
            self.init_pixels,
        )
