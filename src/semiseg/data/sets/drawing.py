"""What drawn scenes are painted with: a canvas that holds a picture with its mask, and shapes with soft edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from semiseg.data.dataset import Pixels

Plane = NDArray[np.floating]  # (H, W), or (H, W, 3) for a picture; 0..1
Point = tuple[float, float]  # x, y

_SIDE = 128  # pixels: the shorter side of the picture that all lengths are meant for
_SHIFT = 4  # cv2 takes corners in 1/16 pixel


@dataclass(frozen=True)
class Canvas:
    """A picture and its mask while they are painted, or a rectangle of them that shares their memory."""

    picture: Plane  # (H, W, 3)
    mask: Pixels
    x: Plane  # of each pixel in the whole picture
    y: Plane
    unit: float  # the picture's size over the size that lengths are meant for
    light: float  # radians: where the light comes from
    looks: list[tuple[int, int]]  # (class, look) of what has been painted
    rng: Generator

    def around(self, center: Point, reach: float) -> Canvas:
        """The square of `reach` pixels to all sides of `center`, as far as it lies in the picture."""
        columns, rows = (slice(max(0, int(middle - reach)), int(middle + reach) + 2) for middle in center)
        fields = {name: getattr(self, name)[rows, columns] for name in ("picture", "mask", "x", "y")}
        return replace(self, **fields)

    def paint(self, index: int, look: int, cover: Plane, color: Plane) -> None:
        """Lay `color` (H, W, 3) or (3,) where `cover` (H, W) is 1, class `index` in its `look` where above 1/2."""
        np.add(self.picture, cover[..., None] * (color - self.picture), out=self.picture)
        self.mask[cover > 0.5] = index
        self.looks.append((index, look))

    def shade(self, cover: Plane, strength: float, distance: float) -> None:
        """Darken what lies beside `cover`, away from the light."""
        step = distance * self.unit
        move = np.array([[1, 0, -math.cos(self.light) * step], [0, 1, -math.sin(self.light) * step]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(cover, move, cover.shape[::-1]), (0, 0), 1.6 * self.unit)
        np.multiply(self.picture, 1 - strength * shadow[..., None], out=self.picture)

    def ramp(self, angle: float) -> Plane:
        """-1/2..1/2 along `angle` across the picture, (H, W)."""
        along = self.x * math.cos(angle) + self.y * math.sin(angle)
        return (along - along.mean()) / np.ptp(along)

    def clouds(self, grain: float) -> Plane:
        """Smooth noise with lumps of about `grain` pixels, mean 0 and deviation 1, (H, W)."""
        height, width = (max(2, int(side / (grain * self.unit))) for side in self.mask.shape)
        lumps = self.rng.standard_normal((height, width), np.float32)
        smooth = cv2.resize(lumps, self.mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return (smooth - smooth.mean()) / (smooth.std() + 1e-6)

    def stencil(self) -> Pixels:
        """An empty plane to draw a shape on with cv2."""
        return np.zeros(self.mask.shape, np.uint8)


def blank(size: tuple[int, int], rng: Generator) -> Canvas:
    """An empty canvas of (height, width) pixels, with its light from anywhere."""
    y, x = np.indices(size, np.float32)
    picture, mask, light = np.zeros((*size, 3), np.float32), np.zeros(size, np.uint8), rng.uniform(0, 2 * math.pi)
    return Canvas(picture, mask, x, y, unit=min(size) / _SIDE, light=light, looks=[], rng=rng)


def _disc(stencil: Pixels, center: Plane, radius: float, angle: float, place: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    _fill(stencil, center, angle, radius * np.stack([np.cos(turn), (1 - 0.1 * place) * np.sin(turn)], 1))


def _ring(stencil: Pixels, center: Plane, radius: float, angle: float, place: float) -> None:
    turn = angle + np.linspace(0, 2 * np.pi, 49)
    line(stencil, center + 0.74 * radius * np.stack([np.cos(turn), np.sin(turn)], 1), radius * (0.5 - 0.05 * place))


def _box(stencil: Pixels, center: Plane, radius: float, angle: float, place: float) -> None:
    short = 0.62 + 0.09 * place
    _fill(stencil, center, angle, radius * np.array([[-1, -short], [1, -short], [1, short], [-1, short]]))


def _star(stencil: Pixels, center: Plane, radius: float, angle: float, place: float) -> None:
    spikes = 4 + max(0, round(place))
    turn = np.linspace(0, 2 * np.pi, 2 * spikes, endpoint=False)
    reach = 1.15 * radius * np.where(np.arange(2 * spikes) % 2, 0.48, 1.0)
    _fill(stencil, center, angle, reach[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1))


Draw = Callable[[Pixels, Plane, float, float, float], None]
SHAPES: dict[str, Draw] = {"disc": _disc, "ring": _ring, "box": _box, "star": _star}


def _fill(stencil: Pixels, center: Plane, angle: float, corners: Plane) -> None:
    """Fill a polygon given by its corners (n, 2) about `center`, turned by `angle`, with soft edges."""
    cos, sin = math.cos(angle), math.sin(angle)
    points = center + corners @ np.array([[cos, sin], [-sin, cos]])
    cv2.fillPoly(stencil, [_fixed(points)], 255, cv2.LINE_AA, _SHIFT)


def line(stencil: Pixels, points: Plane, breadth: float) -> None:
    """Stroke the points (n, 2) `breadth` pixels wide."""
    cv2.polylines(stencil, [_fixed(points)], False, 255, max(1, round(breadth)), cv2.LINE_AA, _SHIFT)


def _fixed(points: Plane) -> NDArray[np.int32]:
    return np.round(points * 2**_SHIFT).astype(np.int32)


def cover_of(stencil: Pixels) -> Plane:
    """How much of each pixel the stencil covers, 0..1."""
    return stencil.astype(np.float32) / 255
