"""What a look at a dataset finds: its images, classes and split, and what is wrong with them, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from semiseg.config.options import DataOptions
from semiseg.runtime.files import plain

Level = Literal["note", "warning", "error"]
"""`error`: cannot train. `warning`: trains, and something is probably wrong. `note`: a fact to know."""

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""The gravest first."""
_SHOWN = 6  # sizes, and names of images, in a line of the table


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: str
    """A short name, such as `binary-masks`; docs/check.md explains each."""
    level: Level
    words: str
    """What is wrong, with the files, what was expected, and the repair."""
    files: tuple[Path, ...] = ()
    fix: str | None = None
    """What `semiseg check --fix` would do, in words; None where it cannot help."""


@dataclass(frozen=True)
class SeenImage:
    """One picture as its file has it; height and width are upright, as its EXIF orientation says.

    Both are 0 where it cannot be read.
    """

    id: str
    path: Path
    height: int
    width: int
    bands: int
    dtype: str  # uint8, uint16, float32 ...
    mode: str  # Pillow's, such as RGB, L, CMYK; of files that Pillow does not know, their format


@dataclass(frozen=True)
class SeenClass:
    """One class in the masks that were read."""

    name: str
    share: float  # of labelled pixels, 0..1
    images: int  # masks that show it
    validate: int  # validation masks that show it


@dataclass(frozen=True)
class Examination:
    """A dataset, looked at."""

    root: Path
    layout: str  # in words, such as `images/ and masks/`
    images: tuple[SeenImage, ...]
    masks: dict[str, Path]  # id -> its mask, of images with one
    classes: tuple[SeenClass, ...]
    split: dict[str, tuple[str, ...]]  # labeled, unlabeled, val, perhaps test -> ids
    options: DataOptions  # with which `open_dataset` reads exactly this
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing to say; 1: warnings; 2: it cannot be trained on."""
        levels = {finding.level for finding in self.findings}
        return 2 if "error" in levels else 1 if "warning" in levels else 0

    def table(self) -> list[str]:
        """What is there, in a few lines for a terminal."""
        return table_of(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON's types; the images are summed up by size, bands and type."""
        read = [image for image in self.images if image.height]
        kinds = Counter((image.height, image.width, image.bands, image.dtype) for image in read)
        names = ("height", "width", "bands", "dtype", "count")
        return plain(
            {
                "root": self.root,
                "layout": self.layout,
                "exit_code": self.exit_code,
                "images": [dict(zip(names, (*kind, count), strict=True)) for kind, count in kinds.most_common()],
                "not_read": len(self.images) - len(read),
                "masks": {id_: str(path) for id_, path in self.masks.items()},
                "classes": [asdict(each) for each in self.classes],
                "split": self.split,
                "findings": [asdict(each) for each in self.findings],
            }
        )


def table_of(found: Examination) -> list[str]:
    """The lines of `Examination.table`."""
    lines = [f"{found.root}: {found.layout}"]
    if found.images:
        read = [image for image in found.images if image.height]
        lost = len(found.images) - len(read)
        words = f", {lost:,} cannot be read" if lost else ""
        lines.append(_row("images", f"{len(found.images):,}, {len(found.masks):,} of them with a mask{words}"))
        sizes = Counter(f"{image.width} x {image.height}" for image in read)
        kinds = Counter(f"{image.bands} band{'s' * (image.bands > 1)} of {image.dtype}" for image in read)
        lines += [_row("sizes", _counted(sizes, len(read))), _row("pixels", _counted(kinds, len(read)))] if read else []
    lines += _class_lines(found.classes)
    for name, words in (("labeled", "train"), ("val", "validate"), ("test", "test"), ("unlabeled", "unlabelled")):
        ids = found.split.get(name)
        if ids is not None:
            shown = f": {', '.join(ids[:_SHOWN])}{', ...' * (len(ids) > _SHOWN)}" if ids and name == "val" else ""
            lines.append(_row(words, f"{len(ids):,}{shown}"))
    return lines


def _row(name: str, words: str) -> str:
    return f"  {name:<11} {words}"


def _counted(counts: Counter[str], total: int) -> str:
    if len(counts) == 1:
        return f"all {next(iter(counts))}" if total > 1 else next(iter(counts))
    few = [f"{words} ({count:,})" for words, count in counts.most_common(_SHOWN)]
    return ", ".join(few) + (f" and {len(counts) - _SHOWN} other sizes" if len(counts) > _SHOWN else "")


def _class_lines(classes: Sequence[SeenClass]) -> list[str]:
    if not classes:
        return []
    width = max(len("class"), *(len(each.name) for each in classes))
    lines = [_row("classes", f"{'class':<{width}}  {'pixels':>7}  {'masks':>5}  {'validate':>8}")]
    for each in classes:
        share = f"{each.share:.1%}" if each.share >= 0.001 or not each.share else "< 0.1%"
        lines.append(_row("", f"{each.name:<{width}}  {share:>7}  {each.images:>5}  {each.validate:>8}"))
    return lines
