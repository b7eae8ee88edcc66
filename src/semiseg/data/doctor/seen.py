"""What the checks of the doctor are given: a folder, its files, and a look into each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from semiseg.config.options import DataOptions
from semiseg.data.doctor.looks import ImageLook, MaskLook
from semiseg.data.masks import MaskReader
from semiseg.data.sets.folder import Tree

_NAMED = 5  # files in a finding's words


@dataclass(frozen=True)
class Seen:
    """A folder of images and masks, looked into."""

    options: DataOptions
    tree: Tree
    images: Mapping[str, ImageLook]  # by id; without the pictures that were not looked into
    masks: Mapping[str, MaskLook]  # of the images whose masks are read at all

    @property
    def root(self) -> Path:
        """The folder."""
        return self.options.root

    @property
    def reader(self) -> MaskReader:
        """How masks are read, as far as classes.txt and data.yaml say."""
        return self.tree.reader

    def images_of(self, ids: Iterable[str]) -> tuple[Path, ...]:
        """The pictures' files."""
        return tuple(map(self.tree.layout.image, ids))

    def masks_of(self, ids: Iterable[str]) -> tuple[Path, ...]:
        """The masks' files."""
        return tuple(map(self.tree.layout.mask, ids))

    def named(self, paths: Iterable[Path]) -> str:
        """The first few of the files, by their paths inside the folder."""
        paths = tuple(paths)
        inside = [_inside(path, self.root) for path in paths[:_NAMED]]
        return ", ".join(inside) + (f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else "")


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def total_of(looks: Mapping[str, MaskLook]) -> Counter[int]:
    """Value -> pixels, of all masks."""
    total: Counter[int] = Counter()
    for look in looks.values():
        total.update(look.values)
    return total


def holding(looks: Mapping[str, MaskLook], wanted: set[int]) -> list[str]:
    """The masks that hold one of the values."""
    return [id_ for id_, look in looks.items() if not wanted.isdisjoint(look.values)]
