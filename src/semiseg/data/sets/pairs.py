"""Pictures and masks in two folders of one's own, paired by name and held against a model's classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from semiseg.data.pairs import candidates, masks_for
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
        require(len(candidates(images)) > 0, f"no picture in {images} has a mask there. It must hold {KNOWN}")
        layout = find_layout(images)
        there = {id_: layout.mask(id_) for id_ in layout.masked}
        paths = {id_: layout.image(id_) for id_ in layout.endings}
    else:
        endings, files = picture_endings(images), mask_files(masks)
        found = masks_for(endings, files)
        lacking = [id_ for id_ in endings if id_ not in found and not id_.isascii()]
        found |= {id_: f"{name}.png" for id_, name in respelt_masks(lacking, {*files} - {*found.values()}).items()}
        require(len(found) > 0, _no_pair(images, masks, endings))
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
    assert pairs.masks is not None
    failed: dict[Path, str] = {}
    for index, (image, mask) in enumerate(zip(pairs.images, pairs.masks, strict=True)):
        for path, read in ((image, lambda index=index: pairs.image(index)), (mask, lambda mask=mask: decoded(mask))):
            try:
                read()
            except ValueError as error:
                failed[path] = str(error)
    return failed


def _fitting(reader: MaskReader, paths: Sequence[Path], folder: Path) -> MaskReader:
    """The reader with its mind made up about 0 and 255, as of a dataset's folder.

    Raises ValueError for a plain mistake of numbering, and where 255, which would be ignored, seems to be a class.
    """
    shares: dict[str, dict[int, float]] = {}
    for path in paths:
        values, counts = np.unique(reader.values(path), return_counts=True)
        shares[str(path)] = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
    total: dict[int, float] = {}  # value -> mean share
    for each in shares.values():
        for value, share in each.items():
            total[value] = total.get(value, 0) + share / len(shares)
    unsaid = reader.ignore_color is None and reader.values_to is None and not reader.binary
    if unsaid and len(reader.classes) == 2 and looks_binary(map(frozenset, shares.values())):
        log.warning("the masks in %s hold only 0 and 255: 255 is read as class 1, %r", folder, reader.classes[1])
        reader = replace(reader, binary=True)
    mistake = numbering_mistake(total, reader.classes, folder)
    require(mistake is None, (mistake or "").replace("classes.txt names", "the model has"))
    if unsaid and not reader.binary:
        doubt = check_one_meaning(shares) if len(reader.classes) == 2 else _objects_ignored(shares, total, folder)
        if doubt is not None:
            log.warning("%s", doubt)
    shown = {1 if reader.binary and value == IGNORE else value: share for value, share in total.items()}
    _require_classes(shown, reader.classes, folder, unsaid)
    return reader


_IGNORE_SAID = f"If it is to be ignored, write `ignore: {IGNORE}` into data.yaml beside the masks"


def _objects_ignored(masks: Mapping[str, Mapping[int, float]], total: Mapping[int, float], folder: Path) -> str | None:
    """The same as `check_one_meaning` of more than two classes: masks of 0 and 255 alone, while others show classes."""
    alone = {file: shares[IGNORE] for file, shares in masks.items() if set(shares) == {0, IGNORE}}
    if not alone or set(total) == {0, IGNORE}:
        return None
    first = next(iter(alone))
    what = (
        f"{len(alone)} of {len(masks)} masks in {folder} hold 0 and {IGNORE} alone, such as {first}, with {IGNORE} at "
        f"{alone[first]:.1%} of its pixels"
    )
    if 2 * len(alone) < len(masks):
        return f"{what}. {IGNORE} is ignored in all masks: where it stands for a class, write the class's index"
    raise ValueError(
        f"{what}. {IGNORE} would be ignored in all masks, though it seems to be a class in most. If it is, write the "
        f"class's index. {_IGNORE_SAID}"
    )


def _require_classes(total: Mapping[int, float], classes: Sequence[str], folder: Path, unsaid: bool) -> None:
    """Raise ValueError where all masks show nothing, or one class beside pixels that are ignored `unsaid`.

    Classes that no mask shows are warned of.
    """
    require(
        bool({*total} - {IGNORE}),
        f"the masks in {folder} have no labelled pixel: every value is {IGNORE}, which is ignored. Draw their classes",
    )
    if unsaid and len(total) == 2 and IGNORE in total:
        shares = " and ".join(f"{value} at {share:.1%}" for value, share in sorted(total.items()))
        raise ValueError(
            f"{one_class(total, classes, f'masks in {folder}')} ({shares} of their pixels). {_IGNORE_SAID}"
        )
    absent = [index for index in range(len(classes)) if index not in total]
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
