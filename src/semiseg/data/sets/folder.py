"""Your own data: images with masks, and more images without.

ROOT/images/NAME.jpg (.jpeg .png .tif .tiff .bmp .webp)   folders inside are part of the name
ROOT/masks/NAME.png                                       only labelled, validation and test images need one
ROOT/classes.txt                                          optional: one class per line, `road` or `road 128 64 128`
ROOT/val.txt, ROOT/test.txt                               optional lists; data.val and data.test name others
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semiseg.config.options import DataOptions
from semiseg.data.dataset import LIST_NAMES, Dataset, palette
from semiseg.data.files import IN_SHARDS, NamedList, file_dataset
from semiseg.data.listing import are_there, files_below, find_list, listed_ids, picture_endings, require_folder
from semiseg.data.masks import MAX_CLASSES, MaskReader, check_one_meaning, looks_binary
from semiseg.data.numbering import check_derived
from semiseg.data.sets.classes import read_classes
from semiseg.data.spelling import by_normal_form
from semiseg.data.splits import covering_order, without
from semiseg.data.texts import is_text_file
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

_MAYBE_BINARY = (0, 2)  # classes in classes.txt, where masks may hold 0 and 255


def open_folder(options: DataOptions) -> Dataset:
    """The dataset in the folder `options.root`.

    Lists name images by stem, file name or path inside images/. Lists that the options do not name:

    - validation and test are ROOT/val.txt and ROOT/test.txt where these exist; without val.txt a seeded part
      (`val_fraction`) of the images with masks in no other list, or of the labelled ones where there are no others;
    - labelled is every other image with a mask, or `labeled_count` of them, chosen so that every class is shown if the
      count allows it (all masks are looked through once, here, also of images that end up unlabelled);
    - unlabelled is every image in no other list.

    Raises ValueError for missing folders, files and masks, ambiguous names, and classes that contradict the masks.
    """
    tree = _scan(options)
    lists = _complete(_given_lists(tree, options), tree, options)
    masked = [id_ for key, named in lists.items() if key != "unlabeled" for id_ in named.ids]
    _check_have_masks(masked, tree)
    reader = _with_classes(masked, tree)
    colors = reader.colors or palette(len(reader.classes))
    ending = tree.endings.__getitem__
    return file_dataset(lists, tree.root / "images", ending, tree.mask, reader, colors, known=True)


@dataclass(frozen=True)
class _Tree:
    """What is in the folder."""

    root: Path
    endings: dict[str, str]  # id -> file ending; the id is the path inside images/ without it
    masked: list[str]  # ids of the images with a mask
    respelt: dict[str, str]  # id -> the mask's name, where the two differ in Unicode normalisation
    reader: MaskReader  # as classes.txt says; its classes are empty where there is no such file
    skip: bool  # whether a mask that cannot be read is as one without a pixel, for `without_damaged` to leave out
    seen: dict[str, dict[int, float]] = field(default_factory=dict)  # of each mask opened so far: value -> share

    def image(self, id_: str) -> Path:
        """The image's file."""
        return self.root / "images" / (id_ + self.endings[id_])

    def mask(self, id_: str) -> Path:
        """Where the image's mask is, or would be."""
        return self.root / "masks" / f"{self.respelt.get(id_, id_)}.png"

    def mask_values(self, id_: str) -> frozenset[int]:
        """The distinct values in a mask; each mask is opened once."""
        return frozenset(self.shares(id_))

    def shares(self, id_: str) -> dict[int, float]:
        """The distinct values in a mask, each with its share of the pixels."""
        if id_ not in self.seen:
            try:
                values, counts = np.unique(self.reader.values(self.mask(id_)), return_counts=True)
            except ValueError:
                if not self.skip:
                    raise
                values = counts = np.array([])
            self.seen[id_] = dict(zip(values.tolist(), (counts / max(counts.sum(), 1)).tolist(), strict=True))
        return self.seen[id_]


def _scan(options: DataOptions) -> _Tree:
    root = options.root
    folder, masks = root / "images", root / "masks"
    require_folder(folder, ". data.root must hold images/NAME.jpg and, for some, masks/NAME.png")
    endings = picture_endings(folder)
    there = are_there(masks, (f"{id_}.png" for id_ in endings))
    masked = {id_ for id_, found in zip(endings, there, strict=True) if found}
    files = _mask_files(masks) if masked or not all(map(str.isascii, endings)) else []
    orphans = set(files) - {f"{id_}.png" for id_ in masked}
    respelt = _respelt([id_ for id_ in endings if not id_.isascii() and id_ not in masked], orphans)
    orphans -= {f"{name}.png" for name in respelt.values()}
    if orphans:
        example = min(orphans)
        lower = {id_.lower(): id_ for id_ in endings}
        near = lower.get(example.lower().removesuffix(".png"))
        log.warning(
            "%d files in %s belong to no image, such as %s%s: the mask of images/NAME.jpg is masks/NAME.png. Images "
            "without a mask of that name are unlabelled",
            *(len(orphans), masks, example.rpartition("/")[2]),
            f" (did you mean {near}.png? Capitals matter)" if near is not None and near not in masked else "",
        )
    reader = read_classes(root / "classes.txt")
    in_order = [id_ for id_ in endings if id_ in masked or id_ in respelt]
    return _Tree(root, endings, in_order, respelt, reader, options.on_error == "skip")


def _mask_files(folder: Path) -> list[str]:
    """The files below `folder`, which need not be there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return files_below(folder, lambda entry: entry.is_file())
    return []


def _respelt(ids: list[str], orphans: Collection[str]) -> dict[str, str]:
    """Id -> the mask among `orphans` whose name differs in Unicode normalisation alone, where there is just one."""
    masks = by_normal_form(file.removesuffix(".png") for file in orphans if file.endswith(".png"))
    images = by_normal_form(ids)
    return {
        several[0]: masks[name][0]
        for name, several in images.items()
        if len(several) == 1 and len(masks.get(name, ())) == 1
    }


def _given_lists(tree: _Tree, options: DataOptions) -> dict[str, NamedList]:
    lists: dict[str, NamedList] = {}
    for key in LIST_NAMES:
        option, path = getattr(options, key), tree.root / f"{key}.txt"
        if option is not None:
            path = find_list(option, tree.root)
        elif key not in ("val", "test") or not is_text_file(path):
            continue
        name = path.relative_to(tree.root).as_posix() if path.is_relative_to(tree.root) else str(path)
        lists[key] = NamedList(listed_ids(path, tree.root / "images", tree.endings), name)
    return lists if options.unlabeled_shards is None else lists | {"unlabeled": IN_SHARDS}


def _complete(lists: dict[str, NamedList], tree: _Tree, options: DataOptions) -> dict[str, NamedList]:
    """`lists` with what is missing of labeled, unlabeled and val, made from `split_seed`."""
    lists = dict(lists)
    masked = without(tree.masked, lists.values())
    made = f"automatic, seed {options.split_seed}"
    if "labeled" not in lists:
        _check_masked(masked, tree)
        order = covering_order(_present(tree, masked), options.split_seed)
        first = len(order) if "val" in lists else len(order) - _val_count(len(order), options)
        count = first if options.labeled_count is None else options.labeled_count
        if count > first:
            raise ValueError(
                f"data.labeled_count is {count}, but {tree.root} has only {first} images with masks beside "
                "validation and test images. Ask for fewer, or add masks"
            )
        lists["labeled"] = NamedList(tuple(order[:count]), made)
        if "val" not in lists:
            lists["val"] = NamedList(tuple(order[first:]), made)
    elif "val" not in lists:
        labeled = lists["labeled"]
        # Only names are drawn where they can be: the masks of images that stay unlabelled are not to be opened.
        pool = {id_: frozenset[int]() for id_ in masked} or _present(tree, labeled.ids)
        order = covering_order(pool, options.split_seed)
        val = NamedList(tuple(order[len(order) - _val_count(len(order), options, spare=not masked) :]), made)
        name = labeled.name if masked else f"{labeled.name}, less val"
        lists |= {"val": val, "labeled": replace(labeled, ids=without(labeled.ids, [val]), name=name)}
    if "unlabeled" not in lists:
        lists["unlabeled"] = NamedList(without(tree.endings, lists.values()), "every image in no other list")
    return {key: lists[key] for key in LIST_NAMES if key in lists}


def _val_count(count: int, options: DataOptions, spare: bool = True) -> int:
    """How many of `count` images validate; with `spare` at least one is left to be labelled."""
    if count < 1 + spare:
        raise ValueError(
            f"{options.root} has {count} image(s) with masks to share between training and validation; expected 2 or "
            "more. Add masks, or name the validation images in data.val"
        )
    return min(max(1, round(options.val_fraction * count)), count - spare)


def _check_masked(masked: Sequence[str], tree: _Tree) -> None:
    if masked:
        return
    folder = tree.root / "masks"
    found = _mask_files(folder)
    first = next(iter(tree.endings))
    there = f"masks/ holds {len(found)} files, such as masks/{found[0]}" if found else f"there is nothing in {folder}"
    raise ValueError(
        f"no image in {tree.root / 'images'} has a mask to train on: {there}. The mask of images/NAME.jpg is "
        f"masks/NAME.png, so the mask of {tree.image(first).name} is masks/{first}.png"
    )


def _present(tree: _Tree, ids: Iterable[str]) -> dict[str, frozenset[int]]:
    """The classes in the mask of each image."""
    values = {id_: tree.mask_values(id_) for id_ in ids}
    return values if _is_binary(values, tree) else {id_: found - {IGNORE} for id_, found in values.items()}


def _check_have_masks(ids: Sequence[str], tree: _Tree) -> None:
    masked = set(tree.masked)
    lacking = [id_ for id_ in ids if id_ not in masked]
    if not lacking:
        return
    expected = tree.mask(lacking[0])
    others = sorted(path.name for path in expected.parent.glob(f"{expected.stem}.*"))
    there = f" ({', '.join(others)} is there, but masks must be PNG)" if others else ""
    raise ValueError(
        f"{len(lacking)} image(s) in the labelled, validation or test lists have no mask; the first is "
        f"{tree.image(lacking[0])}, whose mask would be {expected}{there}. Add the masks, or take the images out"
    )


def _with_classes(ids: Sequence[str], tree: _Tree) -> MaskReader:
    """The reader with its classes, from classes.txt or the masks of `ids`, and with its mind made up about 0/255."""
    names = tree.reader.classes
    binary = _is_binary(ids, tree)
    if binary:
        log.warning("the masks in %s hold only 0 and 255: 255 is read as class 1, not as ignore", tree.root / "masks")
    if not names:
        names = ("class_0", "class_1") if binary else _derived_classes(ids, tree)
    if len(names) == 2 and not binary and tree.reader.ignore_color is None:
        doubt = check_one_meaning({str(tree.mask(id_)): tree.shares(id_) for id_ in ids})
        if doubt is not None:
            log.warning("%s", doubt)
    return replace(tree.reader, classes=names, binary=binary)


def _is_binary(ids: Iterable[str], tree: _Tree) -> bool:
    """Whether 255 is class 1 in the masks of `ids`; not where classes.txt says how ignored pixels look."""
    maybe = len(tree.reader.classes) in _MAYBE_BINARY and tree.reader.ignore_color is None
    return maybe and looks_binary(map(tree.mask_values, ids))


def _derived_classes(ids: Sequence[str], tree: _Tree) -> tuple[str, ...]:
    highest = {id_: max(classes, default=0) for id_, classes in _present(tree, ids).items()}
    worst = max(highest, key=highest.__getitem__)
    if not 1 <= highest[worst] < MAX_CLASSES:
        raise ValueError(
            f"there is no {tree.root / 'classes.txt'}, and the highest class in the masks is {highest[worst]} (in "
            f"{tree.mask(worst)}); expected 1 to {MAX_CLASSES - 1}. Name the classes there, and check the masks"
        )
    check_derived([tree.shares(id_) for id_ in ids], tree.root)
    return tuple(f"class_{index}" for index in range(highest[worst] + 1))
