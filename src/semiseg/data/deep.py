"""Files of any depth and number of bands: what their header says, and their values as they are stored.

`read_image` makes RGB of 8 bits of a picture; here 16 bits stay 16 bits and seven bands seven. TIFF is read by
tifffile, PNG of 16 bits by OpenCV, a TIFF that tifffile cannot unpack by rasterio, and every other picture by `images`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from semiseg.config.bands import MOST_BANDS
from semiseg.data.formats import (
    HEAD,
    PNG_BANDS,
    check_pages,
    count_tiff_pages,
    kind_of,
    lacking,
    orientation_of,
    tiff_layout,
    tiff_pages,
    tiff_size,
)
from semiseg.data.images import (
    SIDEWAYS,
    TURNS,
    damaged,
    decoded,
    errors_named,
    image_size,
    open_file,
    opened,
    read_image,
)

_ORIENTATION, _PHOTOMETRIC, _GEO_KEYS, _NODATA = 274, 262, 34735, 42113  # TIFF tags; the last is GDAL's
_GREY_OR_RGB = (1, 2)  # of the photometric tag
_BANDS_AT = {"YX": None, "YXS": 2, "SYX": 0}  # axes of a page, as tifffile names them -> where its bands are
_GREY = ("1", "L", "LA")  # Pillow's modes
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")

Values = NDArray[Any]
"""(H, W, N) of a file's own type."""


@dataclass(frozen=True)
class Stored:
    """What the header of a picture says."""

    height: int  # pixels, upright
    width: int
    bands: int  # without alpha
    dtype: str  # as numpy calls it
    alpha: bool = False  # one more band is declared to be alpha
    nodata: float | None = None
    orientation: int = 1  # EXIF's
    plain: bool = False  # grey or RGB of 8 bits: `read_image` reads it
    is_tiff: bool = False
    georeferenced: bool = False  # a GeoTIFF
    converted: bool = False  # its colours are no RGB: `read_image` makes RGB of them

    def __str__(self) -> str:
        return f"{self.bands} band{'s' if self.bands > 1 else ''} of {self.dtype}"

    def count(self, asked: int | None) -> int:
        """Bands that are taken where `asked` are wanted: alpha is one where it is asked for."""
        return self.bands + (self.alpha and asked == self.bands + 1)


def look(path: Path | str) -> Stored:
    """What the header of the picture in `path` says.

    Raises ValueError, naming the file and the repair, for a file that cannot be read, for several pages, for more than
    16 bands, and for numbers of another kind.
    """
    with open_file(path) as file:
        return _look(file, path) or _plain(path)


def read_values(path: Path | str, content: bytes | None = None, asked: int | None = None) -> tuple[Values, Stored]:
    """The picture in `path`, upright, (H, W, N) of its own type, and what its header says.

    With `content` that is the picture, and `path` only its name. `asked`: as in `Stored.count`. Raises ValueError as
    `look` does, where the file is damaged, and where values are infinite.
    """
    with open_file(path) if content is None else BytesIO(content) as file:
        stored = _look(file, path)
        if stored is None or (stored.plain and stored.count(asked) == stored.bands):
            picture = decoded(path, content).picture
            values = np.asarray(picture.convert("L"))[..., None] if picture.mode in _GREY else read_image(path, content)
            nodata = None if stored is None else stored.nodata
            height, width, bands = values.shape
            return values, Stored(height, width, bands, "uint8", nodata=nodata, plain=True)
        with errors_named(path):
            file.seek(0)
            values = _of_tiff(file, path) if stored.is_tiff else _of_png(file, stored.bands)
            values = values[..., : stored.count(asked)]
            if stored.orientation in TURNS:
                values = _turned(values, stored.orientation)
    if values.dtype != stored.dtype:  # complex numbers, or bands of several kinds
        raise ValueError(f"{path} has numbers of {values.dtype}; expected {stored.dtype}. Save its bands as that")
    check_finite(values, stored.nodata, path)
    return np.ascontiguousarray(values), stored


def check_finite(values: Values, nodata: float | None, path: Path | str) -> None:
    """Raise ValueError for an infinite value that is not `nodata`; NaN says that there is no data."""
    if values.dtype.kind == "f" and np.isinf(values).any() and np.isinf(values[values != nodata]).any():
        raise ValueError(f"{path} has infinite values. Write NaN, or the file's nodata value, where it has no data")


@contextmanager
def with_rasterio(path: Path | str, content: bytes | None = None) -> Iterator[Any]:
    """The GeoTIFF in `path`, or `content` of that name, in rasterio. Raises ValueError where it is not installed."""
    try:
        import rasterio
    except ImportError:
        raise ValueError(
            f"{path} needs rasterio, for its georeference, its compression or its size: pip install semiseg[geo]"
        ) from None
    import warnings

    with errors_named(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # pyright: ignore
            where = Path(path).absolute() if content is None else rasterio.MemoryFile(content).name
            raster = rasterio.open(where, driver="GTiff")
        try:
            yield raster
        finally:
            raster.close()  # as a context it could be closed by the thread alone that opened it


def read_window(raster: Any, count: int, rows: tuple[int, int], columns: tuple[int, int]) -> Values:
    """The first `count` bands of a raster of `with_rasterio`, (h, w, count), from a row and column to another."""
    from rasterio import Env  # without which GDAL writes its errors to the screen

    with Env():
        return np.moveaxis(raster.read([*range(1, count + 1)], window=(rows, columns)), 0, -1)


def _look(file: IO[bytes], path: Path | str) -> Stored | None:
    """None for a picture of 8 bits in another format than TIFF."""
    with errors_named(path):
        head = file.read(HEAD)
        if kind_of(head) == "PNG" and head[24] == 16:
            bands, colours = PNG_BANDS[head[25]]
            file.seek(0)
            turn = orientation_of(Image.open(file, formats=("PNG",)))
            width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
            height, width = (width, height) if turn in SIDEWAYS else (height, width)
            return Stored(height, width, colours, "uint16", alpha=bands > colours, orientation=turn)
        if kind_of(head) != "TIFF":
            return None
        tags = next(tiff_pages(file))
        pages, lacks = count_tiff_pages(file), lacking(tags)
    check_pages(pages, path)
    if lacks is not None:
        raise damaged(path, lacks)
    return _of_tags(tags, path)


def _of_tags(tags: Mapping[int, Any], path: Path | str) -> Stored:
    layout = tiff_layout(tags)
    width, height = tiff_size(tags)
    turn = int(tags.get(_ORIENTATION, 1))
    kind = "float" if layout.floating else "int" if layout.signed else "uint"
    dtype, bands = f"{kind}{max(layout.bits, 8)}", layout.bands - layout.alpha
    plain = dtype == "uint8" and bands == layout.colours
    if dtype not in DTYPES or bands > MOST_BANDS or (layout.bits < 8 and not plain):
        raise ValueError(
            f"{path} has {bands} bands of {layout.bits} bits ({kind}); expected 1 to {MOST_BANDS} bands of "
            f"{', '.join(DTYPES)}. Save the bands you mean in one of these"
        )
    if layout.white_is_zero and not plain:
        raise ValueError(f"{path} says that 0 is white; save it with 0 as black (photometric MINISBLACK)")
    converted = plain and (int(tags.get(_PHOTOMETRIC, 1)) not in _GREY_OR_RGB or layout.bits < 8)
    bands = 3 if converted and layout.bits == 8 else bands
    nodata = None
    with suppress(ValueError):
        nodata = float(str(tags.get(_NODATA, "none")).strip("\0 "))
    height, width = (width, height) if turn in SIDEWAYS else (height, width)
    geo = _GEO_KEYS in tags
    facts = {"is_tiff": True, "georeferenced": geo, "converted": converted}
    return Stored(height, width, bands, dtype, layout.alpha, nodata, turn, plain, **facts)


def _plain(path: Path | str) -> Stored:
    height, width = image_size(Path(path))
    with opened(path) as (picture, _):
        return Stored(height, width, 1 if picture.mode in _GREY else 3, "uint8", plain=True)


def _of_tiff(file: IO[bytes], path: Path | str) -> Values:
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        place = _BANDS_AT.get(page.axes, -1)
        largest = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        if place == -1 or page.imagewidth * page.imagelength > largest:
            raise ValueError(f"its axes are {page.axes}, its shape {page.shape}; expected at most {largest:,} pixels")
        size = file.seek(0, 2)
        if any(at + count > size for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise ValueError("it is cut short")
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            values = None
    if values is None:  # outside, for the file is open twice
        with with_rasterio(path, file.getvalue() if isinstance(file, BytesIO) else None) as raster:
            return np.moveaxis(raster.read(), 0, -1)
    return values[..., None] if place is None else np.moveaxis(values, place, -1)


def _of_png(file: IO[bytes], bands: int) -> Values:
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode it")
    if values.ndim == 2:
        return values[..., None]
    order = [0, 3] if bands == 1 else [2, 1, 0, 3][: values.shape[2]]  # OpenCV has blue first, and grey three times
    return values[..., order]


def _turned(values: Values, orientation: int) -> Values:
    """EXIF's orientation undone."""
    if orientation in SIDEWAYS:
        values = values.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns]
