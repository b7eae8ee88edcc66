"""Options of the prototypes: one section, the same names in every method that has them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from semiseg.config.checks import NOT_COUNTED, Count, Options, Positive, Range, Share, Weight, require


@dataclass(frozen=True)
class PrototypesOptions(Options):
    """The prototype predictor and its losses (Xu et al. 2022, Eq. 2, 6, 10 and 11)."""

    section: ClassVar[str] = "prototypes"

    per_class: Annotated[int, Range(1, 10_000)] = 4
    """Prototypes per class, K (Fig. 3)."""
    temperature: Positive = field(default=0.1, metadata=NOT_COUNTED)
    """T of Eq. 2."""
    momentum: Share = field(default=0.99, metadata=NOT_COUNTED)
    """Alpha of Eq. 11."""
    update: Literal["mean", "per_pixel", "none"] = field(default="mean", metadata=NOT_COUNTED)
    """Eq. 11 once per step with the mean of the assigned features, in its closed form over single pixels, or not at all
    (Table 4, row 3)."""
    grid: Annotated[int, Range(1, 2**15)] | None = 32
    """One random point per cell of a grid x grid enters the prototype losses and updates. None: every pixel."""
    weight: Weight = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of both prototype losses (Eq. 6 and 10)."""
    init_pixels: Count = field(default=20_000, metadata=NOT_COUNTED)
    """At most so many labelled pixels per class go into the K-means start (Algorithm 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.init_pixels >= self.per_class, "prototypes.init_pixels must be at least prototypes.per_class")
