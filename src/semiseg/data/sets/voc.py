"""PASCAL VOC 2012, with or without the SBD masks, in its official layout.

JPEGImages/ID.jpg
SegmentationClass/ID.png       palette PNG; read as indices
SegmentationClassAug/ID.png    grey PNG of VOC and SBD together; preferred where it has the image
ImageSets/Segmentation/{train,val,trainaug}.txt
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from semiseg.config.options import DataOptions
from semiseg.data.dataset import Dataset, palette
from semiseg.data.files import NamedList, file_dataset
from semiseg.data.listing import require_folder
from semiseg.data.masks import MaskReader
from semiseg.data.splits import given_lists, listed_images, without
from semiseg.data.texts import is_text_file

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip

_LISTS = "ImageSets/Segmentation"
_BORDER = (224, 224, 192)  # around objects, in masks saved as RGB; index 255 in the official ones


def open_voc(options: DataOptions) -> Dataset:
    """PASCAL VOC 2012 under `options.root` (the folder that holds JPEGImages).

    Lists that the options do not name: labelled is `train`, validation is `val` (U2PL's copy of it with a published
    split), unlabelled is the rest of `trainaug` (of `train` where SBD is absent). A list's line is an id, or an image
    and a mask path. Raises ValueError for a missing folder, list, image or mask.
    """
    root = options.root
    require_folder(
        root / "JPEGImages",
        ". data.root must be the folder of PASCAL VOC 2012 that holds JPEGImages, SegmentationClass and ImageSets "
        "(often .../VOCdevkit/VOC2012)",
    )
    colors = palette(len(VOC_CLASSES))
    reader = MaskReader(VOC_CLASSES, colors, ignore_color=_BORDER)
    return file_dataset(_lists(options), root / "JPEGImages", lambda _: ".jpg", partial(_mask, root), reader, colors)


def _lists(options: DataOptions) -> dict[str, NamedList]:
    lists = given_lists(options, partial(_is_image, options.root))
    for key, official in (("labeled", "train"), ("val", "val")):
        if key not in lists:
            lists[key] = _official(options.root, official)
    if "unlabeled" not in lists:
        universe = "trainaug" if is_text_file(options.root / _LISTS / "trainaug.txt") else "train"
        rest = without(_official(options.root, universe).ids, lists.values())
        lists["unlabeled"] = NamedList(rest, f"{universe}, without the images in other lists")
    return lists


def _official(root: Path, name: str) -> NamedList:
    path = root / _LISTS / f"{name}.txt"
    if not is_text_file(path):
        raise ValueError(f"no list {path}. Restore it from the VOC 2012 archive, or name a list in the data options")
    return NamedList(listed_images(path, partial(_is_image, root)), f"VOC 2012 {name}")


def _is_image(root: Path, id_: str) -> bool:
    return (root / "JPEGImages" / f"{id_}.jpg").is_file()


def _mask(root: Path, id_: str) -> Path:
    augmented = root / "SegmentationClassAug" / f"{id_}.png"
    return augmented if augmented.is_file() else root / "SegmentationClass" / f"{id_}.png"
