"""classes.txt: the names of the classes and, for colour-coded masks, their colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from semiseg.config.checks import shown
from semiseg.data.dataset import Color
from semiseg.data.listing import read_lines
from semiseg.data.masks import MAX_CLASSES, MaskReader
from semiseg.data.spelling import by_normal_form
from semiseg.data.texts import is_text_file
from semiseg.types import IGNORE

_COLORED = re.compile(r"(?P<name>.*\S)\s+(?P<red>[0-9]+)\s+(?P<green>[0-9]+)\s+(?P<blue>[0-9]+)")


def read_classes(path: Path) -> MaskReader:
    """How classes.txt says masks are read; without that file, a reader whose classes are empty.

    A line is a name, or a name and its colour in colour-coded masks; `ignore r g b` is the colour of ignored pixels.
    A line that begins with # is a comment, always: no class's name does. Raises ValueError for what is no text, fewer
    than 2 classes, more than 255, a name or a colour given twice, or only some colours.
    """
    if not is_text_file(path):
        return MaskReader(())
    names: list[str] = []
    colors: list[Color | None] = []
    for line in read_lines(path):
        match = _COLORED.fullmatch(line)
        names.append(match["name"] if match else line)
        parts = match.group("red", "green", "blue") if match else None
        colors.append(None if parts is None else (int(parts[0][-9:]), int(parts[1][-9:]), int(parts[2][-9:])))
        if max(colors[-1] or (0,)) > 255 or any(len(part) > 9 for part in parts or ()):
            raise ValueError(
                f"{path}: {shown(line)} has a colour beyond 255; expected `name red green blue`, each 0..255"
            )
    ignore_color = None
    if names.count("ignore") == 1:
        place = names.index("ignore")
        names.pop(place)
        ignore_color = colors.pop(place)
        if ignore_color is None:
            raise ValueError(f"{path} has a line `ignore` without a colour; {IGNORE} is ignored anyway: take it out")
    _check_classes(path, names, [*colors, ignore_color] if ignore_color else colors)
    known = tuple(color for color in colors if color is not None)
    return MaskReader(tuple(names), known or None, ignore_color)


def _check_classes(path: Path, names: Sequence[str], colors: Sequence[Color | None]) -> None:
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{path} names {len(names)} classes; expected 2 to {MAX_CLASSES}, one per line (a line that begins with # "
            "is a comment). Name all classes, in the order of their indices"
        )
    if None in colors and any(colors):
        raise ValueError(f"{path} gives only some of its classes a colour; give all of them one, or none")
    groups = [several for several in by_normal_form(names).values() if len(several) > 1]
    # Two spellings of one name look the same, and are shown by their code points.
    twice = {name if len({*several}) == 1 else ascii(name) for several in groups for name in several}
    twice |= {str(color) for color in colors if color is not None and colors.count(color) > 1}
    if twice:
        raise ValueError(f"{path} has {', '.join(sorted(twice))} more than once; class names and colours must differ")
