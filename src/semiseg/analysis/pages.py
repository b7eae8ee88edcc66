"""The results of an analysis as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg.report.texts import headed, list_words, origin, write_views


def write_page(out: Path, name: str, title: str, document: dict[str, Any], lines: Sequence[str]) -> None:
    """Write `out`/NAME.json, the document, and NAME.md: its `lines` under a title, and where they come from."""
    facts = [
        *(f"{run['label']}: {run['folder']}, step {run['step']}" for run in document["runs"]),
        f"checkpoint: {document['checkpoint']}",
        list_words(document["set"], document["split"]),
        *(f"{name}: {value}" for name, value in origin(document)),
        f"date: {document['date']}",
    ]
    source = headed("Where it comes from", [f"    {document['command']}", "", *(f"- {fact}" for fact in facts)])
    write_views(document, out, name, md="\n".join([f"# {title}", "", *lines, *source]))
