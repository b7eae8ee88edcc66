"""data.yaml: what the values, or the colours, of the masks in a folder mean, where classes.txt does not suffice.

classes: [background, leaf]             their names, in the order of their indices
values: {0: background, 255: leaf}      value in the masks -> class, by name or index, or ignore
colors: {background: [0, 0, 0], ...}    colour in the masks of each class, and of ignore
palette: colors                         a palette mask means its colours; `indices`, as without the line, its indices
ignore: 7                               a value, or several, to leave out beside 255
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg.config.checks import shown
from semiseg.config.yaml_file import read_yaml
from semiseg.data.dataset import Color
from semiseg.data.dataset import check_classes as check_all
from semiseg.data.masks import MAX_CLASSES, MaskReader
from semiseg.data.sets.classes import read_classes
from semiseg.data.texts import is_text_file
from semiseg.types import IGNORE

KEYS = ("classes", "values", "colors", "palette", "ignore")
_LARGEST = 65_535  # of 16 bits


def read_meaning(root: Path, otherwise: tuple[str, ...] = ()) -> MaskReader:
    """How classes.txt and data.yaml in `root` say masks are read; without both, a reader whose classes are empty.

    `otherwise` are the classes of a data.yaml where neither file names any, such as a model's. A data.yaml without any
    of our keys is another program's, and is passed over. Raises ValueError for a key, class, value or colour that is
    not right, and where both files name classes that differ.
    """
    reader, path = read_classes(root / "classes.txt"), root / "data.yaml"
    if not is_text_file(path):
        return reader
    document = read_yaml(path)
    if not isinstance(document, dict) or not set(document) & {*KEYS}:
        return reader
    foreign = [key for key in document if key not in KEYS]
    if foreign:
        raise ValueError(f"{path} has the key {shown(foreign[0])}; expected {', '.join(KEYS)}. Take it out")
    return _Meaning(path, document, reader, otherwise).reader()


class _Meaning:
    """One data.yaml, held against the classes.txt beside it."""

    def __init__(self, path: Path, document: Mapping[str, Any], beside: MaskReader, otherwise: tuple[str, ...]) -> None:
        self.path, self.document, self.beside = path, document, beside
        self.classes = self._classes(otherwise)

    def reader(self) -> MaskReader:
        """The reader that the file describes. Raises ValueError for a key whose value is not right."""
        values = self._values()
        colors, ignore_color = self._colors()
        palette = self.document.get("palette", "indices")
        if palette not in ("indices", "colors"):
            raise self._error("palette", palette, "indices or colors")
        if values == ((0, 0), (IGNORE, 1)) and len(self.classes) == 2:
            return MaskReader(self.classes, colors, ignore_color, binary=True)  # as such masks are read without a word
        made = replace(self.beside, classes=self.classes, values_to=values, palette_colors=palette == "colors")
        return made if colors is None else replace(made, colors=colors, ignore_color=ignore_color)

    def _error(self, key: str, value: object, expected: str) -> ValueError:
        return ValueError(f"{self.path}: {key} is {shown(value)}; expected {expected}")

    def _classes(self, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        known = self.beside.classes
        named = self.document.get("classes")
        if named is None:
            if known or otherwise:
                return known or otherwise
            parts = self.document.get("values")
            indices = [each for each in parts.values() if type(each) is int] if isinstance(parts, dict) else []
            if not indices or max(indices) < 1 or max(indices) >= MAX_CLASSES:
                raise ValueError(f"{self.path} names no classes. Name them in `classes`, as [background, leaf]")
            return tuple(f"class_{index}" for index in range(max(indices) + 1))
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise self._error("classes", named, "a list of names, as [background, leaf]")
        if known and tuple(named) != known:
            raise ValueError(
                f"{self.path} names the classes {', '.join(named)}, and classes.txt {', '.join(known)}. Name them in "
                "one file alone"
            )
        try:
            check_all(named, None)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        return tuple(named)

    def _class(self, key: str, word: object) -> int:
        """The index of a class that is given by name or index."""
        if word == "ignore":
            return IGNORE
        if type(word) is str and word in self.classes:
            return self.classes.index(word)
        if type(word) is int and 0 <= word < len(self.classes):
            return word
        raise self._error(key, word, f"a class, by name ({', '.join(self.classes)}) or index, or ignore")

    def _values(self) -> tuple[tuple[int, int], ...] | None:
        given, ignored = self.document.get("values"), self.document.get("ignore", [])
        ignored = ignored if isinstance(ignored, list) else [ignored]
        if given is not None and (not isinstance(given, dict) or not given):
            raise self._error("values", given, "value: class, as {0: background, 255: leaf}")
        if given is None and not ignored:
            return None
        every: dict[Any, Any] = {
            **(given if given is not None else {index: index for index in range(len(self.classes))})
        }
        for value in [*every, *ignored]:
            if type(value) is not int or not 0 <= value <= _LARGEST:
                raise self._error("a value of the masks", value, f"a whole number, 0 to {_LARGEST}")
        twice = [value for value in ignored if given is not None and value in given and given[value] != "ignore"]
        if twice:
            raise self._error("ignore", twice[0], "a value that is no class's, and `values` gives it one")
        every |= dict.fromkeys(ignored, "ignore")
        every.setdefault(IGNORE, "ignore")
        return tuple(sorted((value, self._class("values", word)) for value, word in every.items()))

    def _colors(self) -> tuple[tuple[Color, ...] | None, Color | None]:
        given = self.document.get("colors")
        if given is None:
            return None, None
        if not isinstance(given, dict):
            raise self._error("colors", given, "class: [red, green, blue]")
        found: dict[int, Color] = {}
        for word, color in given.items():
            whole = isinstance(color, list) and len(color) == 3 and all(type(part) is int for part in color)
            if not whole or not all(0 <= part <= 255 for part in color):
                raise self._error(f"the colour of {shown(word)}", color, "[red, green, blue], each 0..255")
            found[self._class("colors", word)] = (color[0], color[1], color[2])
        missing = [name for index, name in enumerate(self.classes) if index not in found]
        if missing or len(set(found.values())) < len(found):
            raise self._error(
                "colors", given, f"a colour of its own for each class ({', '.join(missing or self.classes)})"
            )
        return tuple(found[index] for index in range(len(self.classes))), found.get(IGNORE)
