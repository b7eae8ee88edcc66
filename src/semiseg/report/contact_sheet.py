"""A look at the masks: each tinted over its photograph, chosen so that every class is shown, with a legend."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semiseg.data import open_dataset
from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, Dataset, ImageSet, Pixels
from semiseg.data.doctor.examination import Examination
from semiseg.report.sheet import GAP, legend, strip
from semiseg.runtime.files import write_atomically
from semiseg.runtime.screen import without_warnings
from semiseg.types import IGNORE

MOST = 24
"""Pictures on a sheet."""
_READ = 200  # masks that are read to choose from
_COLUMNS, _WIDTH, _HEIGHT, _TEXT = 4, 300, 225, 13  # of the sheet's cells, pixels
_TINT = 0.45  # opacity of a mask
_DISTINCT: tuple[Color, ...] = (
    (230, 25, 75), (60, 180, 75), (0, 130, 255), (255, 225, 25), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (170, 110, 40), (0, 128, 128), (188, 246, 12), (250, 190, 212), (128, 0, 0), (0, 0, 160),
    (128, 128, 0), (170, 255, 195), (220, 190, 255), (255, 255, 255), (90, 90, 90), (255, 160, 122),
)  # fmt: skip
_BACKGROUND = ("background", "bg", "void", "other", "none", "class_0")
"""Names of a first class that is left untinted."""


def contact_sheet(found: Examination, most: int = MOST) -> bytes:
    """The PNG of a sheet with at most `most` of the examined folder's masks over their photographs.

    Every class is on it if so many pictures can show all. Raises ValueError where the folder cannot be read.
    """
    with without_warnings("semiseg.data"):
        dataset = open_dataset(found.options, need_unlabeled=False)
    chosen = _chosen(dataset, most)
    colors = sheet_colors(dataset.classes)
    cells = [
        (_over(as_photograph(images.image(place)), images.mask(place), colors), images, place)
        for images, place in chosen
    ]
    width = _COLUMNS * (_WIDTH + GAP) - GAP
    pairs = zip(dataset.classes, colors, strict=True)
    named = [name if any(color) else f"{name} (not tinted)" for name, color in pairs]
    strips = [legend([*zip(named, colors, strict=True)], width, 15), np.full((8, width, 3), 255, np.uint8)]
    for first in range(0, len(cells), _COLUMNS):
        row = cells[first : first + _COLUMNS]
        empty = [np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)] * (_COLUMNS - len(row))
        pictures = [cell for cell, _, _ in row] + empty
        texts = [f"{images.names[place]} ({_WORDS[images.name]})" for _, images, place in row] + [""] * len(empty)
        gap = np.full((_HEIGHT, GAP, 3), 255, np.uint8)
        strips.append(np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=1))
        strips.append(strip(texts, _WIDTH, _TEXT))
    sheet = np.pad(np.concatenate(strips), ((12, 8), (12, 12), (0, 0)), constant_values=255)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()


_WORDS = {"labeled": "trains", "val": "validates", "test": "tests"}


def write_contact_sheet(found: Examination, out: Path) -> Path:
    """Write `contact_sheet` to the file `out`; returns it."""
    content = contact_sheet(found)
    write_atomically(out, lambda file: file.write(content))
    return out


def sheet_colors(classes: Sequence[str]) -> tuple[Color, ...]:
    """A colour for each class, unlike the others'; a background's is black, and means no tint."""
    names = [name.lower() for name in classes]
    first = names[0] in _BACKGROUND
    count = len(names) - first
    further = [_hue(index, count - len(_DISTINCT)) for index in range(count - len(_DISTINCT))]
    return (*([(0, 0, 0)] if first else []), *[*_DISTINCT, *further][:count])


def _hue(index: int, count: int) -> Color:
    """Colour `index` of `count` around the circle, at one of three brightnesses."""
    hsv = np.array([[[180 * index / count, 255 - 70 * (index % 2), 255 - 60 * (index % 3)]]]).astype(np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _chosen(dataset: Dataset, most: int) -> list[tuple[ImageSet, int]]:
    """Images with masks, in order: picked one by one, each shows the most classes that are not yet shown twice."""
    sets = [images for images in (dataset.val, dataset.test, dataset.labeled) if images is not None]
    pool = []
    for images in sets:
        places = np.linspace(0, len(images) - 1, min(len(images), _READ // len(sets))).round().astype(int)
        pool += [(images, place) for place in sorted({*places.tolist()})]
    shows = [frozenset(np.unique(images.mask(place)).tolist()) - {IGNORE} for images, place in pool]
    counts = dict.fromkeys(frozenset().union(*shows), 0)
    chosen: list[int] = []
    rest = list(range(len(pool)))
    while rest and len(chosen) < most:
        gains = [sum(counts[value] < 2 for value in shows[index]) for index in rest]
        best = rest.pop(int(np.argmax(gains)))
        counts |= {value: counts[value] + 1 for value in shows[best]}
        chosen.append(best)
    return [pool[index] for index in sorted(chosen)]


def _over(image: Pixels, mask: Pixels, colors: Sequence[Color]) -> Pixels:
    """The photograph (H, W, 3) with its mask (H, W) tinted and outlined over it, fitted into a cell."""
    factor = min(_WIDTH / mask.shape[1], _HEIGHT / mask.shape[0])
    size = (max(1, round(mask.shape[1] * factor)), max(1, round(mask.shape[0] * factor)))
    shrinks = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    photograph = cv2.resize(image, size, interpolation=shrinks).astype(np.float32)
    label = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    table = np.zeros((256, 3), np.float32)
    table[: len(colors)] = colors
    tinted: NDArray[np.bool_] = np.any(table > 0, axis=1)  # (256,), not the background
    opacity = np.where(tinted[label], _TINT, 0)[..., None]
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    opacity = np.where((edge & tinted[label])[..., None], 0.9, opacity)
    made = ((1 - opacity) * photograph + opacity * table[label]).round().astype(np.uint8)
    cell = np.full((_HEIGHT, _WIDTH, 3), 238, np.uint8)
    top, left = (_HEIGHT - size[1]) // 2, (_WIDTH - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = made
    return cell
