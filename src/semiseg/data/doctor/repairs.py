"""What `semiseg check --fix` writes: classes.txt or data.yaml, never a picture, and no file without keeping it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.data.dataset import Color
from semiseg.runtime.files import write_atomically

_HEAD = "# What the masks hold: written by `semiseg check --fix`. Give the classes the names you like.\n"


@dataclass(frozen=True)
class Repair:
    """A file beside the images that says how the masks are meant."""

    file: str  # classes.txt or data.yaml
    content: str

    @property
    def words(self) -> str:
        """What is written, for a finding."""
        lines = [line for line in self.content.splitlines() if line and not line.startswith("#")]
        return f"writes {self.file}: {'; '.join(lines[:8])}{'; ...' * (len(lines) > 8)}"


def values_repair(root: Path, classes: Sequence[str], values: Mapping[int, int | str]) -> Repair:
    """A data.yaml that maps values to classes, or to `ignore`; it names the classes unless classes.txt does."""
    pairs = ", ".join(f"{value}: {index}" for value, index in values.items())
    names = "" if (root / "classes.txt").is_file() else f"classes: {json.dumps(list(classes), ensure_ascii=False)}\n"
    return Repair("data.yaml", f"{_HEAD}{names}values: {{{pairs}}}\n")


def colors_repair(names: Sequence[str], colors: Sequence[Color]) -> Repair:
    """A classes.txt with a line for each class and its colour."""
    lines = [f"{name} {red} {green} {blue}" for name, (red, green, blue) in zip(names, colors, strict=True)]
    return Repair("classes.txt", _HEAD + "\n".join(lines) + "\n")


def more_colors_repair(path: Path, colors: Sequence[Color], first: int) -> Repair:
    """classes.txt as it is, with further classes."""
    lines = [f"class_{first + index} {red} {green} {blue}" for index, (red, green, blue) in enumerate(colors)]
    return Repair("classes.txt", path.read_text("utf-8").rstrip("\n") + "\n" + "\n".join(lines) + "\n")


def apply(root: Path, repairs: Sequence[Repair]) -> list[str]:
    """Write the files into `root`, and keep what was there under another name. Returns what was done, in words."""
    done = []
    for repair in repairs:
        path, kept = root / repair.file, None
        if path.exists():
            numbers = range(1, 10_000)
            kept = next(new for number in numbers if not (new := root / f"{repair.file}.before-{number}").exists())
            content = path.read_bytes()
            write_atomically(kept, lambda file, content=content: file.write(content))
        write_atomically(path, lambda file, text=repair.content: file.write(text.encode()))
        done.append(f"wrote {path}" + (f"; what it held is in {kept.name}" if kept is not None else ""))
    return done
