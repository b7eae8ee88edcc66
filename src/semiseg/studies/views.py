"""A result as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Literal

import yaml

from semiseg.report.charts import HEIGHT, WIDTH
from semiseg.report.page import REPORT, sign, template
from semiseg.report.texts import data_uri, figure, headed, list_words, markdown_table, origin, write_views
from semiseg.studies.chart import sweep
from semiseg.studies.notes import signed
from semiseg.studies.reports import report_name
from semiseg.studies.result import NOT_YET, Difference, Reached, Result, RowResult, Scores, Section

_NONE = "–"
_TYPES = {".svg": "svg+xml", ".png": "png"}


def write_pages(result: Result, out: Path) -> dict[str, Path]:
    """Write TABLE.json, .md and .html into `out`; returns the paths by ending."""
    return write_views(asdict(result), out, result.table, md=markdown(result), html=html(result, out))


def opening(result: Result) -> str:
    """The sentence that opens the page, and the warning."""
    return f"{result.headline}. {result.warning}" if result.warning else result.headline


def columns(result: Result, section: Section) -> dict[str, Callable[[RowResult], str]]:
    """Name of each column -> a row's cell."""
    shown: dict[str, Callable[[RowResult], str]] = {
        "method" if "method" in result.columns else "row": lambda row: row.title,
        "mIoU, last": lambda row: with_deviation(row.last),
    }
    if "seeds" in result.columns and len(result.seeds) > 1:  # one alone is the mean
        for seed in result.seeds:
            shown[f"seed {seed}"] = lambda row, seed=seed: figure(row.last.by_seed.get(seed), ".2f")
    if "reference" in result.columns:
        shown["held against"] = lambda row: row.reference or _NONE
    shown |= {
        "difference": lambda row: _NONE if row.difference is None else interval(row.difference),
        "verdict": lambda row: _NONE if row.difference is None else row.difference.verdict,
        "mIoU, best": lambda row: with_deviation(row.best),
    }
    if any(row.published for row in section.rows):
        shown[section.published_header] = lambda row: figure(row.published and row.published.miou, ".2f")
    if "published difference" in result.columns:
        shown["published difference"] = lambda row: (
            _NONE if row.published_difference is None else signed(row.published_difference)
        )
    if "costs" in result.columns:
        shown |= {
            "seconds": lambda row: figure(row.seconds, ".0f"),
            f"seconds to {result.reference}": lambda row: until(row.reached, "seconds"),
            f"TFLOP to {result.reference}": lambda row: until(row.reached, "operations"),
            "images/s": lambda row: figure(row.images_per_second, ".1f"),
            "memory, GB": lambda row: figure(row.peak_bytes and row.peak_bytes / 1e9, ".2f"),
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
    cells = []
    for name, value in row.iou.items():
        difference = differences.get(name)
        words = "" if difference is None else f"{difference:+.1f}".replace("-", "−")
        cells.append((figure(value, ".1f"), words, sign(difference or 0.0)))
    return cells


def with_deviation(scores: Scores) -> str:
    """`53.21 ± 0.40`, the latter where there are seeds enough."""
    return figure(scores.mean, ".2f") + ("" if scores.deviation is None else f" ± {scores.deviation:.2f}")


def interval(difference: Difference) -> str:
    """`+1.94 [+1.02, +2.80]`."""
    return f"{signed(difference.miou)} [{signed(difference.low)}, {signed(difference.high)}]"


def until(reached: Reached | None, what: Literal["seconds", "operations"]) -> str:
    """The mean over seeds where all reached the reference's score, else how many did; operations in tera."""
    if reached is None:
        return _NONE
    count, of = sum(spent is not None for spent in reached.by_seed.values()), len(reached.by_seed)
    if count < of:
        return f"{count} of {of} seeds" if count else "not reached"
    if what == "seconds":
        return figure(reached.seconds, ".0f")
    tera = reached.operations and reached.operations / 1e12
    return figure(tera, ".3g" if tera is None or tera < 100 else ",.0f")


def failed_and_waiting(section: Section) -> tuple[list[str], int]:
    """Words on the runs that failed, and how many runs are still to come."""
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


def markdown(result: Result) -> str:
    """The page in Markdown."""
    heading = result.title + (" (NOT the paper's setting)" if result.warning else "")
    lines = [f"# {heading}", "", f"{opening(result)}.", ""]
    warned = [f"**{result.warning}**", ""] if result.warning else []
    for section in result.labeled:
        shown = columns(result, section)
        table = markdown_table(list(shown), [[cell(row) for cell in shown.values()] for row in section.rows])
        told = [words for row in section.rows for words in row.missing_words]
        told += [f"published {words}" for words in sources(section)]
        told += [list_words(name, split) for name, split in (section.split or {}).items()]
        meaning = [f"{section.meaning}.", ""] if section.meaning else []
        items = [f"- {' '.join(words.split())}" for words in told]
        lines += headed(section.title, [*meaning, *warned, *table, "", *items])
    if (made := result.analysis) is not None:
        lines += headed(made.kind.capitalize(), [made.meaning, "", *warned, *markdown_table(made.head, made.rows)])
        lines += [line for path in made.pictures for line in (f"![{path}]({path})", "")]
    if "reference" in result.columns:
        table = markdown_table(["", "the paper", "here"], map(astuple, result.differences))
        lines += headed("In what it differs from the paper", table if result.differences else ["In no option."])
    lines += headed("How to read it", [f"- {note}" for note in result.notes])
    source = [f"- {name}: {value}" for name, value in facts(result)]
    return "\n".join([*lines, *headed("Where it comes from", [f"    {result.command}", "", *source])])


def html(result: Result, out: Path | None = None) -> str:
    """The page in HTML: no network, no script, light and dark, in the style of the reports.

    It links to the reports below `out`, the page's folder, and holds the pictures from there.
    """
    folders = [name for section in result.labeled for row in section.rows for name in row.folders.values()]
    pages = [f"{name}/{REPORT}" for name in folders] + [report_name(section) for section in result.labeled]
    pictures = [] if result.analysis is None else result.analysis.pictures
    return template("study.html.jinja", Path(__file__).parent).render(
        result=result,
        facts=facts(result),
        differences=list(map(astuple, result.differences)),
        pages=[page for page in pages if out is not None and (out / page).is_file()],
        charts=[sweep(result, section) for section in result.labeled],
        size=(WIDTH, HEIGHT),
        pictures=[(each, data_uri(_TYPES[Path(each).suffix], (out / each).read_bytes())) for each in pictures if out],
        configuration=yaml.safe_dump(result.config, sort_keys=False),
        method_options=yaml.safe_dump(result.method_options, sort_keys=False),
        **{f.__name__: f for f in (bars, class_cells, columns, failed_and_waiting, report_name, sources)},
    )


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
