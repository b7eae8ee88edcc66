"""What an analysis found, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from semiseg.report.texts import list_words, origin, write_views


def write_page(out: Path, name: str, title: str, document: dict[str, Any], lines: Sequence[str]) -> None:
    """Write `out`/NAME.json, the document, and NAME.md: its `lines` under a title, and what identifies it."""
    write_views(document, out, name, md="\n".join([f"# {title}", "", *lines, *_source(document)]) + "\n")


def _source(document: dict[str, Any]) -> list[str]:
    """Where the figures come from."""
    runs = [f"{run['label']}: {run['folder']}, step {run['step']}" for run in document["runs"]]
    facts = [
        *runs,
        f"checkpoint: {document['checkpoint']}",
        list_words(document["set"], document["split"]),
        *(f"{name}: {value}" for name, value in origin(document)),
        f"date: {document['date']}",
    ]
    return ["## Where it comes from", "", f"    {document['command']}", "", *(f"- {fact}" for fact in facts)]


def section(title: str, lines: Iterable[str]) -> list[str]:
    """`lines` under a heading."""
    return [f"## {title}", "", *lines, ""]


def number(value: float, form: str = ".4g") -> str:
    """A number, or a dash where there is none."""
    return f"{value:{form}}" if math.isfinite(value) else "–"
