"""Options of the prototypes: one section, the same names in every method that has them."""

from dataclasses import dataclass, field
from typing import Literal

from semiseg.config.checks import NOT_COUNTED, require


@dataclass(frozen=True)
class PrototypesOptions:
    """The prototype predictor and its losses (Xu et al. 2022, Eq. 2, 6, 10 and 11)."""

    per_class: int = 4
    """Prototypes per class, K (Fig. 3)."""
    temperature: float = field(default=0.1, metadata=NOT_COUNTED)
    """T of Eq. 2."""
    momentum: float = field(default=0.99, metadata=NOT_COUNTED)
    """Alpha of Eq. 11."""
    update: Literal["mean", "per_pixel", "none"] = field(default="mean", metadata=NOT_COUNTED)
    """Eq. 11 once per step with the mean of the assigned features, in its closed form over single pixels, or not at all
    (Table 4, row 3)."""
    grid: int | None = 32
    """One random point per cell of a grid x grid enters the prototype losses and updates. None: every pixel."""
    weight: float = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of both prototype losses (Eq. 6 and 10)."""
    init_pixels: int = field(default=20_000, metadata=NOT_COUNTED)
    """At most so many labelled pixels per class go into the K-means start (Algorithm 2)."""

    def __post_init__(self) -> None:
        require(self.per_class >= 1, "prototypes.per_class must be at least 1")
        require(self.temperature > 0, "prototypes.temperature must be positive")
        require(0 <= self.momentum <= 1, "prototypes.momentum: between 0 and 1")
        require(self.grid is None or self.grid >= 1, "prototypes.grid must be at least 1, or none for every pixel")
        require(self.weight >= 0, "prototypes.weight cannot be negative")
        require(self.init_pixels >= self.per_class, "prototypes.init_pixels must be at least prototypes.per_class")
