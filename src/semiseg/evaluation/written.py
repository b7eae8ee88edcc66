"""The files of one prediction: mask, overlay and confidence."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from semiseg.config.predicting import PredictOptions
from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, Pixels
from semiseg.data.decode_cache import file_key
from semiseg.data.rasters import Raster
from semiseg.evaluation.areas import count_objects, count_pixels
from semiseg.evaluation.overlay import draw_overlay_
from semiseg.evaluation.pictures import CONFIDENCE, MASKS, OVERLAYS
from semiseg.runtime.files import write_atomically
from semiseg.types import IGNORE

LONGEST_JPEG = 65_500  # pixels of a side that libjpeg takes
LARGEST_OVERLAY = 2**28  # pixels; Pillow opens no larger picture
_LEVEL = 1  # of zlib: masks are small at any, and a higher one would take longer than many a network
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]
_STRIP = 512  # rows at a time


class Writer:
    """Writes predictions into `out`, in the same way for each picture."""

    def __init__(
        self, out: Path, options: PredictOptions, colors: tuple[Color, ...], drawn: tuple[Color | None, ...]
    ) -> None:
        self.out, self.options, self.colors, self.drawn = out, options, colors, drawn

    def write(self, name: str, path: Path, picture: Raster, label: Pixels, confidence: Pixels) -> dict[str, Any]:
        """Write the files of a picture, the mask last, and return its record.

        label, confidence: (H, W) uint8; 0..255 stand for confidences 0..1. Both are changed where the picture has no
        data: to IGNORE, and to 0.
        """
        for rows, blank in picture.blanks():  # where there is nothing to predict
            label[rows][blank], confidence[rows][blank] = IGNORE, 0
        is_geo = picture.crs is not None
        ending = ".tif" if is_geo else ".png"
        if is_geo:
            write_geotiff(self.out / CONFIDENCE / f"{name}.tif", confidence, picture)
        else:
            _save(Image.fromarray(confidence), self.out / CONFIDENCE / f"{name}.png", compress_level=_LEVEL)
        if self.options.overlay != "none" and label.size <= LARGEST_OVERLAY:
            self._overlay(name, picture, label)
        if is_geo:
            write_geotiff(self.out / MASKS / f"{name}.tif", label, picture, self.colors)
        else:
            mask = Image.fromarray(label)
            # Turns the grey picture into one with a palette. Of a shorter one PNG would cut the indices to fewer bits.
            is_whole = len(self.colors) > label.max()
            mask.putpalette(bytes(np.array(self.colors, np.uint8)).ljust(0 if is_whole else 3 * 256, b"\0"))
            _save(mask, self.out / MASKS / f"{name}.png", compress_level=_LEVEL)
        classes, smallest = len(self.colors), self.options.smallest
        return {
            "name": name,
            "file": file_key(path),
            "mask": f"{MASKS}/{name}{ending}",
            "pixels": count_pixels(label, classes),
            "m2": square_metres(picture),
            "objects": count_objects(label, classes, smallest) if self.options.objects else None,
        }

    def _overlay(self, name: str, picture: Raster, label: Pixels) -> None:
        tint = self.options.opacity if self.options.overlay == "tint" else 0.0
        photo = as_photograph(picture.read())  # which nobody reads after this
        photo = photo if photo.flags.writeable else photo.copy()
        draw_overlay_(photo, label, self.drawn, tint=tint)
        # Pillow would take four bytes a pixel more.
        is_short = max(label.shape) <= LONGEST_JPEG
        ending, how = (".jpg", _QUALITY) if is_short else (".png", [cv2.IMWRITE_PNG_COMPRESSION, _LEVEL])
        _, encoded = cv2.imencode(ending, photo, how)
        write_atomically(self.out / OVERLAYS / f"{name}{ending}", lambda file: file.write(encoded.tobytes()))


def square_metres(picture: Raster) -> float | None:
    """The area of a pixel on the ground; None where it is not the same everywhere, or not known."""
    if picture.crs is None or not picture.crs.is_projected:
        return None
    metres = float(picture.crs.linear_units_factor[1])
    return abs(picture.transform.determinant) * metres**2


def write_geotiff(path: Path, values: Pixels, picture: Raster, colors: tuple[Color, ...] | None = None) -> None:
    """Write (H, W) uint8 as a tiled GeoTIFF in the place of `picture`, strip by strip; with `colors`, as a mask."""
    import rasterio  # of the extra [geo], which whatever has a georeference was read by
    from rasterio.windows import Window

    height, width = values.shape
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8", "crs": picture.crs,
        "transform": picture.transform, "tiled": True, "compress": "deflate", "zlevel": _LEVEL, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if colors is not None:
        profile["nodata"] = IGNORE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.tif")
    try:
        with rasterio.open(temporary, "w", **profile) as file:
            for top in range(0, height, _STRIP):
                rows = min(_STRIP, height - top)
                file.write(values[top : top + rows], 1, window=Window(0, top, width, rows))  # pyright: ignore
            if colors is not None:
                file.write_colormap(1, {number: (*color, 255) for number, color in enumerate(colors)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save(picture: Image.Image, path: Path, **options: int) -> None:
    """In memory first: a decoder that writes into a file itself hides why the disk does not take it."""
    encoded = BytesIO()
    picture.save(encoded, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    _save(picture, path)
