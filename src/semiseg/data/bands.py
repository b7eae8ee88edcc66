"""Images of other than three bands of 8 bits: which values they have, and how these become the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg.data.images import Pixels

Values = NDArray[Any]
"""(H, W, N) of a file's own type."""
Mapped = NDArray[np.float32]
"""(H, W, N) in [0, 1]; NaN in every band of a pixel without data."""


@dataclass(frozen=True)
class Bands:
    """What all images of a dataset have in common, and the range of values that the network sees as 0 to 1."""

    dtype: str  # of the files, as numpy calls it: "uint16"
    low: tuple[float, ...]  # one per band: what becomes 0
    high: tuple[float, ...]  # one per band: what becomes 1

    @property
    def count(self) -> int:
        """How many bands, N."""
        return len(self.low)

    def mapped(self, values: Values, nodata: float | None = None) -> Mapped:
        """`values` (H, W, N) from `low`..`high` to 0..1, cut off there; NaN where `blank_pixels`."""
        wide = np.float64 if values.dtype.itemsize > 4 else np.float32
        low, high = np.array(self.low, wide), np.array(self.high, wide)
        mapped = ((values.astype(wide) - low) / (high - low)).clip(0, 1).astype(np.float32)
        mapped[blank_pixels(values, nodata)] = np.nan
        return mapped


def blank_pixels(values: Values, nodata: float | None = None) -> NDArray[np.bool_]:
    """(H, W): where a picture (H, W, N) has no data: `nodata` in every band, or NaN in any."""
    blank = np.zeros(values.shape[:2], bool)
    if nodata is not None and not np.isnan(nodata):
        blank |= (values == nodata).all(2)
    if np.issubdtype(values.dtype, np.floating):
        blank |= np.isnan(values).any(2)
    return blank


def as_photograph(image: Pixels | Mapped) -> Pixels:
    """(H, W, 3) uint8 to be looked at: RGB as it is, of other images the first three bands, or the first as grey."""
    if image.dtype == np.uint8:
        return image  # pyright: ignore[reportReturnType]
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)
    return (255 * np.nan_to_num(shown)).round().astype(np.uint8)
