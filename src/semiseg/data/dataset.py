"""What a dataset is: ordered sets of images, some of which have masks."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's own threads do not survive the fork that starts a worker: one that resized here first would hang there.
cv2.setNumThreads(0)

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]


class ImageSet(ABC):
    """The images of one list, in the list's order. It holds paths or seeds, never open files, so that it pickles."""

    name: str  # "labeled", "unlabeled", "val" or "test"
    names: Sequence[str]  # one id per image, unique in the dataset
    has_masks: bool  # False for "unlabeled": nothing learns from its masks, even where the disk has them

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def image(self, index: int) -> Pixels:
        """Image `index`, (H, W, 3) uint8, RGB."""

    @abstractmethod
    def mask(self, index: int) -> Pixels:
        """Mask of image `index`, (H, W) uint8, 0..C-1 or IGNORE. Raises ValueError where `has_masks` is False."""


class Prepared(ImageSet):
    """An image set at `data.scale`, and in memory if `data.cache`: what a loader reads.

    A cached set decodes everything here, in the parent process, so that forked workers share the arrays.
    """

    def __init__(self, source: ImageSet, scale: float = 1.0, cache: bool = False) -> None:
        self.source = source
        self.scale = scale
        self.name = source.name
        self.names = source.names
        self.has_masks = source.has_masks
        indices = range(len(source)) if cache else ()
        self._images: list[Pixels] = [self._read_image(index) for index in indices]
        self._masks: list[Pixels] = [self._read_mask(index) for index in indices if source.has_masks]

    def image(self, index: int) -> Pixels:
        return self._images[index] if self._images else self._read_image(index)

    def mask(self, index: int) -> Pixels:
        return self._masks[index] if self._masks else self._read_mask(index)

    def _read_image(self, index: int) -> Pixels:
        # Areas are averaged when shrinking, so that thin things fade instead of flickering.
        return resized(self.source.image(index), self.scale, cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR)

    def _read_mask(self, index: int) -> Pixels:
        return resized(self.source.mask(index), self.scale, cv2.INTER_NEAREST_EXACT)


def resized(pixels: Pixels, scale: float, interpolation: int) -> Pixels:
    """`pixels` (H, W[, 3]) at round(scale * H) x round(scale * W), at least 1 x 1."""
    if scale == 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), dtype=np.uint8)


@dataclass(frozen=True)
class Dataset:
    """A dataset and its split; nothing here knows of any method."""

    classes: tuple[str, ...]
    colors: tuple[Color, ...]  # one per class, RGB, distinct
    labeled: ImageSet
    unlabeled: ImageSet
    val: ImageSet
    test: ImageSet | None
    split: dict[str, dict[str, Any]]  # list -> {name, sha256, count, source, file_sha256}: written in every result.json
    hidden: ImageSet | None = None  # the unlabelled images with the masks that some may have: see `data.hidden`

    @property
    def image_sets(self) -> dict[str, ImageSet]:
        """The image sets by list name; `test` only where there is one."""
        sets = {"labeled": self.labeled, "unlabeled": self.unlabeled, "val": self.val}
        return sets if self.test is None else sets | {"test": self.test}


def split_record(
    image_set: ImageSet, name: str, source: str | None = None, file_sha256: str | None = None
) -> dict[str, Any]:
    """What identifies a list: its size, a hash of the ids that their order does not change, and where it came from.

    `source` and `file_sha256` are the address and the hash of a published list's file.
    """
    record = {"name": name, "sha256": ids_sha256(image_set.names), "count": len(image_set)}
    return record | {"source": source, "file_sha256": file_sha256}


def check_same_lists(saved: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str], folder: Path) -> None:
    """Refuse data that are no longer those of the run in `folder`. `saved` and `now` are `Dataset.split`.

    Raises ValueError naming the first of the lists `names` whose images differ. A list that only one of both has is
    nothing the run was trained on or chosen by.
    """
    for name in names:
        if name in saved and name in now and saved[name]["sha256"] != now[name]["sha256"]:
            raise ValueError(
                f"the {name} images are not those of the run in {folder}: there were {saved[name]['count']} "
                f"({saved[name]['name']}), now there are {now[name]['count']} ({now[name]['name']}) or others. Put the "
                "images and masks back as they were, name them in a list file, or train again with another --run"
            )


def ids_sha256(ids: Iterable[str]) -> str:
    """sha256 (hex) of the ids in canonical form: sorted, UTF-8, each followed by a line feed."""
    return hashlib.sha256("\n".join([*sorted(ids), ""]).encode()).hexdigest()


def palette(count: int) -> tuple[Color, ...]:
    """`count` distinct colours, those of PASCAL VOC: the bits of the index, spread over red, green and blue."""
    return tuple(_voc_color(index) for index in range(count))


def _voc_color(index: int) -> Color:
    # Bit 3j + c of the index becomes bit 7 - j of channel c.
    red, green, blue = (
        sum(((index >> (3 * place + channel)) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue
