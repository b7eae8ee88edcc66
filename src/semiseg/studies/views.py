"""A result as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semiseg.report.charts import HEIGHT, WIDTH
from semiseg.report.page import REPORT, TEMPLATES
from semiseg.report.texts import list_words, markdown_table, origin, write_views
from semiseg.studies.chart import sweep
from semiseg.studies.notes import signed
from semiseg.studies.reports import report_name
from semiseg.studies.result import NOT_YET, Difference, Result, RowResult, Scores, Section

_EVEN = 0.05  # points of IoU that round to no difference
_NONE = "–"
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def write_pages(result: Result, out: Path) -> dict[str, Path]:
    """Write TABLE.json, .md and .html into `out`; returns the paths by ending."""
    return write_views(asdict(result), out, result.table, md=markdown(result), html=html(result, out))


def opening(result: Result) -> str:
    """The sentence that opens the page and, in a warning, what the figures are not."""
    return f"{result.headline}. {result.warning}" if result.warning else result.headline


# Cells ----------------------------------------------------------------------------------------------------------------


def columns(result: Result, section: Section) -> dict[str, Callable[[RowResult], str]]:
    """Name of each column -> a row's cell."""
    shown: dict[str, Callable[[RowResult], str]] = {
        "method" if "method" in result.columns else "row": lambda row: row.title,
        "mIoU, last": lambda row: with_deviation(row.last),
    }
    if "seeds" in result.columns and len(result.seeds) > 1:  # one alone is the mean
        for seed in result.seeds:
            shown[f"seed {seed}"] = lambda row, seed=seed: _number(row.last.by_seed.get(seed))
    if "reference" in result.columns:
        shown["held against"] = lambda row: row.reference or _NONE
    shown |= {
        "difference": lambda row: _NONE if row.difference is None else interval(row.difference),
        "verdict": lambda row: _NONE if row.difference is None else row.difference.verdict,
        "mIoU, best": lambda row: with_deviation(row.best),
    }
    if any(row.published for row in section.rows):
        shown[section.published_header] = lambda row: _number(row.published and row.published.miou)
    if "published difference" in result.columns:
        shown["published difference"] = lambda row: (
            _NONE if row.published_difference is None else signed(row.published_difference)
        )
    if "costs" in result.columns:
        shown |= {
            "seconds": lambda row: _number(row.seconds, ".0f"),
            "images/s": lambda row: _number(row.images_per_second, ".1f"),
            "memory, GB": lambda row: _number(row.peak_bytes and row.peak_bytes / 1e9),
            "parameters, M": lambda row: (
                " / ".join(f"{row.parameters[part] / 1e6:.2f}" for part in ("trained", "used"))
                if row.parameters
                else _NONE
            ),
        }
    return shown


def class_cells(row: RowResult) -> list[tuple[str, str, str]]:
    """(IoU, difference to the reference, `gain`, `loss` or nothing) of each class."""
    differences = row.iou_difference or {}
    return [_class_cell(value, differences.get(name)) for name, value in row.iou.items()]


def _class_cell(value: float | None, difference: float | None) -> tuple[str, str, str]:
    if difference is None:
        return _number(value, ".1f"), "", ""
    sign = "gain" if difference > _EVEN else "loss" if difference < -_EVEN else ""
    return _number(value, ".1f"), f"{difference:+.1f}".replace("-", "−"), sign


def with_deviation(scores: Scores) -> str:
    """`53.21 ± 0.40`, the latter where there are seeds enough."""
    return _number(scores.mean) + ("" if scores.deviation is None else f" ± {scores.deviation:.2f}")


def interval(difference: Difference) -> str:
    """`+1.94 [+1.02, +2.80]`."""
    return f"{signed(difference.miou)} [{signed(difference.low)}, {signed(difference.high)}]"


def _number(value: float | None, form: str = ".2f") -> str:
    return _NONE if value is None else f"{value:{form}}"


def failed_and_waiting(section: Section) -> tuple[list[str], int]:
    """What is said of runs that failed, and how many runs are still to come."""
    failed = [words for row in section.rows for words in row.missing_words if not words.endswith(NOT_YET)]
    return failed, len({each.run for row in section.rows for each in row.missing if each.why == NOT_YET})


def facts(result: Result) -> list[tuple[str, str]]:
    """Where the figures come from."""
    runs, date = result.runs, result.date
    pairs = [
        ("runs", f"{runs.finished} of {runs.of} finished, {runs.at_a_time} at a time"),
        ("preset", result.preset),
        ("network", result.network),
        ("batch", f"{result.batch['labeled']} labelled and {result.batch['unlabeled']} unlabelled images"),
        ("evaluation", result.evaluation),
        *origin({"hardware": result.hardware, "versions": result.versions, "commit": result.commit}),
        ("runs finished", " to ".join(dict.fromkeys(each for each in date.values() if each))),
    ]
    return [(name, value) for name, value in pairs if value]


def sources(section: Section) -> list[str]:
    """Where the published figures of a section stand."""
    found: dict[str, list[str]] = {}
    for row in section.rows:
        if row.published is not None:
            found.setdefault(row.published.source, []).append(f"{row.title} {row.published.miou:.2f}")
    return [f"{'; '.join(figures)}: {source}" for source, figures in found.items()]


# Markdown -------------------------------------------------------------------------------------------------------------


def markdown(result: Result) -> str:
    """The page in Markdown."""
    heading = result.title + (" (NOT the paper's setting)" if result.warning else "")
    lines = [f"# {heading}", "", f"{opening(result)}.", ""]
    for section in result.labeled:
        shown = columns(result, section)
        table = markdown_table(list(shown), [[cell(row) for cell in shown.values()] for row in section.rows])
        told = [words for row in section.rows for words in row.missing_words]
        told += [f"published {words}" for words in sources(section)]
        told += [list_words(name, split) for name, split in (section.split or {}).items()]
        meaning = [f"{section.meaning}.", ""] if section.meaning else []
        lines += [f"## {section.title}", "", *meaning, *_warned(result, table)]
        lines += [*(f"- {' '.join(words.split())}" for words in told), ""]
    if (made := result.analysis) is not None:
        lines += [f"## {made.kind.capitalize()}", "", made.meaning, ""]
        lines += _warned(result, markdown_table(made.head, made.rows))
        lines += [line for path in made.pictures for line in (f"![{path}]({path})", "")]
    if "reference" in result.columns:
        table = [[each.what, each.paper, each.here] for each in result.differences]
        lines += ["## In what it differs from the paper", ""]
        lines += [*(markdown_table(["", "the paper", "here"], table) if table else ["In no option."]), ""]
    lines += ["## How to read it", "", *(f"- {note}" for note in result.notes), ""]
    lines += ["## Where it comes from", "", "    " + result.command, ""]
    lines += [f"- {name}: {value}" for name, value in facts(result)]
    return "\n".join(lines) + "\n"


def _warned(result: Result, table: list[str]) -> list[str]:
    return [*([f"**{result.warning}**", ""] if result.warning else []), *table, ""]


# HTML -----------------------------------------------------------------------------------------------------------------


def html(result: Result, out: Path | None = None) -> str:
    """The page in HTML: no network, no script, light and dark, in the style of the reports.

    It links to those reports that lie below `out`, where the page is to be, and holds the pictures from there.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    folders = [name for section in result.labeled for row in section.rows for name in row.folders.values()]
    pages = [f"{name}/{REPORT}" for name in folders] + [report_name(section) for section in result.labeled]
    pictures = [] if result.analysis is None or out is None else result.analysis.pictures
    return environment.get_template("study.html.jinja").render(
        result=result,
        facts=facts(result),
        pages=[page for page in pages if out is not None and (out / page).is_file()],
        charts=[sweep(result, section) for section in result.labeled],
        size=(WIDTH, HEIGHT),
        pictures=[(path, _embedded(out / path)) for path in pictures if out is not None],
        configuration=yaml.safe_dump(result.config, sort_keys=False),
        method_options=yaml.safe_dump(result.method_options, sort_keys=False),
        **{f.__name__: f for f in (bars, class_cells, columns, failed_and_waiting, report_name, sources)},
    )


def _embedded(path: Path) -> str:
    """A picture as an address that holds it."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def bars(section: Section) -> dict[str, dict[str, float]]:
    """By row, where its interval lies on one scale for all rows: low, high, middle and zero, in per cent of it."""
    found = {row.key: row.difference for row in section.rows if row.difference is not None}
    ends = [value for each in found.values() for value in (each.low, each.high, 0.0)]
    low, width = min(ends, default=0.0), (max(ends, default=0.0) - min(ends, default=0.0)) or 1.0
    return {
        key: {
            name: round(4 + 92 * (value - low) / width, 1)
            for name, value in {"low": each.low, "high": each.high, "middle": each.miou, "zero": 0.0}.items()
        }
        for key, each in found.items()
    }
