"""The datasets: DATASETS is the list of them, `open_dataset` the way in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from semiseg.config.options import DATASETS as NAMES
from semiseg.config.options import DataOptions, require
from semiseg.config.registry import CUSTOM, Registry
from semiseg.data.dataset import Dataset, Prepared
from semiseg.data.sets.cityscapes import open_cityscapes
from semiseg.data.sets.folder import open_folder
from semiseg.data.sets.scenes import open_scenes
from semiseg.data.sets.voc import open_voc
from semiseg.data.shards.read import ShardSet, with_shards
from semiseg.data.splits import check_disjoint, find_split
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

DATASETS: Registry[Callable[[DataOptions], Dataset]] = Registry(
    NAMES, {"folder": open_folder, "voc": open_voc, "cityscapes": open_cityscapes, "scenes": open_scenes}
)
"""What opens a dataset, by `data.dataset`; open to more."""

_MASKS_READ_AT_OPEN = 3  # of a published dataset; a folder's masks are all read, for anyone may have made them

_WHEN_EMPTY = {
    "labeled": "name some in data.labeled, or add masks",
    "unlabeled": "add images without masks, name some (--data.unlabeled), use fewer labels (--data.labeled_count), or "
    "train with --method supervised, which needs none",
    "val": "name some in data.val",
    "test": "leave data.test out, or name some",
}

_LISTS = ("labeled", "unlabeled", "unlabeled_shards", "val", "test", "split", "labeled_count")
"""Options that say which images are in which list."""


def open_dataset(options: DataOptions, need_unlabeled: bool = True, given: Dataset | None = None) -> Dataset:
    """The dataset that the options describe, or the one `given`, checked, and as a loader should read it.

    Labelled and unlabelled images come at `options.scale`; validation and test images at native size, at which they
    are scored. With `options.cache` all of them are decoded here. Raises ValueError for whatever is wrong with the
    options, the lists or the masks, an empty list of unlabelled images among it unless `need_unlabeled` is False. A
    folder's labelled and validation masks are all looked at, the first few of other datasets; every other file is
    checked when it is read.
    """
    for name in () if given is None else _LISTS:
        own = f"data.{name} names images of files, and a dataset of your own has its lists: leave it out"
        require(getattr(options, name) is None, own)
    dataset = _opened(options) if given is None else given
    if not isinstance(dataset, Dataset):
        expected = "a semiseg.Dataset, as Dataset.from_items makes one"
        raise ValueError(f"the dataset is a {type(dataset).__name__}; expected {expected}")
    if options.unlabeled_shards is not None:
        dataset = with_shards(dataset, options.unlabeled_shards)
    splits = sorted(options.root.glob("splits/*/labeled.txt")) if options.labeled is None else []
    hint = f"; or choose a split that is there: --data.labeled {splits[0].relative_to(options.root)}" if splits else ""
    check_lists(dataset, need_unlabeled, hint)
    check_masks(dataset, None if options.dataset == "folder" else _MASKS_READ_AT_OPEN)
    return replace(
        dataset,
        labeled=Prepared(dataset.labeled, options.scale, options.cache),
        unlabeled=Prepared(dataset.unlabeled, options.scale, options.cache),
        val=Prepared(dataset.val, cache=True) if options.cache else dataset.val,
        test=Prepared(dataset.test, cache=True) if options.cache and dataset.test is not None else dataset.test,
    )


def _opened(options: DataOptions) -> Dataset:
    require(
        options.dataset != CUSTOM,
        "data.dataset is custom: this dataset was given as an object and cannot be opened by name. Give it again as "
        "`dataset=`, or add what opens it to semiseg.DATASETS and train under its name",
    )
    require(options.dataset in DATASETS, f"this process has no semiseg.DATASETS[{options.dataset!r}]: add it there")
    if options.split is not None:
        find_split(options.split, options.dataset)
    require(
        options.labeled_count is None or (options.dataset == "folder" and options.labeled is None),
        "data.labeled_count is for an automatic split of the dataset `folder`: leave it out, or leave data.labeled out",
    )
    return DATASETS[options.dataset](options)


def check_lists(dataset: Dataset, need_unlabeled: bool, hint: str) -> None:
    """Raise ValueError for an empty list, or an image that is in two lists or twice in one.

    `hint` says what else to do where no unlabelled image is left.
    """
    for name, image_set in dataset.image_sets.items():
        enough = len(image_set) > 0 or (name == "unlabeled" and not need_unlabeled)
        repair = _WHEN_EMPTY[name] + (hint if name == "unlabeled" else "")
        require(enough, f"there are no {name} images ({dataset.split[name]['name']}): {repair}")
    # Shards have each key once, and keys of other lists were left out.
    listed = {name: images.names for name, images in dataset.image_sets.items() if not isinstance(images, ShardSet)}
    check_disjoint(listed, {name: record["name"] for name, record in dataset.split.items()})


def check_masks(dataset: Dataset, most: int | None) -> None:
    """Read `most` masks (None: all) of the labelled and of the validation images, so that the user hears at once.

    Raises ValueError for a mask that is not right and, of all masks, for a list without a labelled pixel. Classes that
    no mask shows are warned of.
    """
    shown: set[int] = set()
    for name in ("labeled", "val"):
        images = dataset.image_sets[name]
        masks = (images.mask(index) for index in range(min(most or len(images), len(images))))
        found: set[int] = set().union(*(np.unique(mask).tolist() for mask in masks)) - {IGNORE}
        require(
            bool(found) or most is not None,
            f"the masks of the {name} images ({dataset.split[name]['name']}) have no labelled pixel: every value is "
            f"{IGNORE}, which is ignored. Draw their classes, or name other images",
        )
        shown |= found
    absent = [name for index, name in enumerate(dataset.classes) if index not in shown]
    if absent and most is None:
        log.warning(
            "%d of %d classes are in no labelled or validation mask (%s): they cannot be learnt or scored. Are the "
            "masks' values the classes' indices?",
            *(len(absent), len(dataset.classes), ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")),
        )
