"""`examine`: a dataset looked into before anything is computed."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from semiseg.config.checks import types_of
from semiseg.config.fields import nearest
from semiseg.config.options import DataOptions, require
from semiseg.data import check_lists
from semiseg.data.damage import remember_whole, without_damaged
from semiseg.data.dataset import Dataset
from semiseg.data.doctor import files, lists, unpaired
from semiseg.data.doctor.examination import LEVELS, Examination, Finding, SeenClass, SeenImage
from semiseg.data.doctor.files import UNREADABLE
from semiseg.data.doctor.given import not_a_dataset
from semiseg.data.doctor.looks import ImageLook, Looks, MaskLook
from semiseg.data.doctor.repairs import Repair, apply
from semiseg.data.doctor.seen import Seen
from semiseg.data.doctor.shares import classes_of, names_of, unlearnable
from semiseg.data.doctor.values import values
from semiseg.data.layouts import find_layout
from semiseg.data.masks import MaskReader
from semiseg.data.passed_over import PASSED_OVER
from semiseg.data.sets.folder import Tree, dataset_of, masks_to_read, scan
from semiseg.runtime.screen import without_warnings

log = logging.getLogger(__name__)

MOST_BEFORE_TRAINING = 200_000
"""Images that are looked into before a training; of more, only the images with masks are, and the rest are opened."""

SAID_WHEN_OPENED = {
    "unpaired", "without-mask", "binary-masks", "two-meanings", "absent-classes", "class-not-in-val",
}  # fmt: skip
"""Kinds of warnings that `open_dataset` gives in its own words."""


def check(folder: str | os.PathLike[str], *, console: Console | None = None, **options: Any) -> Examination:
    """Look into a folder of images and masks: what is there, how it will be split, and what is wrong with it.

    `console` shows progress; None: the terminal. `options` are the data's, such as `val="val.txt"`. Whatever is wrong
    with the folder is a finding. Raises ValueError for an option that is not right.
    """
    known = [name for name in types_of(DataOptions) if name != "root"]
    for name in options:
        require(name in known, f"data.{name}: there is no such option; {nearest(name, known)}")
    return examine(DataOptions(root=Path(folder), **options), console=console)


def examine(options: DataOptions, *, console: Console | None = None, all_images: bool = True) -> Examination:
    """Look into the folder that `options` describe: every file, the masks' values, the split.

    `console` shows progress; None: the terminal. Without `all_images`, only those with masks are looked into. Raises
    ValueError where the dataset is no folder of one's own; whatever is wrong with the folder is a finding.
    """
    return _examined(options, console, all_images)[0]


def repair(options: DataOptions, *, console: Console | None = None) -> list[str]:
    """Write what the findings offer, classes.txt or data.yaml; returns what was done, in words."""
    _, repairs = _examined(options, console, True)
    return apply(options.root, repairs[:1])


def check_before_training(options: DataOptions, console: Console | None = None, use_unlabeled: bool = True) -> None:
    """Warn of what `examine` finds. Raises ValueError, with all that is wrong, where it cannot be trained on.

    Files that were read are remembered as whole. Images without a mask are left out where `use_unlabeled` is False, and
    where there are more than MOST_BEFORE_TRAINING, which is said.
    """
    found = _examined(options, console, use_unlabeled, MOST_BEFORE_TRAINING, remember=True)[0]
    errors = [finding for finding in found.findings if finding.level == "error"]
    if errors:
        fixable = any(finding.fix for finding in errors)
        how = f". `semiseg check {options.root} --fix` writes that file" if fixable else ""
        raise ValueError("; ".join(finding.words for finding in errors) + how)
    said = SAID_WHEN_OPENED | (UNREADABLE if options.on_error == "skip" else set())
    said |= set() if use_unlabeled else {"no-unlabelled"}
    for finding in found.findings:
        if finding.level == "warning" and finding.kind not in said:
            log.warning("%s", finding.words)


def _examined(
    options: DataOptions,
    console: Console | None,
    all_images: bool,
    most: int | None = None,
    *,
    remember: bool = False,
) -> tuple[Examination, list[Repair]]:
    require(
        options.dataset == "folder",
        f"data.dataset is {options.dataset}; expected folder: the check is for images and masks of one's own",
    )
    with _Heard() as heard:
        tree, readable, refused = _scanned(options)
    if tree is None:
        words = not_a_dataset(options.root) or str(refused)
        finding = Finding(_kind_of_refusal(words, "layout"), "error", words)
        return Examination(options.root, "not understood", (), {}, (), {}, options, (finding,)), []
    too_many = most is not None and len(tree.layout.endings) > most
    seen = _look(tree, readable, options, console, all_images and not too_many)
    found = [Finding("other-formats", "warning", words) for words in heard if "are left out, for" in words]
    found += [Finding("own-files", "note", words) for words in dict.fromkeys(heard) if words.startswith(PASSED_OVER)]
    found += [Finding("too-many", "warning", _TOO_MANY.format(len(tree.layout.endings)))] if too_many else []
    checks = _Checks(seen, found)
    checks.run(refused)
    dataset = checks.dataset
    if dataset is not None and remember and len(seen.images) == len(tree.layout.endings):
        remember_whole(dataset) if all(finding.level != "error" for finding in found) else None
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    images = tuple(
        SeenImage(id_, tree.layout.image(id_), look.height, look.width, look.bands, look.dtype, look.mode)
        for id_, look in seen.images.items()
    )
    masks = {id_: tree.layout.mask(id_) for id_ in tree.masked}
    words, split = tree.layout.words, checks.split
    made = Examination(options.root, words, images, masks, checks.classes, split, options, tuple(found))
    return made, checks.repairs


def _scanned(options: DataOptions) -> tuple[Tree | None, list[str], str | None]:
    """The folder, the images whose masks are read, and what is wrong; then the folder as far as it is understood."""
    tree = None
    try:
        tree = scan(options)
        return tree, masks_to_read(tree, options), None
    except ValueError as error:
        refused = str(error)
    if tree is None:
        with suppress(ValueError):
            tree = Tree(find_layout(options.root), MaskReader(()), options.on_error == "skip")
    return tree, [], refused


class _Checks:
    """All checks of what was seen. Whatever stops one is a finding, and what was found before stays."""

    def __init__(self, seen: Seen, found: list[Finding]) -> None:
        self.seen, self.found = seen, found
        self.repairs: list[Repair] = []
        self.dataset: Dataset | None = None
        self.split: dict[str, tuple[str, ...]] = {}
        self.classes: tuple[SeenClass, ...] = ()

    def run(self, refused: str | None) -> None:
        """Add what is found to `found`; `refused`: why the folder is not understood, if so."""
        try:
            self._run(refused)
        except ValueError as error:
            self._refuse(str(error))
        if self.dataset is not None and self.seen.options.on_error == "skip":
            # Whatever is wrong with a file was left out, or the dataset would not be.
            self.found[:] = [replace(each, level="warning") if each.level == "error" else each for each in self.found]

    def _refuse(self, words: str) -> None:
        self.found.append(Finding(_kind_of_refusal(words, "cannot-train"), "error", words))

    def _has_error(self) -> bool:
        return any(finding.level == "error" for finding in self.found)

    def _add(self, more: Iterable[Finding]) -> None:
        self.found.extend(more)  # what comes before an error stays

    def _run(self, refused: str | None) -> None:
        seen = self.seen
        if refused is not None:
            self._refuse(refused)
            self._add(files.unreadable(seen, {}))
            return
        dataset, refused = _opened(seen)
        self.dataset = dataset
        if dataset is not None:
            self.split = {name: tuple(images.names) for name, images in dataset.image_sets.items()}
        self._add(files.unreadable(seen, self.split))
        for finding, repair in values(seen):
            self.found.append(finding)
            self.repairs += [] if repair is None else [repair]
        for look_for in (unpaired.sizes, unpaired.unpaired, files.left_out, files.unlike, files.orientation):
            self._add(look_for(seen))
        if refused is not None and not self._has_error():
            self._refuse(unpaired.none_to_train(seen, refused))
        if dataset is None:
            return
        self.classes = classes_of(seen, dataset, self.split)
        self._add(() if self._has_error() else unlearnable(seen, dataset, self.split))
        self._add([*lists.duplicates(seen, self.split), *lists.near_duplicates(seen, self.split)])
        numbered = any(finding.kind in ("masks-count-from-1", "gaps") for finding in self.found)  # and so absent
        self._add(lists.classes([each for each in self.classes if each.images] if numbered else self.classes))
        self._add([*lists.tiny(seen, names_of(seen, dataset)), *lists.few(self.split, seen.options)])


_TOO_MANY = (
    "there are {:,} images: before a training only those with masks are looked into. `semiseg check` looks into all, "
    "and "
    "for duplicates among them"
)


class _Heard(logging.Handler):
    """The warnings of `semiseg.data` in here, which are kept instead of shown."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's words."""
        self.words.append(record.getMessage())

    def __enter__(self) -> list[str]:
        logger = logging.getLogger("semiseg.data")
        self.before = logger.propagate
        logger.addHandler(self)
        logger.propagate = False
        return self.words

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("semiseg.data")
        logger.removeHandler(self)
        logger.propagate = self.before


def _look(tree: Tree, readable: list[str], options: DataOptions, console: Console | None, all_images: bool) -> Seen:
    layout, looks = tree.layout, Looks(options.root)
    ids = list(layout.endings) if all_images else readable
    images = looks.all_of({id_: layout.image(id_) for id_ in ids}, ImageLook, "look at images", console)
    masks = looks.all_of({id_: layout.mask(id_) for id_ in readable}, MaskLook, "look at masks", console)
    looks.keep()
    return Seen(options, tree, images, masks)


def _opened(seen: Seen) -> tuple[Dataset | None, str | None]:
    """The dataset, as training would have it, or why there is none. Masks that were seen are not opened again."""
    mapping = dict(seen.reader.values_to or ())
    for id_, look in seen.masks.items():
        by_color = look.colored or (seen.reader.palette_colors and look.palette is not None)
        if look.error is None and not by_color and look.distinct == len(look.values):
            shares: Counter[int] = Counter()
            for value, count in look.values.items():
                shares[mapping.get(value, value)] += count
            seen.tree.seen[id_] = {value: count / look.pixels for value, count in shares.items()}
    try:
        with without_warnings("semiseg.data"):
            dataset = dataset_of(seen.tree, seen.options)
            if seen.options.on_error == "skip":
                dataset = without_damaged(dataset)
            check_lists(dataset, False, "", seen.options.val_trains)
    except ValueError as error:
        return None, str(error)
    return dataset, None


def _kind_of_refusal(words: str, otherwise: str) -> str:
    kinds = {
        "has a mask to train on": "no-masks",
        "none is left to train on": "no-masks",
        "to share between": "too-few-masks",
        "ways:": "two-layouts",
        "have the same name": "same-name",
        "data.yaml": "classes-file",
        "classes.txt": "classes-file",
        "UTF-8": "name-not-text",
        " list": "lists",
        ".txt": "lists",
    }
    return next((kind for text, kind in kinds.items() if text in words), otherwise)
