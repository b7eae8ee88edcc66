"""The document of a comparison as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semiseg.report.page import REPORT, TEMPLATES
from semiseg.report.texts import list_words, markdown_table, origin, write_views
from semiseg.studies.reports import report_name
from semiseg.studies.table import NOT_YET, Document

NAME = "compare"
HEAD = (
    "method", "mIoU, last", "difference", "verdict", "mIoU, best", "published", "seconds", "images/s", "memory, GB",
    "parameters, M",
)  # fmt: skip

_EVEN = 0.05  # points of IoU that round to no difference
_NAMED = 4  # of so many methods, the headline names each
_NONE = "–"
_MINUS = "−"


def write_pages(document: Document, out: Path) -> dict[str, Path]:
    """Write compare.json, compare.md and compare.html into `out`; returns the paths by ending."""
    return write_views(document, out, NAME, md=markdown(document), html=html(document, out))


def headline(document: Document) -> str:
    """The comparison in one sentence for each set of labels."""
    return ". ".join(f"{labels_title(section)}: {_verdicts(section)}" for section in document["labeled"])


def title(document: Document) -> str:
    """What was compared."""
    preset = f" ({document['preset']})" if document["preset"] else ""
    seeds = ", ".join(map(str, document["seeds"]))
    return f"{document['recipe']}{preset}, {document['steps']:,} steps, seeds {seeds}"


def labels_title(section: Mapping[str, Any]) -> str:
    """A set of labels, and how many images it has."""
    if section["split"] is None or str(section["split"]["labeled"]["count"]) == section["name"]:
        return f"{section['name']} labels"
    return f"{section['name']} ({section['split']['labeled']['count']} labels)"


def _verdicts(section: Mapping[str, Any]) -> str:
    found: dict[str, list[str]] = {"helped": [], "no reliable difference": [], "hurt": []}
    for row in section["rows"]:
        if row["difference"] is not None:
            found[row["difference"]["verdict"]].append(f"{row['method']} {signed(row['difference']['miou'])}")
    count = sum(map(len, found.values()))
    if count > _NAMED:
        helped, neither, hurt = (len(names) for names in found.values())
        return f"{helped} of {count} methods helped, {neither} made no reliable difference, {hurt} hurt"
    words = [f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names]
    return "; ".join(words) or "nothing to compare yet"


# Cells ----------------------------------------------------------------------------------------------------------------


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row under HEAD."""
    difference, parameters = row["difference"], row["parameters"]
    return [
        row["method"],
        with_deviation(row["last"]),
        _NONE if difference is None else interval(difference),
        _NONE if difference is None else difference["verdict"],
        with_deviation(row["best"]),
        _NONE if row["published"] is None else f"{row['published']['miou']:.2f}",
        _number(row["seconds"], ".0f"),
        _number(row["images_per_second"], ".1f"),
        _number(None if row["peak_bytes"] is None else row["peak_bytes"] / 1e9, ".2f"),
        _NONE if parameters is None else f"{parameters['trained'] / 1e6:.2f} / {parameters['used'] / 1e6:.2f}",
    ]


def class_cells(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(IoU, difference to the reference, `gain`, `loss` or nothing) of each class."""
    differences = row["iou_difference"] or {}
    return [_class_cell(value, differences.get(name)) for name, value in row["iou"].items()]


def _class_cell(value: float | None, difference: float | None) -> tuple[str, str, str]:
    if difference is None:
        return _number(value, ".1f"), "", ""
    sign = "gain" if difference > _EVEN else "loss" if difference < -_EVEN else ""
    return _number(value, ".1f"), f"{difference:+.1f}".replace("-", _MINUS), sign


def with_deviation(scores: Mapping[str, Any]) -> str:
    """`53.21 ± 0.40`, the latter where there are seeds enough."""
    if scores["mean"] is None:
        return _NONE
    return f"{scores['mean']:.2f}" + ("" if scores["deviation"] is None else f" ± {scores['deviation']:.2f}")


def interval(difference: Mapping[str, Any]) -> str:
    """`+1.94 [+1.02, +2.80]`."""
    low, high = signed(difference["low"]), signed(difference["high"])
    return f"{signed(difference['miou'])} [{low}, {high}]"


def signed(value: float) -> str:
    """With its sign; what rounds to nothing has none."""
    text = f"{value:+.2f}".replace("-", _MINUS)
    return text[1:] if text[1:] == "0.00" else text


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else f"{value:{form}}"


def failed_and_waiting(section: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """`missing_words` of all rows: those of runs that failed, and those of runs whose turn is still to come."""
    told = [words for row in section["rows"] for words in missing_words(row)]
    return [words for words in told if not words.endswith(NOT_YET)], [
        words for words in told if words.endswith(NOT_YET)
    ]


def missing_words(row: Mapping[str, Any]) -> list[str]:
    """Which runs of a row are missing, and why."""
    return [f"{row['method']}, seed {each['seed']}, is missing: {each['why']}" for each in row["missing"]]


def facts(document: Document) -> list[tuple[str, str]]:
    """Where the figures come from."""
    runs, date, batch = document["runs"], document["date"], document["batch"]
    pairs = [
        ("command", document["command"]),
        ("runs", f"{runs['finished']} of {runs['of']} finished, {runs['at_a_time']} at a time"),
        ("network", document["network"]),
        ("batch", f"{batch['labeled']} labelled and {batch['unlabeled']} unlabelled images"),
        ("evaluation", f"{document['evaluation']}, images at {document['scale']:g} of their size"),
        *origin(document),
        ("runs finished", " to ".join(dict.fromkeys(each for each in (date["first"], date["last"]) if each))),
    ]
    return [(name, value) for name, value in pairs if value]


def sources(section: Mapping[str, Any]) -> list[str]:
    """Where the published figures of a section stand."""
    rows = [row for row in section["rows"] if row["published"] is not None]
    return [f"{row['method']} {row['published']['miou']:.2f}: {row['published']['source']}" for row in rows]


# Markdown -------------------------------------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """The page in Markdown."""
    lines = [f"# Comparison: {title(document)}", "", f"{headline(document)}.", ""]
    for section in document["labeled"]:
        lines += _markdown_section(section)
    lines += ["## How to read it", "", *(f"- {note}" for note in document["notes"]), ""]
    lines += ["## Where it comes from", "", "    " + document["command"], ""]
    lines += [f"- {name}: {value}" for name, value in facts(document)[1:]]
    return "\n".join(lines) + "\n"


def _markdown_section(section: Mapping[str, Any]) -> list[str]:
    lines = [f"## {labels_title(section)}", ""]
    lines += [f"{section['meaning']}.", ""] if section["meaning"] else []
    lines += [*markdown_table(HEAD, map(cells, section["rows"])), ""]
    told = [words for row in section["rows"] for words in missing_words(row)]
    told += [f"published {words}" for words in sources(section)]
    told += [list_words(name, split) for name, split in (section["split"] or {}).items()]
    return [*lines, *(f"- {' '.join(words.split())}" for words in told), ""]


# HTML -----------------------------------------------------------------------------------------------------------------


def html(document: Document, out: Path | None = None) -> str:
    """The page in HTML: no network, no script, light and dark, in the style of the reports.

    It links to those reports that lie below `out`, where the page is to be.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    names = (cells, class_cells, failed_and_waiting, labels_title, report_name, sources)
    pages = [report_name(section) for section in document["labeled"]]
    folders = [name for section in document["labeled"] for row in section["rows"] for name in row["folders"].values()]
    return environment.get_template("compare.html.jinja").render(
        title=f"Comparison: {title(document)}",
        verdict=headline(document),
        document=document,
        head=HEAD,
        facts=facts(document),
        reports=[name for name in folders if out is not None and (out / name / REPORT).is_file()],
        side_by_side=[name for name in pages if out is not None and (out / name).is_file()],
        configuration=yaml.safe_dump(document["config"], sort_keys=False),
        method_options=yaml.safe_dump(document["method_options"], sort_keys=False),
        bars=[_bars(section) for section in document["labeled"]],
        **{function.__name__: function for function in names},
    )


def _bars(section: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By method, where its interval lies on one scale for all rows: low, high, middle and zero, in per cent of it."""
    found = {row["method"]: row["difference"] for row in section["rows"] if row["difference"] is not None}
    ends = [value for each in found.values() for value in (each["low"], each["high"], 0.0)]
    low, width = min(ends, default=0.0), (max(ends, default=0.0) - min(ends, default=0.0)) or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / width, 1)

    return {
        method: {
            "low": place(each["low"]),
            "high": place(each["high"]),
            "middle": place(each["miou"]),
            "zero": place(0.0),
        }
        for method, each in found.items()
    }
