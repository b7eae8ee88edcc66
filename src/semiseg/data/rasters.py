"""Pictures in windows: ordinary ones, decoded once, and GeoTIFFs that may be larger than memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg.data.bands import Bands, Mapped, blank_pixels
from semiseg.data.deep import Stored, check_finite, look, read_window, with_rasterio
from semiseg.data.images import Pixels, errors_named, read_image

log = logging.getLogger(__name__)

LARGE = 1 << 26
"""Pixels from which a TIFF is read in windows, where rasterio is there to do it: RGB of 8 bits takes 200 MB."""

_STRIP = 512  # rows at a time

Read = Callable[[int, int, int, int], Any]


@dataclass(frozen=True)
class Raster:
    """A picture that is read in windows. A context manager: it closes the file."""

    height: int  # pixels
    width: int
    bands: int
    dtype: str  # of the file, as numpy calls it
    nodata: float | None  # the file's value of pixels without data
    crs: Any  # rasterio's CRS; None without georeference
    transform: Any  # rasterio's Affine, from pixels to the CRS; None without georeference
    _read: Read
    _held: ExitStack = field(default_factory=ExitStack)

    def read(self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None) -> Pixels | Mapped:
        """A window of `height` x `width` pixels (None: to the border) that lies inside the picture.

        (h, w, 3) uint8 RGB; of a raster that was opened for `Bands` (h, w, N) float32 in [0, 1], NaN without data.
        `semiseg.parts.augment.as_batch` takes both, and `blank_pixels` with `nodata` tells where there is no data.
        Several threads may read. Raises ValueError where the file cannot be read.
        """
        height = self.height - top if height is None else height
        width = self.width - left if width is None else width
        return self._read(top, left, height, width)

    def blanks(self) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
        """Rows of the picture, and (h, W) where they have no data; nothing where no pixel can be without."""
        is_mapped = self.read(0, 0, 1, 1).dtype != np.uint8  # NaN without data, whatever the file's nodata
        for top in range(0, self.height if is_mapped or self.nodata is not None else 0, _STRIP):
            strip = self.read(top, 0, min(_STRIP, self.height - top))
            yield slice(top, top + len(strip)), blank_pixels(strip, None if is_mapped else self.nodata)

    def close(self) -> None:
        """Let the file go."""
        self._held.close()

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_raster(path: Path | str, bands: Bands | None = None) -> Raster:
    """The picture in `path`, to be read as a model of `bands` wants it; None: RGB of 8 bits, as `read_image`.

    A GeoTIFF has its georeference, and a TIFF of LARGE pixels is read in windows, where rasterio is installed; without
    it the georeference is warned of. Raises ValueError for a file that cannot be read, or has other bands.
    """
    stored = look(path)
    held, crs, transform, read = ExitStack(), None, None, None
    try:
        if stored.is_tiff and find_spec("rasterio") is not None:
            raster = held.enter_context(with_rasterio(path))
            crs = raster.crs
            transform = None if crs is None and raster.transform.is_identity else raster.transform
            if stored.height * stored.width > LARGE and _in_windows(stored, bands):
                read = _windowed(raster, path, stored, bands)
            else:
                held.close()
        elif stored.georeferenced:
            log.warning("%s: its georeference is not kept without rasterio: pip install semiseg[geo]", path)
        if read is None:
            read = _whole(read_image(path) if bands is None else bands.read(path))
    except BaseException:
        held.close()
        raise
    count = 3 if bands is None else bands.count
    return Raster(stored.height, stored.width, count, stored.dtype, stored.nodata, crs, transform, read, held)


def _in_windows(stored: Stored, bands: Bands | None) -> bool:
    """Whether GDAL gives the values that `read_image` and `Bands.read` give."""
    return stored.orientation == 1 and (bands is not None or (stored.plain and not stored.converted))


def _whole(image: Pixels | Mapped) -> Read:
    return lambda top, left, height, width: image[top : top + height, left : left + width]


def _windowed(raster: Any, path: Path | str, stored: Stored, bands: Bands | None) -> Read:
    lock = Lock()  # GDAL's object is for one thread at a time
    count = stored.bands if bands is None else stored.count(bands.count)
    if bands is not None:
        bands.check(count, stored.dtype, f"{path}")

    def read(top: int, left: int, height: int, width: int) -> Pixels | Mapped:
        with lock, errors_named(path):
            values = read_window(raster, count, (top, top + height), (left, left + width))
        check_finite(values, stored.nodata, path)
        if bands is not None:
            return bands.mapped(values, f"{path}", stored.nodata)
        return np.ascontiguousarray(values if count == 3 else values.repeat(3, 2))

    return read
