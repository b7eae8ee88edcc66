"""What pages of figures have in common: a JSON file and its views, Markdown tables, and where figures come from."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.runtime.files import write_atomically, write_json


def write_views(document: dict[str, Any], out: Path, name: str, **views: str) -> dict[str, Path]:
    """Write `out`/NAME.json, and a file by its ending (`md`, `html`) of each view; returns the paths."""
    paths = {ending: out / f"{name}.{ending}" for ending in ("json", *views)}
    write_json(paths["json"], document)
    for ending, text in views.items():
        write_atomically(paths[ending], lambda file, text=text: file.write(text.encode()))
    return paths


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: the first column to the left, figures to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def headed(title: str, lines: Iterable[str]) -> list[str]:
    """`lines` of Markdown under a heading."""
    return [f"## {title}", "", *lines, ""]


def figure(value: float | None, form: str = ".1f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:{form}}"


def distinct(documents: Sequence[Mapping[str, Any]], key: str) -> dict[str, str | None]:
    """Each name and value below `key` of the runs' results, every value where they differ."""
    found = [document.get(key) or {} for document in documents]
    names = dict.fromkeys(name for each in found for name in each)
    return {name: merged(each.get(name) for each in found) for name in names}


def merged(values: Iterable[Any]) -> str | None:
    """Each of the values once; None without any."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or None


def list_words(name: str, split: Mapping[str, Any]) -> str:
    """A list of images as `Dataset.split` has it: how many, called what, with which hash."""
    return f"{name}: {split['count']} images, {split['name']}, sha256 of the sorted names {split['sha256']}"


def origin(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of hardware, versions and commit, as `provenance` has them; without what is not known."""
    pairs = [
        (key, "; ".join(f"{name} {value}" for name, value in document[key].items() if value))
        for key in ("hardware", "versions")
    ]
    return [(name, value) for name, value in [*pairs, ("commit", document["commit"])] if value]


def data_uri(kind: str, picture: bytes) -> str:
    """A picture of a `kind` (`png`) as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
