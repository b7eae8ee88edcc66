"""What an analysis found, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from semiseg.checkpoint import write_atomically
from semiseg.record import write_json


def write_page(out: Path, name: str, title: str, document: dict[str, Any], lines: Sequence[str]) -> None:
    """Write `out`/NAME.json, the document, and NAME.md: its `lines` under a title, and what identifies it."""
    write_json(out / f"{name}.json", document)
    text = "\n".join([f"# {title}", "", *lines, *_source(document)]) + "\n"
    write_atomically(out / f"{name}.md", lambda file: file.write(text.encode()))


def _source(document: dict[str, Any]) -> list[str]:
    """Where the figures come from."""
    split = document["split"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if version)
    hardware = ", ".join(f"{name} {value}" for name, value in document["hardware"].items() if value)
    runs = [f"{run['label']}: {run['folder']}, step {run['step']}" for run in document["runs"]]
    facts = [
        *runs,
        f"checkpoint: {document['checkpoint']}",
        f"{document['set']}: {split['count']} images, {split['name']}, sha256 of the sorted names {split['sha256']}",
        f"versions: {versions}",
        f"hardware: {hardware}",
        f"commit: {document['commit']}",
        f"date: {document['date']}",
    ]
    return ["## Where it comes from", "", f"    {document['command']}", "", *(f"- {fact}" for fact in facts)]


def section(title: str, lines: Iterable[str]) -> list[str]:
    """`lines` under a heading."""
    return [f"## {title}", "", *lines, ""]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column to the left, numbers to the right."""
    return [_row(head), _row(["---", *["---:"] * (len(head) - 1)]), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float, form: str = ".4g") -> str:
    """A number, or a dash where there is none."""
    return f"{value:{form}}" if math.isfinite(value) else "–"
