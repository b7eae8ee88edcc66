"""Pictures by windows: ordinary ones, decoded once, and rasters with georeference that may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.data.bands import Bands, Mapped
from semiseg.data.images import Pixels, read_image

Read = Callable[[int, int, int, int], Any]


@dataclass(frozen=True)
class Raster:
    """A picture that is read in windows."""

    height: int  # pixels
    width: int
    bands: int
    dtype: str  # of the file, as numpy calls it
    nodata: float | None  # the value of pixels without data, of the file
    crs: Any  # rasterio's CRS; None without georeference
    transform: Any  # rasterio's Affine, from pixels to the CRS; None without georeference
    _read: Read
    _close: Callable[[], None] = lambda: None

    def read(self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None) -> Pixels | Mapped:
        """A window of `height` x `width` pixels (None: to the border) that lies inside the picture.

        (h, w, 3) uint8 RGB; of a raster that was opened for `Bands` (h, w, N) float32 in [0, 1], NaN without data.
        `semiseg.parts.augment.as_batch` takes both. Raises ValueError where the file cannot be read.
        """
        height = self.height - top if height is None else height
        width = self.width - left if width is None else width
        return self._read(top, left, height, width)

    def close(self) -> None:
        """Let the file go."""
        self._close()

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_raster(path: Path | str, bands: Bands | None = None) -> Raster:
    """The picture in `path`, to be read as a model of `bands` wants it; None: RGB of 8 bits, as `read_image`.

    Raises ValueError for a file that cannot be read.
    """
    image = read_image(path)

    def read(top: int, left: int, height: int, width: int) -> Pixels | Mapped:
        return image[top : top + height, left : left + width]

    return Raster(image.shape[0], image.shape[1], image.shape[2], str(image.dtype), None, None, None, read)
