"""Pictures and masks in two folders of one's own, paired by name and held against a model's classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semiseg.config.checks import require
from semiseg.data.dataset import Color
from semiseg.data.files import FileSet
from semiseg.data.images import decoded, read_image
from semiseg.data.listing import file_names, files_below, picture_endings, require_folder
from semiseg.data.masks import MaskReader, looks_binary
from semiseg.data.numbering import numbering_mistake
from semiseg.data.sets.classes import read_classes
from semiseg.data.spelling import folded

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


def open_pairs(images: Path, masks: Path, classes: tuple[str, ...], colors: tuple[Color, ...]) -> Pairs:
    """The pictures below `images` with their masks below `masks`, whose classes are a model's `classes`.

    The mask of NAME.jpg is NAME.png, as in a dataset's folder; folders inside are part of the name. A mask holds
    indices, or the classes' colours, or 0 and 255 of two classes. A classes.txt beside or in `masks` must name the
    model's classes in their order. Every file is opened here: what cannot be read is listed, and a mask that does not
    fit its picture or the classes is refused before anything is predicted.

    Raises ValueError for a folder that is not there, without a pair, with classes that differ, or with such a mask.
    """
    for folder, what in ((images, "pictures"), (masks, "masks")):
        require_folder(folder, f". Expected a folder of {what}")
    reader = _reader(masks, classes, colors)
    endings = picture_endings(images)
    there = {file.removesuffix(".png") for file in files_below(masks, lambda entry: entry.is_file())}
    paired = [name for name in endings if name in there]
    require(len(paired) > 0, _no_pair(images, masks, endings))
    without = tuple(images / (name + endings[name]) for name in endings if name not in there)
    if without:
        log.warning(
            "%d of %d pictures in %s have no mask in %s and are left out: %s",
            *(len(without), len(endings), images, masks, _listed([path.name for path in without])),
        )
    files = {name: (images / (name + endings[name]), masks / f"{name}.png") for name in paired}
    failed = _unreadable(files)
    names = [name for name, pair in files.items() if not set(pair) & set(failed)]
    require(len(names) > 0, f"none of the {len(files)} pairs can be read. The first: {next(iter(failed.values()), '')}")
    pairs = [files[name] for name in names]
    reader = _fitting(reader, [mask for _, mask in pairs], masks)
    made = FileSet("own", names, [image for image, _ in pairs], [mask for _, mask in pairs], reader)
    _require_fit(made)
    return Pairs(made, failed, without)


def _reader(masks: Path, classes: tuple[str, ...], colors: tuple[Color, ...]) -> MaskReader:
    """For the model's classes; a classes.txt may give their colours in these masks, and must not name others."""
    model = MaskReader(classes, colors)
    file = next((path for path in (masks / "classes.txt", masks.parent / "classes.txt") if path.is_file()), None)
    if file is None:
        return model
    own = read_classes(file)
    if own.classes and own.classes != classes:
        place = next(
            (at for at, pair in enumerate(zip(own.classes, classes, strict=False)) if pair[0] != pair[1]),
            min(len(own.classes), len(classes)),
        )
        shown = [names[place] if place < len(names) else "none" for names in (own.classes, classes)]
        order = ": the same names in another order" if sorted(own.classes) == sorted(classes) else ""
        raise ValueError(
            f"{file} names {len(own.classes)} classes and the model has {len(classes)}{order}; class {place} is "
            f"{shown[0]!r} in the file and {shown[1]!r} in the model. Write the masks' indices in the model's order, "
            f"{_listed(classes)}, and name them so in classes.txt"
        )
    return replace(model, colors=own.colors or colors, ignore_color=own.ignore_color)


def _no_pair(images: Path, masks: Path, endings: dict[str, str]) -> str:
    first = next(iter(endings))
    alike = [name for name in sorted(file_names(masks)) if folded(first) in folded(name)]
    near = f" ({alike[0]!a} is there, which is spelt otherwise)" if alike else ""
    return (
        f"no picture in {images} has a mask in {masks}: the mask of {first}{endings[first]} would be "
        f"{masks / first}.png{near}. Give masks the names of their pictures, as PNG"
    )


def _unreadable(files: dict[str, tuple[Path, Path]]) -> dict[Path, str]:
    """The pictures and masks whose files are damaged, with the reason."""
    failed: dict[Path, str] = {}
    for image, mask in files.values():
        for path, read in ((image, read_image), (mask, decoded)):
            try:
                read(path)
            except ValueError as error:
                failed[path] = str(error)
    return failed


def _fitting(reader: MaskReader, paths: Sequence[Path], folder: Path) -> MaskReader:
    """The reader with its mind made up about 0 and 255. Raises ValueError for a plain mistake of numbering."""
    shown: list[frozenset[int]] = []
    for path in paths:
        shown.append(frozenset(np.unique(reader.values(path)).tolist()))
    if len(reader.classes) == 2 and reader.ignore_color is None and looks_binary(shown):
        log.warning("the masks in %s hold only 0 and 255: 255 is read as class 1, %r", folder, reader.classes[1])
        return replace(reader, binary=True)
    mistake = numbering_mistake(frozenset().union(*shown), reader.classes, folder)
    require(mistake is None, (mistake or "").replace("classes.txt names", "the model has"))
    return reader


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
