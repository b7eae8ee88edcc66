"""The datasets: DATASETS is the list of them, `open_dataset` the way in."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from semiseg.config.options import DATASETS as NAMES
from semiseg.config.options import DataOptions, require
from semiseg.config.registry import CUSTOM, Registry
from semiseg.data.cache_choice import prepared
from semiseg.data.damage import without_damaged
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.data.files import FileSet
from semiseg.data.numbering import counted_from_one, numbering_mistake, one_class
from semiseg.data.ranges import with_bands
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

FEW_VALIDATE = 10
"""From fewer images a score says little, and a difference between two nothing."""

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
    are scored. `options.cache` says where decoded ones are kept; for memory, all of them are decoded here. Raises
    ValueError for whatever is wrong with the options, the lists or the masks, an empty list of unlabelled images among
    it unless `need_unlabeled` is False. A folder's labelled and validation masks are all looked at, the first few of
    other datasets; every other file is checked when it is read, or, all at once, by `damage.require_whole`. With
    `options.on_error` "skip" every file is looked at here, and damaged images are left out.
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
    dataset = with_bands(dataset, options.bands, options.split_seed)
    if options.on_error == "skip":
        dataset = without_damaged(dataset)
    splits = sorted(options.root.glob("splits/*/labeled.txt")) if options.labeled is None else []
    hint = f"; or choose a split that is there: --data.labeled {splits[0].relative_to(options.root)}" if splits else ""
    check_lists(dataset, need_unlabeled, hint, options.val_trains)
    check_masks(dataset, None if options.dataset == "folder" else _MASKS_READ_AT_OPEN)
    return prepared(dataset, options)


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


def check_lists(dataset: Dataset, need_unlabeled: bool, hint: str, val_trains: bool = False) -> None:
    """Raise ValueError for an empty list, or an image that is in two lists or twice in one.

    `hint` says what else to do where no unlabelled image is left. With `val_trains` an image may be labelled and
    validate.
    """
    for name, image_set in dataset.image_sets.items():
        enough = len(image_set) > 0 or (name == "unlabeled" and not need_unlabeled)
        repair = _WHEN_EMPTY[name] + (hint if name == "unlabeled" else "")
        require(enough, f"there are no {name} images ({dataset.split[name]['name']}): {repair}")
    # Shards have each key once, and keys of other lists were left out.
    listed = {name: images.names for name, images in dataset.image_sets.items() if not isinstance(images, ShardSet)}
    origins = {name: record["name"] for name, record in dataset.split.items()}
    for apart in ("labeled", "val") if val_trains else ("",):
        check_disjoint({name: ids for name, ids in listed.items() if name != apart}, origins)


def check_masks(dataset: Dataset, most: int | None) -> None:
    """Read `most` masks (None: all) of the labelled and of the validation images, so that the user hears at once.

    Raises ValueError for a mask that is not right, for a list without a labelled pixel in these masks and, of all
    masks, for lists that show one class. Classes that no mask, or none of the validation images, shows are warned of.
    """
    shown = {name: _shown(dataset.image_sets[name], dataset, most) for name in ("labeled", "val")}
    for name, values in shown.items():
        first = "" if most is None else f"first {min(most, len(dataset.image_sets[name]))} "
        require(
            bool(values - {IGNORE}),
            f"the {first}masks of the {name} images ({dataset.split[name]['name']}) have no labelled pixel: every "
            f"value is {IGNORE}, which is ignored. Draw their classes, or name other images",
        )
    if most is not None:
        return
    values = shown["labeled"] | shown["val"]
    absent, unscored = ([i for i in range(len(dataset.classes)) if i not in found] for found in (values, shown["val"]))
    require(len(values - {IGNORE}) > 1, one_class(values, dataset.classes))
    if absent:
        log.warning(
            "%d of %d classes are in no labelled or validation mask (%s): they cannot be learnt or scored. Are the "
            "masks' values the classes' indices?%s",
            *(len(absent), len(dataset.classes), _named(dataset, absent), counted_from_one(absent)),
        )
    elif unscored:
        log.warning(
            "%d of %d classes are in no validation mask (%s): they cannot be scored. Name validation images that show "
            "them in data.val",
            *(len(unscored), len(dataset.classes), _named(dataset, unscored)),
        )


def _shown(images: ImageSet, dataset: Dataset, most: int | None) -> set[int]:
    """The values of the first `most` masks (None: all)."""
    shown: set[int] = set()
    try:
        for index in range(min(most or len(images), len(images))):
            shown |= {*np.unique(images.mask(index)).tolist()}
    except ValueError as error:
        mistake = _plain_mistake(dataset) if most is None else None
        if mistake is None:
            raise
        raise ValueError(f"{mistake}. The first that was met: {str(error).partition(';')[0]}") from error
    return shown


def _plain_mistake(dataset: Dataset) -> str | None:
    """What is wrong with the numbering of all labelled and validation masks, if it is plain."""
    values: set[int] = set()
    root = None
    for images in (dataset.labeled, dataset.val):
        if not isinstance(images, FileSet) or images.masks is None or images.reader is None:
            return None
        for path in images.masks:
            try:
                values |= {*np.unique(images.reader.values(path)).tolist()}
            except ValueError:
                return None
            root = root or path.parent
    return None if root is None else numbering_mistake(values, dataset.classes, root)


def _named(dataset: Dataset, places: list[int]) -> str:
    return ", ".join(dataset.classes[place] for place in places[:5]) + (", ..." if len(places) > 5 else "")


def split_in_words(dataset: Dataset) -> list[str]:
    """How many images train and validate and how they were chosen, in a line; further lines warn."""
    records = dataset.split
    parts = [
        f"{records[name]['count']} {what} ({records[name]['name']})"
        for name, what in (
            ("labeled", "masks train"), ("unlabeled", "images without"), ("val", "masks validate"),
            ("test", "masks test"),
        )
        if name in records
    ]  # fmt: skip
    lines = ["data: " + ", ".join(parts), *([f"data: {dataset.cached}"] if dataset.cached else [])]
    if dataset.bands is not None:
        bands = dataset.bands
        ends = ", ".join(f"{low:g}..{high:g}" for low, high in zip(bands.low, bands.high, strict=True))
        lines.append(f"images: {bands}, whose values {ends} become 0..1")
    if records["val"]["sha256"] == records["labeled"]["sha256"]:
        lines.append("the validation images are the labelled ones: their score says nothing of other images")
    elif records["val"]["count"] < FEW_VALIDATE:
        lines.append(
            f"warning: only {records['val']['count']} image(s) validate: a score from so few says little. Add "
            "masks and name more in data.val, or raise data.val_fraction"
        )
    return lines
