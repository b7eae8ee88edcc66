"""Classes drawn over a photograph of a report, so that both are seen: a light tint, outlines, and colours that differ.

`evaluation.overlay` draws the large overlays that predict writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from semiseg.data.dataset import Color, Pixels
from semiseg.evaluation.colors import lab
from semiseg.types import IGNORE

TINT = 0.28  # of a class's colour over the photograph
APART = 22.0  # least distance of two colours in CIE Lab that are told apart at a glance
BRIGHT = 150  # least value of a colour's largest channel that shows on a dark photograph
BACKGROUNDS = ("background", "void", "nothing", "other")
"""Names of classes that are left as the photograph shows them."""


def over(photograph: Pixels, label: Pixels, colors: Sequence[Color], bare: frozenset[int] = frozenset()) -> Pixels:
    """`photograph` (H, W, 3) with its classes (H, W) as tint and outline; ignored pixels and `bare` classes as is."""
    table = np.zeros((256, 3), np.float32)
    table[: len(colors)] = colors
    plain = np.isin(label, [*bare, IGNORE])
    paint = table[label]
    tinted = photograph + TINT * (paint - photograph)
    width = 1 + max(label.shape) // 400
    edge = outline(label, width) & ~plain
    shadow = outline(label, width + 1) & ~edge
    drawn = np.where(plain[..., None], photograph, tinted)
    drawn = np.where(shadow[..., None], 0.6 * drawn, drawn)  # a dark hem: bright outlines show on bright pictures too
    return np.where(edge[..., None], paint, drawn).round().astype(np.uint8)


def outline(label: Pixels, width: int) -> np.ndarray:
    """Pixels (H, W) bool within `width` of one of another class."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(label, kernel) != cv2.dilate(label, kernel)


def background_of(classes: Sequence[str], binary: bool) -> frozenset[int]:
    """Indices of the classes that an overlay leaves bare: class 0 of two, and what is called a background."""
    named = {at for at, name in enumerate(classes) if name.strip().lower() in BACKGROUNDS}
    return frozenset(named | ({0} if binary or len(classes) == 2 else set()))


def overlay_colors(colors: Sequence[Color]) -> tuple[Color, ...]:
    """`colors`, if all are bright and told apart at a glance; otherwise as many that are, as far as there can be."""
    places = lab(np.array(colors, np.uint8))  # (C, 3)
    between = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e3 * np.eye(len(places))
    good = between.min() >= APART and np.max(colors, axis=1).min() >= BRIGHT
    return tuple(colors) if good else distinct_colors(len(colors))


@cache
def distinct_colors(count: int) -> tuple[Color, ...]:
    """`count` bright colours, each as far from black, grey, white and those before it as there is room."""
    hues = range(0, 180, 6)
    hsv = np.array([(hue, full, value) for value in (255, 190) for full in (255, 150) for hue in hues], np.uint8)
    candidates = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]  # (N, 3)
    greys = np.repeat(np.array([0, 70, 128, 190, 255], np.uint8)[:, None], 3, 1)
    places, taken = lab(candidates), lab(greys)
    found: list[Color] = []
    for _ in range(min(count, len(candidates))):
        near = np.linalg.norm(places[:, None] - taken[None], axis=-1).min(1)
        at = int(near.argmax())
        red, green, blue = candidates[at].tolist()
        found.append((red, green, blue))
        taken = np.concatenate([taken, places[at : at + 1]])
    return tuple((found * (count // max(len(found), 1) + 1))[:count])
