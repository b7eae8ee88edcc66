"""Your own data: images with masks, and more images without.

ROOT/images/NAME.jpg (.jpeg .png .tif .tiff .bmp .webp)   folders inside are part of the name
ROOT/masks/NAME.png                                       only labelled, validation and test images need one
ROOT/classes.txt                                          optional: one class per line, `road` or `road 128 64 128`
ROOT/data.yaml                                            optional: what the masks' values mean (`sets.data_file`)
ROOT/val.txt, ROOT/test.txt                               optional lists; data.val and data.test name others

`data.layouts` finds images and masks in the other layouts that people have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semiseg.config.options import DataOptions
from semiseg.data.dataset import LIST_NAMES, Dataset, palette
from semiseg.data.files import IN_SHARDS, NamedList, file_dataset
from semiseg.data.layouts import Layout, find_layout, mask_files
from semiseg.data.listing import find_list, listed_ids
from semiseg.data.masks import MAX_CLASSES, MaskReader, check_one_meaning, looks_binary
from semiseg.data.numbering import check_derived
from semiseg.data.sets.classes import read_classes as read_classes
from semiseg.data.sets.data_file import read_meaning
from semiseg.data.splits import covering_order, without
from semiseg.data.texts import is_text_file
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

_MAYBE_BINARY = (0, 2)  # classes in classes.txt, where masks may hold 0 and 255


def open_folder(options: DataOptions) -> Dataset:
    """The dataset in the folder `options.root`.

    Lists name images by stem, file name or path inside images/. Lists that the options do not name:

    - validation and test are ROOT/val.txt and ROOT/test.txt where these exist, else the folders val/ and test/; without
      either, validation is a seeded part (`val_fraction`) of the images with masks in no other list, or of the labelled
      ones where there are no others. Images in test/ that a list of test images leaves out are in no list;
    - labelled is every other image with a mask, or `labeled_count` of them, chosen so that every class is shown if the
      count allows it (all masks are looked through once, here, also of images that end up unlabelled);
    - unlabelled is every image in no other list.

    Raises ValueError for missing folders, files and masks, ambiguous names, and classes that contradict the masks.
    """
    return dataset_of(scan(options), options)


def dataset_of(tree: Tree, options: DataOptions) -> Dataset:
    """The dataset in a folder that was scanned; masks whose values are in `tree.seen` are not opened."""
    lists = _complete(_given_lists(tree, options), tree, options)
    masked = [id_ for key, named in lists.items() if key != "unlabeled" for id_ in named.ids]
    _check_have_masks(masked, tree)
    reader = _with_classes(masked, tree)
    colors = reader.colors or palette(len(reader.classes))
    layout = tree.layout
    stem = layout.stem if layout.stems else None
    ending = layout.endings.__getitem__
    return file_dataset(lists, layout.folder, ending, layout.mask, reader, colors, known=True, stem=stem)


@dataclass(frozen=True)
class Tree:
    """What is in the folder."""

    layout: Layout
    reader: MaskReader  # as classes.txt and data.yaml say; its classes are empty where there is no such file
    skip: bool  # whether a mask that cannot be read is as one without a pixel, for `without_damaged` to leave out
    seen: dict[str, dict[int, float]] = field(default_factory=dict)  # of each mask opened so far: value -> share

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        return self.layout.root

    @property
    def masked(self) -> list[str]:
        """Ids of the images with a mask."""
        return self.layout.masked

    def mask_values(self, id_: str) -> frozenset[int]:
        """The distinct values in a mask; each mask is opened once."""
        return frozenset(self.shares(id_))

    def shares(self, id_: str) -> dict[int, float]:
        """The distinct values in a mask, each with its share of the pixels."""
        if id_ not in self.seen:
            try:
                values, counts = np.unique(self.reader.values(self.layout.mask(id_)), return_counts=True)
            except ValueError:
                if not self.skip:
                    raise
                values = counts = np.array([])
            self.seen[id_] = dict(zip(values.tolist(), (counts / max(counts.sum(), 1)).tolist(), strict=True))
        return self.seen[id_]


def scan(options: DataOptions) -> Tree:
    """The folder `options.root`, its layout and how its masks are read; its files are listed, and none is opened.

    Raises ValueError as `find_layout` and `read_meaning` do.
    """
    root = options.root
    val_named = options.val is not None or is_text_file(root / "val.txt")
    layout = find_layout(root, ("test",) if val_named else ("val", "test"))
    tree = Tree(layout, read_meaning(root), options.on_error == "skip")
    unnamed = _unnamed_test(tree, _given_lists(tree, options)) if "test" in layout.lists else ()
    if unnamed:
        words = (
            f"{len(unnamed)} image(s) in the folder {unnamed[0].partition('/')[0]}/, such as {unnamed[0]}, are in no "
            "list and are left out: others were named for testing. Move them elsewhere to train on them"
        )
        tree = replace(tree, layout=replace(layout, doubts=(*layout.doubts, words)))
    for words in (*tree.layout.doubts, *orphans_in_words(layout)):
        log.warning("%s", words)
    return tree


def _unnamed_test(tree: Tree, given: Mapping[str, NamedList]) -> Sequence[str]:
    """The images of the folder test/ where a list names other images for testing: no list has them."""
    return without(tree.layout.lists.get("test", ()), given.values()) if "test" in given else ()


def orphans_in_words(layout: Layout) -> list[str]:
    """The warning about masks that belong to no image; none where there are no such masks."""
    if not layout.orphans:
        return []
    masked, lower = set(layout.masked), {id_.lower(): id_ for id_ in layout.endings}
    example, images = min(layout.orphans), "images/" if layout.place[0] == "masks/" else ""
    near = lower.get(example.removeprefix(layout.place[0]).lower().removesuffix(".png"))
    return [
        f"{len(layout.orphans)} files in {layout.mask_folder} belong to no image, such as {example.rpartition('/')[2]}"
        + (f" (did you mean {near}.png? Capitals matter)" if near is not None and near not in masked else "")
        + f": the mask of {images}NAME.jpg is {'NAME'.join(layout.place)}. Images without a mask of that name are "
        "unlabelled"
    ]


def masks_to_read(tree: Tree, options: DataOptions) -> list[str]:
    """The images whose masks an opening looks into: none that a list leaves unlabelled."""
    given = _given_lists(tree, options)
    if "labeled" not in given:
        return [*without(tree.masked, [given[key] for key in ("unlabeled",) if key in given])]
    lists = _complete(given, tree, options)
    masked = set(tree.masked)
    return [id_ for key, named in lists.items() if key != "unlabeled" for id_ in named.ids if id_ in masked]


def _given_lists(tree: Tree, options: DataOptions) -> dict[str, NamedList]:
    lists: dict[str, NamedList] = {}
    for key in LIST_NAMES:
        option, path = getattr(options, key), tree.root / f"{key}.txt"
        if option is not None:
            path = find_list(option, tree.root)
        elif key not in ("val", "test") or not is_text_file(path):
            continue
        name = path.relative_to(tree.root).as_posix() if path.is_relative_to(tree.root) else str(path)
        lists[key] = NamedList(listed_ids(path, tree.layout.folder, tree.layout.endings), name)
    return lists if options.unlabeled_shards is None else lists | {"unlabeled": IN_SHARDS}


def _complete(lists: dict[str, NamedList], tree: Tree, options: DataOptions) -> dict[str, NamedList]:
    """`lists` with what is missing: val and test as folders say, the rest made from `split_seed`."""
    by_folder = {
        key: NamedList(ids, f"the folder {ids[0].partition('/')[0]}/") for key, ids in tree.layout.lists.items()
    }
    apart = [NamedList(_unnamed_test(tree, lists), "left out")]
    if "test" in by_folder and "val" in lists:  # which may name images of the folder test/
        test = by_folder.pop("test")
        rest = without(test.ids, [lists["val"]])
        by_folder |= {"test": replace(test, ids=rest)} if rest else {}
    lists = {**by_folder, **lists}
    masked = without(tree.masked, [*lists.values(), *apart])
    made = f"automatic, seed {options.split_seed}"
    if "labeled" not in lists:
        _check_masked(masked, tree)
        present = _present(tree, masked)
        order = covering_order(present, options.split_seed)
        first = len(order) if "val" in lists else len(order) - _val_count(len(order), options)
        count = first if options.labeled_count is None else options.labeled_count
        if count > first:
            raise ValueError(
                f"data.labeled_count is {count}, but {tree.root} has only {first} images with masks beside "
                "validation and test images. Ask for fewer, or add masks"
            )
        order = _scorable(order, first, present)
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
        rest = without(tree.layout.endings, [*lists.values(), *apart])
        lists["unlabeled"] = NamedList(rest, "every image in no other list")
    return {key: lists[key] for key in LIST_NAMES if key in lists}


def _scorable(order: list[str], first: int, present: Mapping[str, frozenset[int]]) -> list[str]:
    """`order`, whose images from `first` on validate; where none of them has a labelled pixel, others take over."""
    shown = [id_ for id_ in order if present[id_]]
    val = shown[len(shown) - (len(order) - first) :]
    if any(present[id_] for id_ in order[first:]) or first == len(order) or len(shown) < 2:
        return order
    return [*(id_ for id_ in order if id_ not in val), *val]


def _val_count(count: int, options: DataOptions, spare: bool = True) -> int:
    """How many of `count` images validate; with `spare` at least one is left to be labelled."""
    if count < 1 + spare:
        raise ValueError(
            f"{options.root} has {count} image(s) with masks to share between training and validation; expected 2 or "
            "more. Add masks, or name the validation images in data.val"
        )
    return min(max(1, round(options.val_fraction * count)), count - spare)


def _check_masked(masked: Sequence[str], tree: Tree) -> None:
    if masked:
        return
    folder = tree.root / "masks"
    found = mask_files(folder)
    first = next(iter(tree.layout.endings))
    there = f"masks/ holds {len(found)} files, such as masks/{found[0]}" if found else f"there is nothing in {folder}"
    raise ValueError(
        f"no image in {tree.root / 'images'} has a mask to train on: {there}. The mask of images/NAME.jpg is "
        f"masks/NAME.png, so the mask of {tree.layout.image(first).name} is masks/{first}.png"
    )


def _present(tree: Tree, ids: Iterable[str]) -> dict[str, frozenset[int]]:
    """The classes in the mask of each image."""
    values = {id_: tree.mask_values(id_) for id_ in ids}
    return values if _is_binary(values, tree) else {id_: found - {IGNORE} for id_, found in values.items()}


def _check_have_masks(ids: Sequence[str], tree: Tree) -> None:
    masked = set(tree.masked)
    lacking = [id_ for id_ in ids if id_ not in masked]
    if not lacking:
        return
    expected = tree.layout.mask(lacking[0])
    others = sorted(path.name for path in expected.parent.glob(f"{expected.stem}.*"))
    there = f" ({', '.join(others)} is there, but masks must be PNG)" if others else ""
    raise ValueError(
        f"{len(lacking)} image(s) in the labelled, validation or test lists have no mask; the first is "
        f"{tree.layout.image(lacking[0])}, whose mask would be {expected}{there}. Add the masks, or take the images out"
    )


def _with_classes(ids: Sequence[str], tree: Tree) -> MaskReader:
    """The reader with its classes, from classes.txt or the masks of `ids`, and with its mind made up about 0/255."""
    names = tree.reader.classes
    binary = _is_binary(ids, tree)
    if binary and not tree.reader.binary:
        log.warning(
            "the masks in %s hold only 0 and 255: 255 is read as class 1, not as ignore", tree.layout.mask_folder
        )
    if not names:
        names = ("class_0", "class_1") if binary else _derived_classes(ids, tree)
    if len(names) == 2 and not binary and tree.reader.ignore_color is None and tree.reader.values_to is None:
        doubt = check_one_meaning({str(tree.layout.mask(id_)): tree.shares(id_) for id_ in ids})
        if doubt is not None:
            log.warning("%s", doubt)
    return replace(tree.reader, classes=names, binary=binary)


def _is_binary(ids: Iterable[str], tree: Tree) -> bool:
    """Whether 255 is class 1 in the masks of `ids`; not where classes.txt, or data.yaml, says otherwise."""
    reader = tree.reader
    maybe = len(reader.classes) in _MAYBE_BINARY and reader.ignore_color is None and reader.values_to is None
    return reader.binary or (maybe and looks_binary(map(tree.mask_values, ids)))


def _derived_classes(ids: Sequence[str], tree: Tree) -> tuple[str, ...]:
    highest = {id_: max(classes, default=0) for id_, classes in _present(tree, ids).items()}
    worst = max(highest, key=highest.__getitem__)
    if not 1 <= highest[worst] < MAX_CLASSES:
        raise ValueError(
            f"there is no {tree.root / 'classes.txt'}, and the highest class in the masks is {highest[worst]} (in "
            f"{tree.layout.mask(worst)}); expected 1 to {MAX_CLASSES - 1}. Name the classes there, and check the masks"
        )
    check_derived([tree.shares(id_) for id_ in ids], tree.root)
    return tuple(f"class_{index}" for index in range(highest[worst] + 1))
