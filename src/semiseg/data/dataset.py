"""What a dataset is: ordered sets of images, some of which have masks."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from semiseg.data.bands import Bands, Mapped, as_values, blank_pixels
from semiseg.data.deep import Stored, Values, look, read_values
from semiseg.data.formats import described
from semiseg.data.images import Pixels as Pixels
from semiseg.data.images import as_pixels
from semiseg.data.masks import MAX_CLASSES, MaskReader
from semiseg.data.masks import Color as Color
from semiseg.data.spelling import by_normal_form
from semiseg.types import IGNORE

# OpenCV's own threads do not survive the fork that starts a worker: one that resized here first would hang there.
cv2.setNumThreads(0)

LIST_NAMES = ("labeled", "unlabeled", "val", "test")


class ImageSet(ABC):
    """The images of one list, in the list's order. It holds paths or seeds, never open files, so that it pickles."""

    name: str  # "labeled", "unlabeled", "val" or "test"
    names: Sequence[str]  # one id per image, unique in the dataset
    has_masks: bool  # False for "unlabeled": nothing learns from its masks, even where the disk has them
    bands: Bands | None = None  # of images that are not RGB of 8 bits
    first: str = ""  # the image by which `bands` was decided

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def image(self, index: int) -> Pixels | Mapped:
        """Image `index`, (H, W, 3) uint8, RGB; with `bands` (H, W, N) float32 in [0, 1], NaN where it has no data."""

    @abstractmethod
    def mask(self, index: int) -> Pixels:
        """Mask of image `index`, (H, W) uint8, 0..C-1 or IGNORE. Raises ValueError where `has_masks` is False."""

    def stored(self, index: int) -> Stored | None:
        """What the header of image `index` says; None where all images are RGB of 8 bits by their making."""
        return None

    def values(self, index: int) -> tuple[Values, float | None]:
        """Image `index` as it is stored, (H, W, N), and its value for no data. Of sets whose `stored` is not None."""
        raise NotImplementedError

    def file(self, index: int) -> str:
        """What messages call image `index`."""
        return f"{self.name} image {self.names[index]}"

    def reduced(self, index: int, scale: float) -> tuple[Pixels | Mapped, tuple[int, int]]:
        """Image `index`, smaller if that is quicker but no smaller than `scale` has it, and its own size (H, W)."""
        image = self.image(index)
        return image, (image.shape[0], image.shape[1])

    def files_key(self, index: int, what: str) -> str | None:
        """What changes when a file does from which the "image" or the "mask" `index` comes. None: not from files."""
        return None


def scored_mask(images: ImageSet, index: int, mask: Pixels | None = None) -> Pixels:
    """Mask `index` (H, W), IGNORE also where the image has no data. Of images at their files' size.

    `mask` is the set's own one where the caller has read it already.
    """
    mask = images.mask(index) if mask is None else mask
    if images.bands is None:
        return mask
    return np.where(blank_pixels(images.image(index)), np.uint8(IGNORE), mask)


class Items(Protocol):
    """A list, a tuple, a dataset of torch: anything with a length and an item for each index from 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class ItemSet(ImageSet):
    """Images, or pairs of image and mask, of one's own; each is looked at when it is read."""

    def __init__(self, name: str, items: Items, reader: MaskReader) -> None:
        self.name, self.items, self.reader = name, items, reader
        self.names = [f"{name}-{index:06d}" for index in range(len(items))]
        self.has_masks = name != "unlabeled"

    def image(self, index: int) -> Pixels | Mapped:
        """Raises ValueError where it is no image."""
        image, what = self._item(index), f"{self.name} image {index}"
        return as_pixels(image, what) if self.bands is None else self.bands.of(image, what)

    def stored(self, index: int) -> Stored | None:
        """Of a path, its header; of an array, its shape and type."""
        image = self._item(index)
        if isinstance(image, np.ndarray) and image.ndim in (2, 3):
            (height, width, bands), dtype = as_values(image, self.file(index)).shape, image.dtype
            return Stored(height, width, bands, str(dtype), plain=dtype == np.uint8 and image.shape[2:] == (3,))
        return look(image) if isinstance(image, str | Path) else None

    def values(self, index: int) -> tuple[Values, float | None]:
        """Raises ValueError where it is no path and no array."""
        image = self._item(index)
        if isinstance(image, str | Path):
            values, stored = read_values(image, asked=self.bands and self.bands.count)
            return values, stored.nodata
        return as_values(image, f"{self.name} image {index}"), None

    def _item(self, index: int) -> Any:
        return self._pair(index)[0] if self.has_masks else self.items[index]

    def mask(self, index: int) -> Pixels:
        """Raises ValueError where it is no mask, or not of the image's size."""
        if not self.has_masks:
            raise ValueError("unlabeled images have no masks")
        mask = self._pair(index)[1]
        what = f"{self.name} mask {index}"
        # An array of a PIL image would lose its orientation, and stretch indices of 2 and 4 bits.
        mask = self.reader.picture_values(mask, what) if isinstance(mask, Image.Image) else np.asarray(mask)
        size = self.image(index).shape[:2]
        if mask.shape != size or not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(f"{what} is {described(mask)}; expected whole numbers of the image's shape {size}")
        wrong = mask[((mask < 0) | (mask >= len(self.reader.classes))) & (mask != IGNORE)]
        if len(wrong):
            expected = f"0..{len(self.reader.classes) - 1} or {IGNORE} (ignore)"
            raise ValueError(f"{what} has the value {wrong[0]}; expected {expected}")
        return mask.astype(np.uint8)

    def _pair(self, index: int) -> tuple[Any, Any]:
        item = self.items[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"{self.name} item {index} is {described(item)}; expected a pair (image, mask)")
        return item[0], item[1]


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
    binary: bool = False  # masks hold 0 and 255, and 255 is class 1; else 255 is IGNORE
    bands: Bands | None = None  # of images that are not RGB of 8 bits, once `open_dataset` has looked
    cached: str = ""  # where decoded pictures are kept, in words

    @classmethod
    def from_items(
        cls,
        classes: Sequence[str],
        *,
        labeled: Items,
        val: Items,
        unlabeled: Items = (),
        test: Items | None = None,
        colors: Sequence[Color] | None = None,
    ) -> Dataset:
        """A dataset of one's own images, in memory or read when they are asked for.

        Args:
            classes: their names, 2 to 255.
            labeled: pairs (image, mask): a list, or any object with `__len__` and `__getitem__` that gives the same
                item whenever it is asked for it, by several processes too. An image is a path, a PIL image, an array
                (H, W, 3) uint8 in RGB, or one of 1 to 16 bands of another type, all alike; a mask an array (H, W) of
                whole numbers, 0..C-1 or IGNORE, or a PIL image of indices, or of `colors`, which is read as a mask's
                file is.
            val: such pairs, to be scored on.
            unlabeled: images.
            test: further pairs, scored once at the end.
            colors: RGB of each class, all different. None: the colours of PASCAL VOC.

        The lists are told apart by their lengths only: whether the images of a resumed run are the same, you know. A
        PIL image is held against the rules for files as far as PIL still knows its file: `handed_over` says how far.
        Raises ValueError for classes or colours that are not right; an item is looked at when it is read.
        """
        check_classes(classes, colors)
        plain = None if colors is None else tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
        reader = MaskReader(tuple(classes), plain)
        lists = {"labeled": labeled, "unlabeled": unlabeled, "val": val} | ({} if test is None else {"test": test})
        sets = {name: ItemSet(name, items, reader) for name, items in lists.items()}
        return cls(
            classes=reader.classes,
            colors=palette(len(classes)) if plain is None else plain,
            **{name: sets.get(name) for name in LIST_NAMES},  # pyright: ignore
            split={name: split_record(images, "your own") for name, images in sets.items()},
        )

    @property
    def image_sets(self) -> dict[str, ImageSet]:
        """The image sets by list name; `test` only where there is one."""
        return {name: images for name in LIST_NAMES if (images := getattr(self, name)) is not None}


def check_classes(classes: Sequence[str], colors: Sequence[Color] | None) -> None:
    """Raise ValueError for names, or colours, that no dataset can have."""
    names = [] if isinstance(classes, str) else list(classes)
    if not all(isinstance(name, str) and name.strip() for name in names) or not 2 <= len(names) <= MAX_CLASSES:
        given = "one text" if isinstance(classes, str) else f"{len(names)} of them"
        raise ValueError(f"the classes are {given}; expected 2 to {MAX_CLASSES} names, none of them empty")
    strange = [name for name in names if not name.isprintable()]
    if strange:
        raise ValueError(f"a class is called {strange[0]!a}; expected names of characters that can be printed")
    twice = [several for several in by_normal_form(names).values() if len(several) > 1]
    if twice:
        raise ValueError(f"the classes have {' and '.join(map(ascii, twice[0]))}; expected a name of its own for each")
    if colors is None:
        return
    if len(colors) != len(names):
        raise ValueError(
            f"there are {len(colors)} colours and {len(names)} classes; expected one colour for each class"
        )
    for place, color in enumerate(colors):
        parts = np.asarray(color)
        if parts.shape != (3,) or not np.issubdtype(parts.dtype, np.integer) or parts.min() < 0 or parts.max() > 255:
            raise ValueError(f"the colour of class {place} is {color!r}; expected red, green and blue, each 0..255")
    known = [tuple(map(int, color)) for color in colors]
    same = next((color for color in known if known.count(color) > 1), None)
    if same is not None:
        raise ValueError(f"the colour {same} is given more than once; expected another for each class")


def split_record(
    image_set: ImageSet, name: str, source: str | None = None, file_sha256: str | None = None
) -> dict[str, Any]:
    """What identifies a list: its size, a hash of the ids that their order does not change, and where it came from.

    `source` and `file_sha256` are the address and the hash of a published list's file.
    """
    identity = {"name": name, "sha256": ids_sha256(image_set.names), "count": len(image_set)}
    return identity | {"source": source, "file_sha256": file_sha256}


def check_same_lists(saved: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str], folder: Path) -> None:
    """Refuse data that are no longer the data of the run in `folder`. `saved` and `now` are `Dataset.split`.

    Raises ValueError naming the first of the lists `names` whose images differ. A list that only one of both has is
    nothing the run was trained on or chosen by.
    """
    for name in names:
        if name in saved and name in now and saved[name]["sha256"] != now[name]["sha256"]:
            raise ValueError(
                f"the {name} images are not the images of the run in {folder}: there were {saved[name]['count']} "
                f"({saved[name]['name']}), now there are {now[name]['count']} ({now[name]['name']}) or others. Put the "
                "images and masks back as they were, name them in a list file, or train again with another --run"
            )


def ids_sha256(ids: Iterable[str]) -> str:
    """sha256 (hex) of the ids in canonical form: sorted, UTF-8, each followed by a line feed."""
    return hashlib.sha256("\n".join([*sorted(ids), ""]).encode(errors="surrogateescape")).hexdigest()


def palette(count: int) -> tuple[Color, ...]:
    """`count` distinct colours as in PASCAL VOC: the bits of the index, spread over red, green and blue."""
    bits = np.arange(count)[:, None, None] >> np.arange(9).reshape(3, 3) & 1  # (count, j, c): bit 3j + c of the index
    colors = (bits << np.array([7, 6, 5])[:, None]).sum(1)  # it becomes bit 7 - j of channel c
    return tuple((red, green, blue) for red, green, blue in colors.tolist())
