"""Colours that tell classes apart in a picture, and the legend that names them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semiseg.data.dataset import Color, Pixels

BACKGROUND = ("background", "_background_", "bg")
"""Names under which class 0 is left as the photograph shows it."""

_APART = 25.0  # distance in CIELAB below which two colours look alike
_DARK = 20.0  # lightness in CIELAB, 0 to 100, of colours that a tint would only darken the picture with
_ROWS, _ROW, _SWATCH = 24, 26, 18  # entries below one another, pixels of an entry and of its colour


def colored(label: Pixels, colors: tuple[Color, ...]) -> Pixels:
    """Class indices (H, W) in their colours, (H, W, 3) uint8; what is no class (IGNORE) is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table[label]


def draw_colors(classes: tuple[str, ...], colors: tuple[Color, ...]) -> tuple[Color | None, ...]:
    """The colour that each class is drawn in; None for a background, which is not drawn.

    A class keeps its own colour unless that is nearly black, or looks like the colour of a class before it. Such a
    class gets the colour that is farthest from all others.
    """
    drawn: list[Color | None] = [None] * len(classes)
    free = []
    taken = [(0.0, 0.0, 0.0)]  # black, in CIELAB
    own = lab(np.array(colors, np.uint8).reshape(-1, 3))
    for number, color in enumerate(colors):
        if number == 0 and classes[0].lower() in BACKGROUND:
            continue
        if own[number, 0] >= _DARK and min(math.dist(own[number], other) for other in taken) >= _APART:
            drawn[number] = color
            taken.append(tuple(own[number].tolist()))
        else:
            free.append(number)
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    places = lab(grid)
    is_medium = (places[:, 0] > 35) & (places[:, 0] < 95)
    grid, places = grid[is_medium], places[is_medium]
    nearest = np.min([np.linalg.norm(places - np.array(other), axis=1) for other in taken], 0)
    for number in free:
        best = int(nearest.argmax())
        red, green, blue = grid[best].tolist()
        drawn[number] = (red, green, blue)
        nearest = np.minimum(nearest, np.linalg.norm(places - places[best], axis=1))
    return tuple(drawn)


def lab(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB (N, 3) uint8 in CIELAB, (N, 3): lightness 0 to 100, a and b."""
    scaled = (colors[None] / 255).astype(np.float32)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0], np.float32)


def draw_legend(classes: tuple[str, ...], drawn: tuple[Color | None, ...]) -> Image.Image:
    """A picture of the classes' names, each beside its colour; the colour of what is not drawn is an empty frame."""
    font = ImageFont.load_default(15)
    names = [name if color is not None else f"{name} (not drawn)" for name, color in zip(classes, drawn, strict=True)]
    widths = [
        max(math.ceil(font.getlength(name)) for name in names[first : first + _ROWS]) + _ROW + 24
        for first in range(0, len(names), _ROWS)
    ]
    picture = Image.new("RGB", (sum(widths) + 12, min(len(names), _ROWS) * _ROW + 16), "white")
    draw = ImageDraw.Draw(picture)
    for number, (name, color) in enumerate(zip(names, drawn, strict=True)):
        left, top = 12 + sum(widths[: number // _ROWS]), 8 + number % _ROWS * _ROW
        draw.rectangle((left, top + 4, left + _SWATCH, top + 4 + _SWATCH), color or "white", outline=(90, 90, 90))
        draw.text((left + _ROW, top + 4), name, "black", font)
    return picture
