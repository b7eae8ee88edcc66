"""What pages of figures have in common: a JSON file and its views, Markdown tables, and where figures come from."""

from __future__ import annotations

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
    return [_row(head), _row(["---", *["---:"] * (len(head) - 1)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def list_words(name: str, split: Mapping[str, Any]) -> str:
    """A list of images as `Dataset.split` has it: how many, called what, with which hash."""
    return f"{name}: {split['count']} images, {split['name']}, sha256 of the sorted names {split['sha256']}"


def origin(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of hardware, versions and commit, as `provenance` has them; without what is not known."""
    pairs = [(key, "; ".join(f"{name} {value}" for name, value in document[key].items() if value)) for key in _NAMED]
    return [(name, value) for name, value in [*pairs, ("commit", document["commit"])] if value]


_NAMED = ("hardware", "versions")
