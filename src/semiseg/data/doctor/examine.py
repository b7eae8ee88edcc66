"""`examine`: a dataset looked into before anything is computed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from semiseg.config.options import DataOptions, require
from semiseg.data import check_lists
from semiseg.data.damage import remember_whole, without_damaged
from semiseg.data.dataset import Dataset
from semiseg.data.doctor import files, lists, unpaired
from semiseg.data.doctor.examination import LEVELS, Examination, Finding, SeenClass, SeenImage
from semiseg.data.doctor.looks import ImageLook, Looks, MaskLook, look_at_image, look_at_mask
from semiseg.data.doctor.repairs import Repair, apply
from semiseg.data.doctor.seen import Seen
from semiseg.data.doctor.values import values
from semiseg.data.sets.folder import Tree, dataset_of, masks_to_read, scan
from semiseg.runtime.screen import without_warnings
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

MOST_BEFORE_TRAINING = 200_000
"""Images that are looked into before a training; of more, only the images with masks are, and the rest are opened."""

SAID_WHEN_OPENED = {
    "unpaired", "without-mask", "binary-masks", "two-meanings", "absent-classes", "class-not-in-val",
}  # fmt: skip
"""Kinds of warnings that `open_dataset` gives in its own words."""


def examine(options: DataOptions, *, console: Console | None = None, most: int | None = None) -> Examination:
    """Look into the folder that `options` describe: every file, the masks' values, the split.

    `console` shows progress; None: the terminal. Of more than `most` images, only those with masks are looked into.
    Raises ValueError where the dataset is no folder of one's own; whatever is wrong with the folder is a finding.
    """
    return _examined(options, console, most)[0]


def repair(options: DataOptions, *, console: Console | None = None) -> list[str]:
    """Write what the findings offer, classes.txt or data.yaml; returns what was done, in words."""
    _, repairs = _examined(options, console, None)
    return apply(options.root, repairs[:1])


def check_before_training(options: DataOptions, console: Console | None = None) -> None:
    """Warn of what `examine` finds. Raises ValueError, with all that is wrong, where it cannot be trained on."""
    found = examine(options, console=console, most=MOST_BEFORE_TRAINING)
    errors = [finding for finding in found.findings if finding.level == "error"]
    if errors:
        raise ValueError("; ".join(finding.words for finding in errors) + _how(errors, found.root))
    for finding in found.findings:
        if finding.level == "warning" and finding.kind not in SAID_WHEN_OPENED:
            log.warning("%s", finding.words)


def _how(errors: list[Finding], root: Path) -> str:
    return f". `semiseg check {root} --fix` writes that file" if any(each.fix for each in errors) else ""


def _examined(options: DataOptions, console: Console | None, most: int | None) -> tuple[Examination, list[Repair]]:
    require(
        options.dataset == "folder",
        f"data.dataset is {options.dataset}; expected folder: the check is for images and masks of one's own",
    )
    try:
        with _heard() as heard:
            tree = scan(options)
            readable = masks_to_read(tree, options)
    except ValueError as error:
        finding = Finding("layout", "error", str(error))
        return Examination(options.root, "not understood", (), {}, (), {}, options, (finding,)), []
    seen = _look(tree, readable, options, console, most)
    found = [Finding("other-formats", "warning", words) for words in heard if "are left out, for" in words]
    pairs = [*values(seen)]
    for check in (files.unreadable, unpaired.sizes, unpaired.unpaired, files.left_out, files.unlike, files.orientation):
        found += check(seen)
    found += [finding for finding, _ in pairs]
    dataset, refused = _opened(seen, found)
    found += [] if refused is None else [refused]
    split = {} if dataset is None else {name: tuple(images.names) for name, images in dataset.image_sets.items()}
    classes = () if dataset is None else _classes(seen, dataset, split)
    found += lists.duplicates(seen, split)
    found += lists.near_duplicates(seen, split)
    if dataset is not None:
        found += lists.classes(classes, seen)
        found += lists.tiny(seen, _names(seen, dataset))
        found += _few_images(split)
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    if dataset is not None and not any(finding.level == "error" for finding in found) and most is not None:
        remember_whole(dataset) if len(seen.images) == len(tree.layout.endings) else None
    images = tuple(_image(seen, id_, look) for id_, look in seen.images.items())
    masks = {id_: tree.layout.mask(id_) for id_ in tree.masked}
    words = tree.layout.words
    return Examination(options.root, words, images, masks, classes, split, options, tuple(found)), [
        repair for _, repair in pairs if repair is not None
    ]


class _heard(logging.Handler):  # noqa: N801
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


def _look(tree: Tree, readable: list[str], options: DataOptions, console: Console | None, most: int | None) -> Seen:
    layout, looks = tree.layout, Looks(options.root)
    ids = list(layout.endings)
    if most is not None and len(ids) > most:
        ids = tree.masked
    images = looks.all_of({id_: layout.image(id_) for id_ in ids}, look_at_image, "look at images", console)
    masks = looks.all_of({id_: layout.mask(id_) for id_ in readable}, look_at_mask, "look at masks", console)
    looks.keep()
    return Seen(options, tree, images, masks)


def _opened(seen: Seen, found: list[Finding]) -> tuple[Dataset | None, Finding | None]:
    """The dataset, as training would have it, and why there is none, where that is no finding yet."""
    for id_, look in seen.masks.items():
        if look.error is None and not look.colored and look.distinct == len(look.values):
            pixels = look.pixels
            mapped: Counter[int] = Counter()
            for value, count in look.values.items():
                mapped[dict(seen.reader.values_to or ()).get(value, value)] += count
            if not (seen.reader.palette_colors and look.palette is not None):
                seen.tree.seen[id_] = {value: count / pixels for value, count in mapped.items()}
    try:
        with without_warnings("semiseg.data"):
            dataset = dataset_of(seen.tree, seen.options)
            if seen.options.on_error == "skip":
                dataset = without_damaged(dataset)
            check_lists(dataset, False, "", seen.options.val_trains)
    except ValueError as error:
        known = any(finding.level == "error" for finding in found)
        return None, None if known else Finding(_kind_of_refusal(str(error)), "error", str(error))
    return dataset, None


def _kind_of_refusal(words: str) -> str:
    kinds = {"has a mask to train on": "no-masks", "to share between": "too-few-masks", "list": "lists"}
    return next((kind for text, kind in kinds.items() if text in words), "cannot-train")


def _names(seen: Seen, dataset: Dataset) -> dict[int, str]:
    """Value in the masks' files -> its class."""
    if seen.reader.values_to is not None:
        return {value: dataset.classes[index] for value, index in seen.reader.values_to if index != IGNORE}
    if seen.reader.colors is not None and any(look.colored for look in seen.masks.values()):
        return {
            (red << 16) + (green << 8) + blue: name
            for (red, green, blue), name in zip(dataset.colors, dataset.classes, strict=True)
        }
    if dataset.binary:
        return {0: dataset.classes[0], IGNORE: dataset.classes[1]}
    return dict(enumerate(dataset.classes))


def _classes(seen: Seen, dataset: Dataset, split: Mapping[str, tuple[str, ...]]) -> tuple[SeenClass, ...]:
    names = _names(seen, dataset)
    if seen.reader.palette_colors:
        names = {}
    pixels: Counter[str] = Counter()
    shown: dict[str, Counter[str]] = {"": Counter(), "val": Counter()}
    for name in ("labeled", "val", "test"):
        for id_ in split.get(name, ()):
            look = seen.masks.get(id_)
            if look is None or look.error is not None:
                continue
            held = _held(look, names, seen, id_)
            pixels.update(held)
            shown[""].update(held.keys())
            if name == "val":
                shown["val"].update(held.keys())
    total = max(sum(pixels.values()), 1)
    return tuple(SeenClass(name, pixels[name] / total, shown[""][name], shown["val"][name]) for name in dataset.classes)


def _held(look: MaskLook, names: Mapping[int, str], seen: Seen, id_: str) -> Counter[str]:
    """Class -> pixels of one mask."""
    held: Counter[str] = Counter()
    for value, count in look.values.items():
        code = look.palette[value] if seen.reader.palette_colors and look.palette is not None else value
        name = _by_color(seen, code) if seen.reader.palette_colors and look.palette is not None else names.get(code)
        if name is not None:
            held[name] += count
    return held


def _by_color(seen: Seen, code: int) -> str | None:
    known = zip(seen.reader.colors or (), seen.reader.classes, strict=False)
    return next((name for (red, green, blue), name in known if (red << 16) + (green << 8) + blue == code), None)


def _few_images(split: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    if not split.get("unlabeled") and "unlabeled" in split:
        yield Finding(
            "no-unlabelled",
            "warning",
            "every image has a mask, and none is left to learn from without. Add images without masks, in images/ or "
            "unlabeled/, or train with --method supervised",
        )
    if 0 < len(split["val"]) < 10:
        words = (
            f"only {len(split['val'])} image(s) validate: a score from so few says little. Add masks, or cross-validate"
        )
        yield Finding("few-validate", "note", words)


def _image(seen: Seen, id_: str, look: ImageLook) -> SeenImage:
    path = seen.tree.layout.image(id_)
    return SeenImage(id_, path, look.height, look.width, look.bands, look.dtype, look.mode)
