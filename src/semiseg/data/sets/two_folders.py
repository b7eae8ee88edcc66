"""Pictures and masks in two folders, for a model to be scored on: paired by name, and held against its classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from semiseg.config.checks import require
from semiseg.data.bands import Bands
from semiseg.data.dataset import Color
from semiseg.data.files import FileSet
from semiseg.data.images import decoded
from semiseg.data.layouts import KNOWN, PARTS, find_layout, mask_files, respelt_masks
from semiseg.data.listing import file_names, picture_endings, require_folder
from semiseg.data.masks import MaskReader, check_one_meaning, looks_binary
from semiseg.data.numbering import counted_from_one, numbering_mistake, one_class
from semiseg.data.pairs import masks_for
from semiseg.data.sets.data_file import read_meaning
from semiseg.data.spelling import folded
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Pairs:
    """Pictures with masks that can be read, and the others."""

    images: FileSet
    failed: dict[Path, str]
    """The files that cannot be read, each with a sentence that names it and the reason; their pairs are left out."""
    without_mask: tuple[Path, ...]
    """Pictures that have no mask."""


def open_pairs(
    images: Path, masks: Path, classes: tuple[str, ...], colors: tuple[Color, ...], bands: Bands | None = None
) -> Pairs:
    """The pictures below `images` with their masks below `masks`, whose classes are a model's `classes`.

    The mask of NAME.jpg is NAME.png, or NAME_mask.png, as in a dataset's folder; folders inside are part of the name.
    One folder that is given for both is read as a dataset's folder. Pictures are read as the model's `bands`. A mask
    holds indices, or the classes' colours, or 0 and 255 of two classes, or what classes.txt and data.yaml beside or in
    `masks` say; these must name the model's classes in their order. Every file is opened here: what cannot be read is
    listed, and masks that do not fit their pictures or the classes are refused before anything is predicted.

    Raises ValueError for a folder that is not there, without a pair, with classes that differ, or with such a mask.
    """
    for folder, what in ((images, "pictures"), (masks, "masks")):
        require_folder(folder, f". Expected a folder of {what}")
    reader = _reader(masks, classes, colors)
    files, without = _paired(images, masks)
    if without:
        log.warning(
            "%d of %d pictures in %s have no mask in %s and are left out: %s",
            *(len(without), len(files) + len(without), images, masks, _listed([path.name for path in without])),
        )
    failed = _unreadable(_file_set(files, reader, bands))
    files = {name: pair for name, pair in files.items() if not set(pair) & set(failed)}
    require(len(files) > 0, f"none of the pairs can be read. The first: {next(iter(failed.values()), '')}")
    made = _file_set(files, _fitting(reader, [mask for _, mask in files.values()], masks), bands)
    _require_fit(made)
    return Pairs(made, failed, tuple(without))


def _file_set(files: Mapping[str, tuple[Path, Path]], reader: MaskReader, bands: Bands | None) -> FileSet:
    pairs = files.values()
    made = FileSet("own", list(files), [image for image, _ in pairs], [mask for _, mask in pairs], reader)
    made.bands = bands
    return made


def _paired(images: Path, masks: Path) -> tuple[dict[str, tuple[Path, Path]], list[Path]]:
    """Name -> picture and mask, and the pictures without a mask."""
    if images.resolve() == masks.resolve():
        layout = find_layout(images)
        require(len(layout.masked) > 0, f"no picture in {images} has a mask there. It must hold {KNOWN}")
        for words in layout.doubts:
            log.warning("%s", words)
        there = {id_: layout.mask(id_) for id_ in layout.masked}
        paths = {id_: layout.image(id_) for id_ in layout.endings}
    else:
        endings, files = picture_endings(images), mask_files(masks)
        found = masks_for(endings, files)
        lacking = [id_ for id_ in endings if id_ not in found and not id_.isascii()]
        found |= {id_: f"{name}.png" for id_, name in respelt_masks(lacking, {*files} - {*found.values()}).items()}
        require(len(found) > 0, _no_pair(images, masks, endings))
        lone = sorted({*files} - {*found.values()})
        if lone:
            log.warning("%d mask(s) in %s belong to no picture in %s: %s", len(lone), masks, images, _listed(lone))
        there = {id_: masks / file for id_, file in found.items()}
        paths = {id_: images / (id_ + ending) for id_, ending in endings.items()}
    pairs = {id_: (path, there[id_]) for id_, path in paths.items() if id_ in there}
    return pairs, [path for id_, path in paths.items() if id_ not in there]


def _reader(masks: Path, classes: tuple[str, ...], colors: tuple[Color, ...]) -> MaskReader:
    """For the model's classes, with what classes.txt and data.yaml say of these masks.

    They may be in the masks' folder or the one above, and above a folder called train, val or test. Raises ValueError
    where they name other classes, or contradict one another.
    """
    folder = Path(os.path.abspath(masks))
    parts = {name for names in PARTS.values() for name in names}
    inside = {folder.name.lower(), folder.parent.name.lower()} & parts
    said: dict[Path, MaskReader] = {}
    for root in (folder, folder.parent, *([folder.parent.parent] if inside else [])):
        own = read_meaning(root, classes)
        if own.classes:
            _require_same(own.classes, classes, root)
        if own not in (MaskReader(()), MaskReader(classes)):  # more than names
            said[root] = own
    if len({*said.values()}) > 1:
        places = " and ".join(str(root) for root in said)
        raise ValueError(
            f"classes.txt or data.yaml in {places} say differently what the masks in {masks} mean. Keep the one that "
            "is right, and take the others away"
        )
    own = next(iter(said.values()), MaskReader(classes))
    return replace(own, colors=own.colors or colors)


def _require_same(own: tuple[str, ...], classes: tuple[str, ...], root: Path) -> None:
    """Raise ValueError unless the classes that a file in `root` names are the model's, in their order."""
    if own == classes:
        return
    file = next(path for path in (root / "classes.txt", root / "data.yaml") if path.is_file())
    place = next(
        (at for at, pair in enumerate(zip(own, classes, strict=False)) if pair[0] != pair[1]),
        min(len(own), len(classes)),
    )
    shown = [names[place] if place < len(names) else "none" for names in (own, classes)]
    order = ": the same names in another order" if sorted(own) == sorted(classes) else ""
    raise ValueError(
        f"{file} names {len(own)} classes and the model has {len(classes)}{order}; class {place} is {shown[0]!r} in "
        f"the file and {shown[1]!r} in the model. Write the masks' indices in the model's order, {_listed(classes)}, "
        f"and name them so in {file.name}"
    )


def _no_pair(images: Path, masks: Path, endings: dict[str, str]) -> str:
    first = next(iter(endings))
    alike = [name for name in sorted(file_names(masks)) if folded(first) in folded(name)]
    near = f" ({alike[0]!a} is there, which is spelt otherwise)" if alike else ""
    return (
        f"no picture in {images} has a mask in {masks}: the mask of {first}{endings[first]} would be "
        f"{masks / first}.png{near}. Give masks the names of their pictures, as PNG"
    )


def _unreadable(pairs: FileSet) -> dict[Path, str]:
    """The pictures and masks whose files are damaged, or no pictures for the model, with the reason."""
    failed: dict[Path, str] = {}
    for index, mask in enumerate(pairs.masks or ()):
        for path, read in ((pairs.images[index], partial(pairs.image, index)), (mask, partial(decoded, mask))):
            try:
                read()
            except ValueError as error:
                failed[path] = str(error)
    return failed


def _fitting(reader: MaskReader, paths: Sequence[Path], folder: Path) -> MaskReader:
    """The reader with its mind made up about 0 and 255, as of a dataset's folder.

    Raises ValueError for a plain mistake of numbering, and where 255, which would be ignored, seems to be a class.
    """
    masks: dict[str, dict[int, float]] = {}  # file -> value -> share
    for path in paths:
        values, counts = np.unique(reader.values(path), return_counts=True)
        masks[str(path)] = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
    found = frozenset[int]().union(*masks.values())
    mistake = numbering_mistake(found, reader.classes, folder)
    require(mistake is None, (mistake or "").replace("classes.txt names", "the model has"))
    unsaid = reader.ignore_color is None and reader.values_to is None and not reader.binary  # what 255 means
    if unsaid and len(reader.classes) == 2 and looks_binary(map(frozenset, masks.values())):
        log.warning("the masks in %s hold only 0 and 255: 255 is read as class 1, %r", folder, reader.classes[1])
        reader = replace(reader, binary=True)
    if reader.binary:
        found = frozenset(1 if value == IGNORE else value for value in found)
    _require_classes(found, reader.classes, folder, unsaid)
    doubt = check_one_meaning(masks, len(reader.classes)) if unsaid and not reader.binary else None
    if doubt is not None:
        log.warning("%s", doubt)
    return reader


def _require_classes(found: frozenset[int], classes: Sequence[str], folder: Path, unsaid: bool) -> None:
    """Raise ValueError where the masks show nothing, or one class beside a 255 of which nothing is said (`unsaid`).

    Classes that no mask shows are warned of.
    """
    require(
        found != {IGNORE},
        f"the masks in {folder} have no labelled pixel: every value is {IGNORE}, which is ignored. Draw their classes",
    )
    if unsaid and len(found) == 2 and IGNORE in found and min(found) in range(len(classes)):
        raise ValueError(
            f"{one_class(found, classes, f'masks in {folder}')}. If it is to be ignored, write `ignore: {IGNORE}` into "
            "data.yaml beside the masks"
        )
    absent = [index for index in range(len(classes)) if index not in found]
    if absent:
        log.warning(
            "%d of %d classes are in no mask in %s (%s): they cannot be scored. Are the masks' values the classes' "
            "indices?%s",
            *(len(absent), len(classes), folder, _listed([classes[each] for each in absent]), counted_from_one(absent)),
        )


def _require_fit(images: FileSet) -> None:
    """Read every mask as it will be scored. Raises ValueError with how many do not fit, and the first."""
    wrong: list[str] = []
    for index in range(len(images)):
        try:
            images.mask(index)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        count = "" if len(wrong) == 1 else f"{len(wrong)} of {len(images)} masks do not fit. The first: "
        raise ValueError(f"{count}{wrong[0]}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
