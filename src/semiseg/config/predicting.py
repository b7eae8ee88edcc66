"""How pictures are predicted, and what is written of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from semiseg.config.checks import Count, Options, Range, Share, require

Side = Annotated[int, Range(1, 2**15)]
Factor = Annotated[float, Range(0, 4, above=True)]


@dataclass(frozen=True)
class PredictOptions(Options):
    """Options of `semiseg predict`, by the same names in Python."""

    section: ClassVar[str] = "predict"

    window: Side | None = None
    """Predict in overlapping windows of so many pixels a side. None: as the run was scored, unless too large."""
    stride: Side | None = None
    """Pixels between two windows. None: three quarters of the window."""
    blend: Literal["smooth", "mean"] = "smooth"
    """How overlapping windows are joined, where `window` is given."""
    flips: Literal["none", "horizontal", "both"] = "none"
    """Average with mirrored pictures: left to right, or also top to bottom."""
    scales: tuple[Factor, ...] = (1.0,)
    """Average over pictures resized by these factors."""
    overlay: Literal["tint", "outline", "none"] = "tint"
    """What is laid over the photograph: classes as a tint with outlines, outlines alone, or no overlay."""
    opacity: Share = 0.4
    """Of the tint."""
    objects: bool = False
    """Count objects: connected pixels of one class, corners included."""
    smallest: Count = 1
    """Pixels of the smallest object that is counted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.window is not None or self.stride is None,
            "--stride is the distance between windows: give --window too",
        )
        require(len(self.scales) > 0, "predict.scales is empty; expected at least one factor, as 1")
