"""The document of a reproduction as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semiseg.report.page import TEMPLATES
from semiseg.report.texts import list_words, markdown_table, origin, write_views
from semiseg.studies.paper.chart import HEIGHT, WIDTH, sweep
from semiseg.studies.table import NOT_YET, Document
from semiseg.studies.views import interval, labels_title, signed, with_deviation

_NONE = "–"
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def write_pages(document: Document, out: Path) -> dict[str, Path]:
    """Write TABLE.json, TABLE.md and TABLE.html into `out`; returns the paths by ending."""
    return write_views(document, out, document["table"], md=markdown(document), html=html(document, out))


def title(document: Document) -> str:
    """Which table, and in a warning what it is not."""
    return document["title"] + (f". {document['warning']}" if document["warning"] else "")


def head(document: Document, section: Mapping[str, Any]) -> list[str]:
    """Names of the columns."""
    return [
        *("row", "mIoU, last", *(f"seed {seed}" for seed in _several_seeds(document))),
        *("held against", "difference", "verdict", "mIoU, best"),
        *(section["published_header"], "published difference"),
    ]


def cells(document: Document, row: Mapping[str, Any]) -> list[str]:
    """One row under `head`."""
    difference, last = row["difference"], row["last"]
    return [
        row["title"],
        with_deviation(last),
        *(_number(last["by_seed"].get(str(seed))) for seed in _several_seeds(document)),
        row["reference"] or _NONE,
        _NONE if difference is None else interval(difference),
        _NONE if difference is None else difference["verdict"],
        with_deviation(row["best"]),
        _NONE if row["published"] is None else f"{row['published']['miou']:.2f}",
        _NONE if row["published_difference"] is None else signed(row["published_difference"]),
    ]


def _several_seeds(document: Document) -> list[int]:
    """Seeds that have a column each; one alone is the mean."""
    return document["seeds"] if len(document["seeds"]) > 1 else []


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def missing_words(section: Mapping[str, Any]) -> list[str]:
    """Which runs of a section are missing, and why."""
    return [
        f"{row['title']}, seed {each['seed']}, is missing: {each['why']}"
        for row in section["rows"]
        for each in row["missing"]
    ]


def failed_and_waiting(section: Mapping[str, Any]) -> tuple[list[str], int]:
    """`missing_words` of what failed, and how many runs are still to come."""
    told = missing_words(section)
    failed = [words for words in told if not words.endswith(NOT_YET)]
    return failed, len(told) - len(failed)


def sources(section: Mapping[str, Any]) -> list[str]:
    """Where the published figures of a section stand."""
    found: dict[str, list[str]] = {}
    for row in section["rows"]:
        if row["published"] is not None:
            found.setdefault(row["published"]["source"], []).append(f"{row['published']['miou']:.2f}")
    return [f"{', '.join(dict.fromkeys(figures))}: {source}" for source, figures in found.items()]


def facts(document: Document) -> list[tuple[str, str]]:
    """Where the figures come from."""
    runs, date = document["runs"], document["date"]
    pairs = [
        ("runs", f"{runs['finished']} of {runs['of']} finished, {runs['at_a_time']} at a time"),
        ("preset", document["preset"]),
        *origin(document),
        ("runs finished", " to ".join(dict.fromkeys(each for each in (date["first"], date["last"]) if each))),
    ]
    return [(name, value) for name, value in pairs if value]


# Markdown -------------------------------------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """The page in Markdown."""
    lines = [f"# {title(document)}", ""]
    for section in document["labeled"]:
        lines += _markdown_section(document, section)
    lines += _markdown_analysis(document)
    lines += ["## In what it differs from the paper", ""]
    table = [[each["what"], each["paper"], each["here"]] for each in document["differences"]]
    lines += markdown_table(["", "the paper", "here"], table) if table else ["In no option."]
    lines.append("")
    lines += ["## How to read it", "", *(f"- {note}" for note in document["notes"]), ""]
    lines += ["## Where it comes from", "", "    " + document["command"], ""]
    lines += [f"- {name}: {value}" for name, value in facts(document)]
    return "\n".join(lines) + "\n"


def _markdown_section(document: Document, section: Mapping[str, Any]) -> list[str]:
    lines = [f"## {labels_title(section)}", ""]
    lines += [f"{section['meaning']}.", ""] if section["meaning"] else []
    lines += [f"**{document['warning']}**", ""] if document["warning"] else []
    lines += [*markdown_table(head(document, section), [cells(document, row) for row in section["rows"]]), ""]
    told = missing_words(section) + [f"published {words}" for words in sources(section)]
    told += [list_words(name, split) for name, split in (section["split"] or {}).items()]
    return [*lines, *(f"- {' '.join(words.split())}" for words in told), ""]


def _markdown_analysis(document: Document) -> list[str]:
    found = document["analysis"]
    if found is None:
        return []
    lines = [f"## {found['kind'].capitalize()}", "", found["meaning"], ""]
    lines += [f"**{document['warning']}**", ""] if document["warning"] else []
    lines += [*markdown_table(found["head"], found["rows"]), ""]
    return lines + [line for path in found["pictures"] for line in (f"![{path}]({path})", "")]


# HTML -----------------------------------------------------------------------------------------------------------------


def html(document: Document, out: Path) -> str:
    """The page in HTML: no network, no script, light and dark. Its pictures lie below `out`."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    names = (cells, failed_and_waiting, head, labels_title, sources)
    return environment.get_template("reproduction.html.jinja").render(
        document=document,
        facts=facts(document),
        charts=[sweep(document, section) for section in document["labeled"]],
        size=(WIDTH, HEIGHT),
        pictures=[(path, _embedded(out / path)) for path in (document["analysis"] or {"pictures": []})["pictures"]],
        **{function.__name__: function for function in names},
    )


def _embedded(path: Path) -> str:
    """A picture as an address that holds it."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
