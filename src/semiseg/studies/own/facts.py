"""What a plan reads of the data: sizes of the pictures, sizes of the objects, classes by mask, and an up or none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np

from semiseg.types import IGNORE

if TYPE_CHECKING:
    from semiseg.data.dataset import Dataset, Pixels
    from semiseg.data.doctor.examination import Examination

MOST_MASKS = 100  # that are looked at for statistics; where folds are made of them, all are
SPECK = 16  # pixels; smaller components of a class are slips of the pen, and no objects
MICROSCOPE = frozenset(
    [
        *("nuclei", "nucleus", "cell", "cells", "cellular", "microscopy", "microscope", "histology", "histopathology"),
        *("tissue", "stain", "stained", "organoid", "organoids", "mitochondria", "neurons", "bacteria", "bbbc"),
    ]
)
ABOVE = frozenset(
    [
        *("aerial", "satellite", "sentinel", "landsat", "orthophoto", "orthophotos", "ortho", "orthoimage", "naip"),
        *("landcover", "planetscope", "worldview"),
    ]
)
"""Words of names of pictures that have no up."""


@dataclass(frozen=True)
class Facts:
    """The data, as a plan needs to know them. Lengths are in pixels of the files."""

    name: str
    """Of the folder."""
    height: int
    """The median picture's."""
    width: int
    classes: tuple[str, ...]
    masks: tuple[str, ...]
    """Ids of the labelled and the validation images."""
    val: tuple[str, ...]
    """Ids of the images that validate, as the split has them."""
    val_named: bool = False
    """Whether the user chose them."""
    unlabeled: int = 0
    shares: tuple[float, ...] = ()
    """Of the labelled pixels, by class."""
    object_side: float | None = None
    """Side of a square as large as the median object of the class with the smallest; None: none was measured."""
    up_down: float = 0.0
    """How far the classes of the upper half differ from the lower half's: 0 alike, 1 wholly."""
    words: frozenset[str] = frozenset()
    """Of the names of folder and classes, lower case."""
    present: dict[str, frozenset[int]] = field(default_factory=dict)
    """Id -> the classes in its mask, of the masks that were looked at."""


def facts_of(found: Examination, dataset: Dataset, every_mask: bool = False) -> Facts:
    """The facts of an examined folder, which `dataset` is, its pictures at their files' size.

    At most MOST_MASKS masks are read, unless `every_mask` is asked for. Raises ValueError for one that cannot be read.
    """
    from semiseg.data.dataset import scored_mask

    masks, val = found.split["labeled"] + found.split["val"], found.split["val"]
    looked = _Looked(len(dataset.classes))
    for images in (dataset.labeled, dataset.val):
        for place in range(len(images) if every_mask else min(len(images), MOST_MASKS // 2)):
            looked.add(images.names[place], scored_mask(images, place))
    root = found.root.resolve()
    return Facts(
        name=root.name or "own",
        height=round(median(image.height for image in found.images if image.height)),  # 0: not read
        width=round(median(image.width for image in found.images if image.width)),
        classes=dataset.classes,
        masks=tuple(masks),
        val=tuple(val),
        val_named=not str(dataset.split["val"]["name"]).startswith("automatic"),
        unlabeled=len(found.split.get("unlabeled", ())),
        shares=looked.shares,
        object_side=looked.object_side,
        up_down=looked.up_down,
        words=words_of([*root.parts[-2:], *dataset.classes]),
        present=looked.present,
    )


def words_of(names: Sequence[str]) -> frozenset[str]:
    """The words in names: `Stained_Nuclei2` has `stained` and `nuclei`."""
    return frozenset(word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


class _Looked:
    """Statistics of masks, added one by one."""

    def __init__(self, count: int) -> None:
        self.pixels = np.zeros((2, count))  # of the upper and the lower half, as shares of each mask
        self.sides: list[list[float]] = [[] for _ in range(count)]
        self.present: dict[str, frozenset[int]] = {}

    def add(self, id_: str, mask: Pixels) -> None:
        """`mask` (H, W) holds classes or IGNORE."""
        half, count = len(mask) // 2, len(self.sides)
        for place, part in enumerate((mask[:half], mask[len(mask) - half :])):
            counts = np.bincount(part[part != IGNORE], minlength=count)
            self.pixels[place] += counts / max(counts.sum(), 1)
        self.present[id_] = frozenset({*np.unique(mask).tolist()} - {IGNORE})
        for label in self.present[id_]:
            _, _, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
            areas = stats[1:, cv2.CC_STAT_AREA]
            self.sides[label] += np.sqrt(areas[areas >= SPECK]).tolist()

    @property
    def shares(self) -> tuple[float, ...]:
        total = self.pixels.sum(0)
        return tuple((total / max(total.sum(), 1e-9)).tolist())

    @property
    def object_side(self) -> float | None:
        """The class with the most pixels is what the objects lie on."""
        ground = int(self.pixels.sum(0).argmax())
        medians = [float(np.median(each)) for label, each in enumerate(self.sides) if each and label != ground]
        return min(medians, default=None)

    @property
    def up_down(self) -> float:
        upper, lower = self.pixels / np.maximum(self.pixels.sum(1, keepdims=True), 1e-9)
        return float(np.abs(upper - lower).sum() / 2)
