"""Image sets made of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.data.bands import Mapped, differs
from semiseg.data.dataset import Color, Dataset, ImageSet, Pixels, split_record
from semiseg.data.decode_cache import file_key
from semiseg.data.deep import Stored, Values, look, read_values
from semiseg.data.images import image_size, read_image
from semiseg.data.listing import are_there, file_names
from semiseg.data.masks import MaskReader
from semiseg.data.names import Names, OnDemand
from semiseg.data.spelling import folded
from semiseg.data.texts import explained


@dataclass(frozen=True)
class NamedList:
    """The ids of one list, in order, and where they come from."""

    ids: Sequence[str]
    name: str  # the list file, the published split, or how the list was made
    source: str | None = None  # URL of a published list
    file_sha256: str | None = None  # of that file


IN_SHARDS = NamedList((), "in shards")
"""Stands for the unlabelled list until `with_shards` fills it."""


class ImageFiles(OnDemand[Path]):
    """The files `folder`/ID + ENDING, from the ids and their endings; an ending is kept as one byte."""

    def __init__(self, folder: Path, names: Sequence[str], endings: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.endings = sorted(set(endings))  # .jpg, .JPG ...: pictures' endings can be written in fewer than 256 ways
        codes = {ending: code for code, ending in enumerate(self.endings)}
        self.codes = np.fromiter(map(codes.__getitem__, endings), np.uint8, len(names))  # (images,)

    def __len__(self) -> int:
        return len(self.names)

    def item(self, place: int) -> Path:
        return self.folder / (self.names[place] + self.endings[self.codes[place]])

    def inside(self) -> list[str]:
        """Every path, as text and relative to `folder`."""
        return [id_ + self.endings[code] for id_, code in zip(self.names, self.codes.tolist(), strict=True)]


class MaskFiles(OnDemand[Path]):
    """Where the masks of `names` would be."""

    def __init__(self, names: Sequence[str], path: Callable[[str], Path]) -> None:
        self.names, self.path = names, path

    def __len__(self) -> int:
        return len(self.names)

    def item(self, place: int) -> Path:
        return self.path(self.names[place])


class FileSet(ImageSet):
    """Images in files; `masks` and `reader` are None where there are no masks to be read."""

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        images: Sequence[Path],
        masks: Sequence[Path] | None = None,
        reader: MaskReader | None = None,
    ) -> None:
        self.name, self.names, self.has_masks = name, names, masks is not None
        self.images, self.masks, self.reader = images, masks, reader

    def image(self, index: int) -> Pixels | Mapped:
        """(H, W, 3) uint8, RGB; with `bands` (H, W, N) float32 in [0, 1].

        Raises ValueError for a file that cannot be read, or with other bands than the set's.
        """
        path = self.images[index]
        if self.bands is not None:
            return self.bands.read(path)
        try:
            return read_image(path)
        except ValueError:
            if self.first and not (stored := look(path)).plain:  # which raises, too, where it is damaged
                raise differs(path, stored, self.first) from None
            raise

    def stored(self, index: int) -> Stored:
        return look(self.images[index])

    def values(self, index: int) -> tuple[Values, float | None]:
        values, stored = read_values(self.images[index], asked=self.bands and self.bands.count)
        return values, stored.nodata

    def file(self, index: int) -> str:
        return str(self.images[index])

    def mask(self, index: int) -> Pixels:
        if self.masks is None or self.reader is None:
            raise ValueError(f"the {self.name} images have no masks to read")
        path = self.images[index]
        stored = None if self.bands is None else look(path)
        size = None if stored is None else (stored.height, stored.width)
        return self.reader.read(self.masks[index], path, size)

    def reduced(self, index: int, scale: float) -> tuple[Pixels, tuple[int, int]]:
        return read_image(self.images[index], scale=scale), image_size(self.images[index])

    def files_key(self, index: int, what: str) -> str | None:
        if what == "image" or self.masks is None:
            return file_key(self.images[index])
        files = file_key(self.masks[index], self.images[index])
        return None if files is None else f"{self.reader!r}\0{files}"


def file_dataset(
    lists: Mapping[str, NamedList],
    folder: Path,
    ending: Callable[[str], str],
    mask_path: Callable[[str], Path],
    reader: MaskReader,
    colors: tuple[Color, ...],
    known: bool = False,
    stem: Callable[[str], str] | None = None,
) -> Dataset:
    """The dataset of `lists` (labeled, unlabeled, val and perhaps test), once every file is known to be there.

    The image of an id is `folder`/ID + `ending`(ID), with `stem`(ID) for ID where that is given. `known` says that this
    is so for every image, as of a folder that was just listed. Raises ValueError for a missing file, and for a name
    that is no text.
    """
    sets: dict[str, FileSet] = {}
    split: dict[str, dict[str, Any]] = {}
    for name, named in lists.items():
        _check_texts(named.ids, folder)
        ids = Names.pack(named.ids)
        stems = ids if stem is None else Names.pack(map(stem, named.ids))
        images = ImageFiles(folder, stems, [*map(ending, named.ids)])
        masks = None if name == "unlabeled" else [mask_path(id_) for id_ in named.ids]
        if not known:
            _check_files(images, are_there(folder, images.inside()), f"{name} images ({named.name})")
        _check_files(masks or (), map(_is_file, masks or ()), f"{name} masks ({named.name})")
        sets[name] = FileSet(name, ids, images, masks, None if masks is None else reader)
        split[name] = split_record(sets[name], named.name, named.source, named.file_sha256)
    unlabeled = sets["unlabeled"]
    hidden = FileSet("hidden", unlabeled.names, unlabeled.images, MaskFiles(unlabeled.names, mask_path), reader)
    listed = sets["labeled"], unlabeled, sets["val"], sets.get("test")
    return Dataset(reader.classes, colors, *listed, split=split, hidden=hidden, binary=reader.binary)


def _is_file(path: Path) -> bool:
    """Raises ValueError where one may not look."""
    with explained(path):
        return path.is_file()


def _check_texts(names: Sequence[str], folder: Path) -> None:
    """Refuse names in another encoding than UTF-8, which no list, result or report could say."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        wrong = next(name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name))
        raise ValueError(
            f"the image {wrong!a} in {folder} has a name that is not in UTF-8 (\\udcXX stands for byte 0xXX). Rename "
            "it, and its mask: `convmv -r --notest -f latin1 -t utf8 FOLDER` renames all, if they are in Latin-1"
        ) from None


def _check_files(paths: Sequence[Path], there: Iterable[bool], what: str) -> None:
    missing = [place for place, found in enumerate(there) if not found]
    if missing:
        first = paths[missing[0]]
        alike = [name for name in file_names(first.parent) if folded(name) == folded(first.name)]
        near = f" ({alike[0]!a} is there, which is spelt otherwise)" if alike else ""
        raise ValueError(
            f"{len(missing)} of the {len(paths)} {what} are missing; the first is {first}{near}. "
            "Put the files there, or take their names out of the list"
        )
