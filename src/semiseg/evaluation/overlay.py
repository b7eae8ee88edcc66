"""Classes laid over a photograph, strip by strip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semiseg.data.dataset import Color, Pixels

_STRIP = 512  # rows at a time
_FINE = 600  # an outline is a pixel wide for so many of the longer side


def draw_overlay(
    read: Callable[[int, int], NDArray[Any]],
    label: Pixels,
    colors: tuple[Color | None, ...],
    *,
    tint: float,
) -> Image.Image:
    """The photograph with the classes `label` (H, W) over it, at its own size.

    `read(top, rows)` gives rows of the photograph: (h, W, 3) uint8, or (h, W, N) in [0, 1], of which the first three
    bands are shown. Each class has an outline of its colour, on its own side of the border, and is tinted by `tint`,
    0 to 1. What has no colour, or no class, is left as it is.
    """
    height, width = label.shape
    thick = max(1, round(max(height, width) / _FINE))
    kernel = np.ones((2 * thick + 1, 2 * thick + 1), np.uint8)
    table, opaque = np.zeros((1, 256, 3), np.uint8), np.zeros((1, 256), np.uint8)
    for number, color in enumerate(colors):
        table[0, number], opaque[0, number] = color or (0, 0, 0), color is not None
    picture = Image.new("RGB", (width, height))
    for top in range(0, height, _STRIP):
        bottom, first = min(top + _STRIP, height), max(top - thick, 0)
        around = np.ascontiguousarray(label[first : bottom + thick])
        inside = slice(top - first, bottom - first)
        border = (cv2.dilate(around, kernel) != cv2.erode(around, kernel))[inside]
        strip = around[inside]
        photo = shown(read(top, bottom - top))
        painted = cv2.LUT(cv2.cvtColor(strip, cv2.COLOR_GRAY2RGB), table)
        drawn = cv2.LUT(strip, opaque) > 0
        if tint:
            mixed = cv2.addWeighted(photo, 1 - tint, painted, tint, 0)
            photo = np.where(drawn[..., None], mixed, photo) if not drawn.all() else mixed
        else:
            photo = photo.copy()
        edge = border & drawn
        photo[edge] = painted[edge]
        picture.paste(Image.fromarray(photo), (0, top))
    return picture


def shown(pixels: NDArray[Any]) -> Pixels:
    """Rows (h, W, N) of any bands as RGB to look at, (h, W, 3) uint8."""
    if pixels.shape[2] < 3:
        pixels = pixels[..., :1].repeat(3, -1)
    pixels = pixels[..., :3]
    if pixels.dtype == np.uint8:
        return pixels
    return (255 * np.nan_to_num(pixels).clip(0, 1)).round().astype(np.uint8)
