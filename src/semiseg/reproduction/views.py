"""The document of a reproduction as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.checkpoint import write_atomically
from semiseg.comparison.table import Document
from semiseg.comparison.views import interval, labels_title, signed, with_deviation
from semiseg.record import write_json

_NONE = "–"

section_title = labels_title


def write_views(document: Document, out: Path) -> dict[str, Path]:
    """Write TABLE.json, TABLE.md and TABLE.html into `out`; returns the paths by ending."""
    paths = {ending: out / f"{document['table']}.{ending}" for ending in ("json", "md")}
    write_json(paths["json"], document)
    for ending, text in (("md", markdown(document)),):
        write_atomically(paths[ending], lambda file, text=text: file.write(text.encode()))
    return paths


def title(document: Document) -> str:
    """Which table, and in a warning what it is not."""
    return document["title"] + (f". {document['warning']}" if document["warning"] else "")


def head(document: Document, section: Mapping[str, Any]) -> list[str]:
    """Names of the columns."""
    seeds = [f"seed {seed}" for seed in document["seeds"]] if len(document["seeds"]) > 1 else []
    return [
        *("row", "mIoU, last", *seeds, "held against", "difference", "verdict", "mIoU, best"),
        *(section["published_header"], "published difference"),
    ]


def cells(document: Document, row: Mapping[str, Any]) -> list[str]:
    """One row under `head`."""
    difference, last = row["difference"], row["last"]
    seeds = (
        [_number(last["by_seed"].get(str(seed))) for seed in document["seeds"]] if len(document["seeds"]) > 1 else []
    )
    return [
        row["title"],
        with_deviation(last),
        *seeds,
        row["reference"] or _NONE,
        _NONE if difference is None else interval(difference),
        _NONE if difference is None else difference["verdict"],
        with_deviation(row["best"]),
        _NONE if row["published"] is None else f"{row['published']['miou']:.2f}",
        _NONE if row["published_difference"] is None else signed(row["published_difference"]),
    ]


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def missing_words(section: Mapping[str, Any]) -> list[str]:
    """Which runs of a section are missing, and why."""
    return [
        f"{row['title']}, seed {each['seed']}, is missing: {each['why']}"
        for row in section["rows"]
        for each in row["missing"]
    ]


def facts(document: Document) -> list[tuple[str, str]]:
    """Where the figures come from."""
    runs, date = document["runs"], document["date"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if version)
    hardware = "; ".join(f"{name} {value}" for name, value in document["hardware"].items() if value)
    pairs = [
        ("runs", f"{runs['finished']} of {runs['of']} finished, {runs['at_a_time']} at a time"),
        ("preset", document["preset"]),
        ("hardware", hardware),
        ("versions", versions),
        ("commit", document["commit"]),
        ("runs finished", " to ".join(dict.fromkeys(each for each in (date["first"], date["last"]) if each))),
    ]
    return [(name, value) for name, value in pairs if value]


def markdown(document: Document) -> str:
    """The page in Markdown."""
    lines = [f"# {title(document)}", ""]
    for section in document["labeled"]:
        lines += _markdown_section(document, section)
    lines += ["## In what it differs from the paper", ""]
    table = [[each["what"], each["paper"], each["here"]] for each in document["differences"]]
    lines += _markdown_table(["what", "the paper", "here"], table) if table else ["In nothing that options say.", ""]
    lines += ["## How to read it", "", *(f"- {note}" for note in document["notes"]), ""]
    lines += ["## Where it comes from", "", "    " + document["command"], ""]
    lines += [f"- {name}: {value}" for name, value in facts(document)]
    return "\n".join(lines) + "\n"


def _markdown_section(document: Document, section: Mapping[str, Any]) -> list[str]:
    lines = [f"## {section_title(section)}", ""]
    lines += [f"{section['meaning']}.", ""] if section["meaning"] else []
    lines += [f"**{document['warning']}**", ""] if document["warning"] else []
    lines += _markdown_table(head(document, section), [cells(document, row) for row in section["rows"]])
    told = missing_words(section) + [f"published {words}" for words in sources(section)]
    told += [
        f"{name}: {split['count']} images, {split['name']}, sha256 of the sorted names {split['sha256']}"
        for name, split in (section["split"] or {}).items()
    ]
    return [*lines, *(f"- {' '.join(words.split())}" for words in told), ""]


def sources(section: Mapping[str, Any]) -> list[str]:
    """Where the published figures of a section stand."""
    found: dict[str, list[str]] = {}
    for row in section["rows"]:
        if row["published"] is not None:
            found.setdefault(row["published"]["source"], []).append(f"{row['published']['miou']:.2f}")
    return [f"{', '.join(figures)}: {source}" for source, figures in found.items()]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(values: Sequence[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows), ""]
