"""Cityscapes in its official layout, with the 19 classes of its benchmark.

leftImg8bit/{train,val,test}/CITY/ID_leftImg8bit.png
gtFine/{train,val,test}/CITY/ID_gtFine_labelIds.png         as in the stock archive, or
                             ID_gtFine_labelTrainIds.png    as the Cityscapes scripts make them
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semiseg.config.options import DataOptions
from semiseg.data.dataset import Color, Dataset, Pixels
from semiseg.data.files import NamedList, file_dataset
from semiseg.data.listing import files_below, require_folder
from semiseg.data.masks import MaskReader, refuse_values
from semiseg.data.splits import PUBLISHED, given_lists, image_id, without
from semiseg.types import IGNORE

_ENDING = "_leftImg8bit.png"

# name, labelId of the stock archive, colour; a class's trainId is its place in this table
_TABLE: tuple[tuple[str, int, Color], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CITYSCAPES_CLASSES = tuple(name for name, _, _ in _TABLE)
CITYSCAPES_COLORS = tuple(color for _, _, color in _TABLE)

_LAST_LABEL_ID = 33
TRAIN_IDS = np.full(256, IGNORE, dtype=np.uint8)
"""labelId -> trainId, (256,); every label outside the benchmark is IGNORE."""
for _train_id, (_, _label_id, _) in enumerate(_TABLE):
    TRAIN_IDS[_label_id] = _train_id


@dataclass(frozen=True)
class CityscapesMasks(MaskReader):
    """Reads both kinds of mask; the file's name says which it is."""

    def to_classes(self, values: NDArray[np.integer], path: Path) -> Pixels:
        """As the base class. Raises ValueError, too, where *_labelIds.png holds a number that is no labelId."""
        if not path.name.endswith("_labelIds.png"):
            return super().to_classes(values, path)
        none = (values < 0) | ((values > _LAST_LABEL_ID) & (values != IGNORE))
        refuse_values(values, none, path, f"labelIds, 0 to {_LAST_LABEL_ID}, or {IGNORE}")
        return TRAIN_IDS[values]


def open_cityscapes(options: DataOptions) -> Dataset:
    """Cityscapes under `options.root` (the folder that holds leftImg8bit and gtFine).

    The options must name a published split or a labelled list. Lists they do not name: unlabelled is the rest of
    leftImg8bit/train, validation is leftImg8bit/val. Raises ValueError for a missing folder, list, image or mask.
    """
    root = options.root
    require_folder(root / "leftImg8bit", ". data.root must hold leftImg8bit and gtFine of Cityscapes")
    reader = CityscapesMasks(CITYSCAPES_CLASSES)
    lists, mask = _lists(options), partial(_mask, root)
    return file_dataset(lists, root / "leftImg8bit", lambda _: _ENDING, mask, reader, CITYSCAPES_COLORS)


def _lists(options: DataOptions) -> dict[str, NamedList]:
    folder = options.root / "leftImg8bit"
    lists = given_lists(options, lambda id_: (folder / f"{id_}{_ENDING}").is_file())
    if "labeled" not in lists:
        names = ", ".join(name for name, split in PUBLISHED.items() if split.dataset == "cityscapes")
        repair = f"set data.labeled to a list, or data.split to one of {names}"
        raise ValueError(f"no Cityscapes images are labelled: {repair}")
    if "val" not in lists:
        lists["val"] = NamedList(_on_disk(options.root, "val"), "every image of leftImg8bit/val")
    if "unlabeled" not in lists:
        rest = without(_on_disk(options.root, "train"), lists.values())
        lists["unlabeled"] = NamedList(rest, "every image of leftImg8bit/train that is in no other list")
    return lists


def _on_disk(root: Path, part: str) -> tuple[str, ...]:
    folder = root / "leftImg8bit" / part
    try:
        files = files_below(folder, lambda entry: entry.name.endswith(_ENDING))
    except FileNotFoundError:
        return ()
    return tuple(sorted(image_id(f"{part}/{file}") for file in files if file.count("/") == 1))


def _mask(root: Path, id_: str) -> Path:
    prepared = root / "gtFine" / f"{id_}_gtFine_labelTrainIds.png"
    return prepared if prepared.is_file() else root / "gtFine" / f"{id_}_gtFine_labelIds.png"
