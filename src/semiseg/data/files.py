"""Image sets made of files, and the lists that name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.data.dataset import Color, Dataset, ImageSet, Pixels, split_record
from semiseg.data.images import read_image
from semiseg.data.masks import MaskReader

LIST_NAMES = ("labeled", "unlabeled", "val", "test")


@dataclass(frozen=True)
class NamedList:
    """The ids of one list, in order, and where they come from."""

    ids: Sequence[str]
    name: str  # the list file, the published split, or how the list was made
    source: str | None = None  # URL of a published list
    file_sha256: str | None = None  # of that file


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
        self.name = name
        self.names = names
        self.images = images
        self.masks = masks
        self.reader = reader
        self.has_masks = masks is not None

    def image(self, index: int) -> Pixels:
        return read_image(self.images[index])

    def mask(self, index: int) -> Pixels:
        if self.masks is None or self.reader is None:
            raise ValueError(f"the {self.name} images have no masks to read")
        return self.reader.read(self.masks[index], self.images[index])


def file_dataset(
    lists: Mapping[str, NamedList],
    image_path: Callable[[str], Path],
    mask_path: Callable[[str], Path],
    reader: MaskReader,
    colors: tuple[Color, ...],
) -> Dataset:
    """The dataset of `lists` (labeled, unlabeled, val and perhaps test), once every file is known to be there."""
    sets: dict[str, ImageSet] = {}
    for name, named in lists.items():
        images = [image_path(id_) for id_ in named.ids]
        masks = None if name == "unlabeled" else [mask_path(id_) for id_ in named.ids]
        _check_files(images, f"{name} images ({named.name})")
        _check_files(masks or (), f"{name} masks ({named.name})")
        sets[name] = FileSet(name, named.ids, images, masks, None if masks is None else reader)
    split = {
        name: split_record(sets[name], named.name, named.source, named.file_sha256) for name, named in lists.items()
    }
    return Dataset(
        reader.classes, colors, sets["labeled"], sets["unlabeled"], sets["val"], sets.get("test"), split=split
    )


def find_list(option: str, root: Path) -> Path:
    """The list file `option`: relative to the dataset's root, else to the current folder."""
    for path in (root / option, Path(option)):
        if path.is_file():
            return path
    raise ValueError(f"no list file {option!r}: neither {root / option} nor {Path(option).absolute()} exists")


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without blank ones and those that begin with #."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error}). Save it as plain text") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _check_files(paths: Sequence[Path], what: str) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(paths)} {what} are missing; the first is {missing[0]}. "
            "Put the files there, or take their names out of the list"
        )
