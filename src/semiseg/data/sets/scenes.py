"""Drawn scenes, the dataset that needs no files: six classes whose looks the labelled scenes show only in part.

Every class has LOOKS looks in a row. From one look to the next the hue moves on, the pattern fades over and the shape
shifts a little, so that neighbours resemble each other while the two ends do not, and the last look of one class comes
near the first look of another in colour. Labelled scenes show the first two looks, mostly the first; unlabelled and
validation scenes show all of them equally, often two side by side. Labels can thus spread from look to look through the
unlabelled scenes, and a classifier that knows one prototype per class is at a loss: the situation of the paper.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from semiseg.config.options import DataOptions, SceneOptions
from semiseg.data.dataset import Color, Dataset, ImageSet, Pixels, split_record
from semiseg.data.sets.drawing import SHAPES, Canvas, Plane, blank, cover_of, line

CLASSES = ("ground", "track", "disc", "ring", "box", "star")
COLORS = ((74, 84, 70), (150, 150, 160), (222, 74, 64), (164, 92, 214), (112, 204, 92), (64, 168, 214))
LOOKS = 4
SHARES = {"labeled": (0.8, 0.2, 0.0, 0.0)}
"""How often a list shows each look; the lists not named here show all equally."""

_LISTS = ("labeled", "unlabeled", "val")  # their numbers seed the drawing
_CACHED = 512  # scenes; about 80 kB each at the default size

_TONES: dict[str, tuple[Color, ...]] = {  # one per look; what lies between two looks has a colour between theirs
    "ground": ((96, 124, 66), (142, 142, 84), (188, 162, 116), (160, 112, 88)),  # meadow, dry grass, sand, clay
    "track": ((88, 90, 98), (126, 120, 118), (152, 128, 104), (186, 160, 124)),  # asphalt, gravel, dirt, planks
    "disc": ((206, 52, 58), (220, 98, 50), (230, 152, 54), (222, 196, 78)),  # red to yellow
    "box": ((178, 206, 76), (92, 182, 88), (56, 160, 124), (58, 146, 158)),  # lime to teal
    "star": ((92, 196, 222), (74, 144, 220), (74, 96, 208), (110, 88, 204)),  # cyan to indigo
    "ring": ((150, 96, 206), (190, 84, 184), (220, 92, 146), (214, 100, 106)),  # violet to rose
}


@dataclass(frozen=True)
class Scene:
    """A drawn scene and what is in it."""

    image: Pixels  # (H, W, 3) uint8, RGB
    mask: Pixels  # (H, W) uint8, 0..C-1
    looks: tuple[tuple[int, int], ...]  # (class, look) of everything drawn, from the back to the front


class Scenes(ImageSet):
    """One list of scenes. Scene i is a function of the scene options, the list's name and i."""

    def __init__(self, name: str, count: int, options: SceneOptions) -> None:
        self.name = name
        self.names = [f"{name}-{index:04d}" for index in range(count)]
        self.has_masks = name != "unlabeled"
        self.options = options

    def image(self, index: int) -> Pixels:  # read-only
        return self.scene(index).image

    def mask(self, index: int) -> Pixels:
        """Read-only. Unlabelled scenes have a mask too, to measure by; nothing learns from it."""
        return self.scene(index).mask

    def scene(self, index: int) -> Scene:
        """Scene `index` with its looks."""
        return draw_scene(self.options, self.name, index)


def open_scenes(options: DataOptions) -> Dataset:
    """The drawn dataset of `options.scenes`."""
    counts = {name: getattr(options.scenes, name) for name in _LISTS}
    labeled, unlabeled, val = sets = [Scenes(name, count, options.scenes) for name, count in counts.items()]
    split = {images.name: split_record(images, f"scenes, seed {options.scenes.seed}") for images in sets}
    return Dataset(CLASSES, COLORS, labeled, unlabeled, val, None, split, hidden=unlabeled)


@lru_cache(maxsize=_CACHED)
def draw_scene(options: SceneOptions, name: str, index: int) -> Scene:
    """Draw scene `index` of list `name`: ground, perhaps a track, three to six objects, light and noise."""
    rng = np.random.default_rng([options.seed, _LISTS.index(name), index])
    shares = SHARES.get(name, (1 / LOOKS,) * LOOKS)
    canvas = blank((options.height, options.width), rng)
    _draw_ground(canvas, shares)
    if rng.random() < 0.7:
        _draw_track(canvas, _draw_look(shares, rng))
    kinds = list(SHAPES)
    first = kinds[index % len(kinds)]  # so that a handful of scenes has every class
    look = _draw_look(shares, rng)
    _draw_object(canvas, first, look)
    if rng.random() < 0.6:
        _draw_object(canvas, first, _neighbour(look, shares, rng))
    for kind in rng.choice(kinds, size=rng.integers(2, 5)):
        _draw_object(canvas, str(kind), _draw_look(shares, rng))
    # The scene under its light, with the camera's noise.
    light = 1 + 0.45 * canvas.ramp(canvas.light + math.pi) + 0.04 * canvas.clouds(40)
    tint = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    noise = rng.standard_normal(canvas.picture.shape, np.float32) * 0.025
    image = np.clip((canvas.picture * light[..., None] * tint + noise) * 255, 0, 255).astype(np.uint8)
    for array in (image, canvas.mask):
        array.setflags(write=False)  # the cache hands the same arrays to everybody
    return Scene(image, canvas.mask, tuple(canvas.looks))


def _draw_look(shares: tuple[float, ...], rng: Generator) -> int:
    return int(rng.choice(LOOKS, p=shares))


def _neighbour(look: int, shares: tuple[float, ...], rng: Generator) -> int:
    """A look beside `look` that the list shows."""
    return int(rng.choice([near for near in (look - 1, look + 1) if 0 <= near < LOOKS and shares[near] > 0]))


def _place(look: int, rng: Generator) -> float:
    """Where in the row of looks a drawn thing lies: looks are ranges that nearly touch, not points."""
    return look + rng.uniform(-0.4, 0.4)


def _tone(name: str, place: float) -> Plane:
    """The colour of a class at `place` in its row of looks, (3,)."""
    channels = np.array(_TONES[name], np.float32).T / 255
    return np.array([np.interp(place, range(LOOKS), channel) for channel in channels], np.float32)


def _draw_ground(canvas: Canvas, shares: tuple[float, ...]) -> None:
    """One look all over, or two that meet along a winding border; lumps, grain and fallen leaves."""
    rng = canvas.rng
    look = _draw_look(shares, rng)
    ground, everywhere = CLASSES.index("ground"), np.ones(canvas.mask.shape, np.float32)
    canvas.paint(ground, look, everywhere, _tone("ground", _place(look, rng)))
    if rng.random() < 0.5:
        other = _neighbour(look, shares, rng)
        border = 4 * canvas.ramp(rng.uniform(0, 2 * math.pi)) + 0.6 * canvas.clouds(24)
        canvas.paint(ground, other, np.clip(3 * border, 0, 1), _tone("ground", _place(other, rng)))
    lumps = 0.07 * canvas.clouds(14) + 0.06 * canvas.clouds(3)
    np.multiply(canvas.picture, 1 + lumps[..., None], out=canvas.picture)
    height, width = canvas.mask.shape
    for _ in range(rng.integers(6, 16)):  # leaves, small and coloured: a bright colour alone makes no object
        center = (rng.uniform(0, width), rng.uniform(0, height))
        color = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.2, 0.6), rng.uniform(0.5, 0.85))
        axes = (rng.uniform(2.4, 4.8) * canvas.unit, rng.uniform(1.4, 2.6) * canvas.unit)
        cv2.ellipse(canvas.picture, (center, axes, rng.uniform(0, 360)), color, -1)


def _draw_track(canvas: Canvas, look: int) -> None:
    """A winding way across the picture with darker edges and a dashed line that fades from look to look."""
    rng, place = canvas.rng, _place(look, canvas.rng)
    points = _path(canvas)
    breadth = rng.uniform(15, 19) * canvas.unit * (1 - 0.06 * place)
    whole, inner, dashes = canvas.stencil(), canvas.stencil(), canvas.stencil()
    line(whole, points, breadth)
    line(inner, points, breadth - 3.5 * canvas.unit)
    for first in range(0, len(points) - 3, 6):
        line(dashes, points[first : first + 4], 1.6 * canvas.unit)
    light = (1 + 0.05 * canvas.clouds(2)) * (0.72 + 0.28 * cover_of(inner))
    paint = cover_of(dashes) * 0.3 * max(0.0, min(1.0, 1.2 - 0.4 * place))
    color = _tone("track", place) * light[..., None] + paint[..., None]
    canvas.paint(CLASSES.index("track"), look, cover_of(whole), color)


def _path(canvas: Canvas) -> Plane:
    """Points (n, 2), x and y, of a bent way from edge to edge."""
    rng, (height, width) = canvas.rng, canvas.mask.shape
    t = np.linspace(-0.1, 1.1, 60)
    start, end, bend = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(-0.25, 0.25)
    across = start + (end - start) * t + bend * np.sin(np.pi * t * rng.uniform(1, 2))
    return np.stack([t * width, across * height] if rng.random() < 0.6 else [across * width, t * height], 1)


def _draw_object(whole: Canvas, name: str, look: int) -> None:
    """One disc, ring, box or star with its shadow, its pattern, a darker rim and light from one side."""
    rng, place = whole.rng, _place(look, whole.rng)
    radius, angle = rng.uniform(13, 24) * whole.unit, rng.uniform(0, 2 * math.pi)
    height, width = whole.mask.shape
    center = (rng.uniform(0.08, 0.92) * width, rng.uniform(0.08, 0.92) * height)
    canvas = whole.around(center, 1.2 * radius + 10 * whole.unit)  # room for the shadow
    dx, dy = (canvas.x - center[0]) / radius, (canvas.y - center[1]) / radius

    stencil = canvas.stencil()
    SHAPES[name](stencil, np.array(center) - (canvas.x[0, 0], canvas.y[0, 0]), radius, angle, place)
    cover = cover_of(stencil)
    canvas.shade(cover, 0.45, 4.5)
    rim = cv2.GaussianBlur(cover, (0, 0), 1.3 * canvas.unit) ** 2
    facing = np.clip(dx * math.cos(canvas.light) + dy * math.sin(canvas.light), -1, 1)
    light = (1 + _pattern(name, dx, dy, angle, place)) * (1 - 0.16 * facing) * (0.4 + 0.6 * rim)
    tone = _tone(name, place) * rng.uniform(0.9, 1.08) + rng.uniform(-0.02, 0.02, 3).astype(np.float32)
    canvas.paint(CLASSES.index(name), look, cover, tone * light[..., None])


def _pattern(name: str, dx: Plane, dy: Plane, angle: float, place: float) -> Plane:
    """Brightness added by the pattern, (H, W): stripes on a box; else specks, which waves replace in the last looks.

    dx and dy are measured from the middle, in radii.
    """
    u, v = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    if name == "box":
        return 0.15 * np.tanh(4 * np.sin((7 + 1.5 * place) * u))
    fade = max(0.0, min(1.0, (place - 0.5) / 2))
    specks = np.sin(9 * u) * np.sin(9 * v) > 0.45
    return 0.16 * fade * np.sin(8 * np.hypot(u, v) + 0.5) - 0.22 * (1 - fade) * specks
