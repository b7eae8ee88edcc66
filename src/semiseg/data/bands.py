"""Images of other than RGB of 8 bits: which values they have, and how these become the network's input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg.data.deep import Stored, Values, read_values
from semiseg.data.formats import described
from semiseg.data.images import Pixels

Mapped = NDArray[np.float32]
"""(H, W, N) in [0, 1]; NaN in every band of a pixel without data."""


@dataclass(frozen=True)
class Bands:
    """What all images of a dataset have in common, and the range of values that the network sees as 0 to 1."""

    dtype: str  # of the files, as numpy calls it: "uint16"
    low: tuple[float, ...]  # one per band: what becomes 0
    high: tuple[float, ...]  # one per band: what becomes 1
    first: str = field(default="the model's images", compare=False)  # the image that set the rule, for messages

    @property
    def count(self) -> int:
        """How many bands, N."""
        return len(self.low)

    def to_dict(self) -> dict[str, Any]:
        """For model.json."""
        return {"dtype": self.dtype, "low": list(self.low), "high": list(self.high)}

    def __str__(self) -> str:
        return f"{self.count} band{'s' if self.count > 1 else ''} of {self.dtype}"

    def read(self, path: Path | str, content: bytes | None = None) -> Mapped:
        """The picture in `path` as `mapped` makes it; with `content` that is the picture, and `path` only its name.

        Raises ValueError for a file that cannot be read, or with other bands or numbers than these.
        """
        values, stored = read_values(path, content, self.count)
        return self.mapped(values, f"{path}", stored.nodata)

    def mapped(self, values: Values, what: str, nodata: float | None = None) -> Mapped:
        """`values` (H, W, N) from `low`..`high` to 0..1, cut off there; NaN where `blank_pixels`.

        `what` opens the message of the ValueError that is raised where bands or type are others.
        """
        self.check(values.shape[2], str(values.dtype), what)
        wide = np.float64 if values.dtype.itemsize > 4 else np.float32
        low, high = np.array(self.low, wide), np.array(self.high, wide)
        mapped = ((values.astype(wide) - low) / (high - low)).clip(0, 1).astype(np.float32)
        mapped[blank_pixels(values, nodata)] = np.nan
        return mapped

    def check(self, count: int, dtype: str, what: str) -> None:
        """Raise ValueError unless these are the bands."""
        if (count, dtype) != (self.count, self.dtype):
            raise ValueError(f"{what} has {count} band(s) of {dtype}, and {self.first} {self}. {ALIKE}")

    def of(self, image: object, what: str) -> Mapped:
        """The same of a path (str or Path), or of an array (H, W, N) or (H, W) of the files' type."""
        if isinstance(image, str | Path):
            return self.read(image)
        return self.mapped(as_values(image, what), what)


class Ready(NamedTuple):
    """An image that `Bands.mapped` made."""

    image: Mapped


def as_values(image: object, what: str) -> Values:
    """An array (H, W, N) or (H, W) as (H, W, N). Raises ValueError, which `what` opens, for anything else."""
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return image if image.ndim == 3 else image[..., None]
    raise ValueError(f"{what} is {described(image)}; expected a path, or an array (H, W, bands) like the others")


ALIKE = "The images of one dataset must be alike: save them with the same bands and depth, or take one kind out"


def differs(path: Path | str, stored: Stored, first: str) -> ValueError:
    """What is wrong with a deep picture among photographs of 8 bits."""
    return ValueError(f"{path} has {stored}, and {first} is RGB of 8 bits. {ALIKE}")


def blank_pixels(values: NDArray[Any], nodata: float | None = None) -> NDArray[np.bool_]:
    """(H, W): where a picture (H, W, N) has no data: `nodata` in every band, or NaN in any."""
    blank = np.zeros(values.shape[:2], bool)
    if nodata is not None and not np.isnan(nodata):
        blank |= (values == nodata).all(2)
    if np.issubdtype(values.dtype, np.floating):
        blank |= np.isnan(values).any(2)
    return blank


def at_size(blank: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(h, w) at `size` (H, W), each pixel as the nearest one."""
    if blank.shape == size:
        return blank
    return cv2.resize(blank.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def as_photograph(image: Pixels | Mapped) -> Pixels:
    """(H, W, 3) uint8 to be looked at: RGB as it is, of other images the first three bands, or the first as grey."""
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)
    return (255 * np.nan_to_num(shown)).round().astype(np.uint8)
