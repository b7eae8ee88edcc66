"""The page: what the template needs of one run, or of runs against the first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semiseg.report.charts import HEIGHT, WIDTH
from semiseg.report.confusion import confusion
from semiseg.report.curves import HUES, bins, charts, reliability
from semiseg.report.pictures import Gallery, gallery
from semiseg.report.runs import NETWORKS, Run, check_comparable, number, read_runs
from semiseg.runtime.files import write_atomically
from semiseg.training.record import CONFIG

REPORT = "report.html"
LIMIT = 10_000_000  # bytes of a page: what a mail takes
TEMPLATES = Path(__file__).parent
"""Folder of the page's template, and of the style sheet that other pages share."""


SECTIONS = (
    ("classes", "IoU by class"),
    ("pictures", "Pictures"),
    ("curves", "Curves"),
    ("calibration", "Calibration"),
    ("confusion", "Confusion"),
    ("runs", "Runs"),
    ("split", "Split"),
    ("configuration", "Configuration"),
)
"""Of a page: anchor and name, in their order."""


@dataclass(frozen=True)
class Fact:
    """One line of the table of runs."""

    name: str
    values: list[str]  # one per run


def write_report(run: Path) -> Path:
    """Write RUN/report.html for a run, finished or interrupted; returns its path. Raises ValueError: no run there."""
    (read,) = read_runs([run])
    return _write(run / REPORT, [read], f"{read.config.recipe}: {read.label}", _state(read))


def write_comparison(runs: list[Path], out: Path, title: str, verdict: str) -> Path:
    """Write the report of several runs, the baseline first, to `out`; returns it.

    `verdict` is the sentence that opens the page. Raises ValueError where a folder is no run, or the classes differ.
    """
    read = read_runs(runs)
    check_comparable(
        {run.label: list(run.iou) for run in read if run.iou},
        {run.label: run.result["split"]["val"] for run in read if run.result is not None},
    )
    return _write(out, read, title, verdict)


def summary(runs: list[Path]) -> str:
    """The verdict where nothing more is known of the runs: the last one's mIoU against the first one's."""
    read = read_runs(runs)
    first, last = read[0], read[-1]
    return f"{last.label} against {first.label}: {last.miou - first.miou:+.1f} mIoU at the last step"


def _write(out: Path, runs: list[Run], title: str, verdict: str) -> Path:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template, values = environment.get_template("report.html.jinja"), _values(runs)
    values |= {"title": title, "verdict": verdict}
    shown = gallery([run.folder for run in runs], [run.label for run in runs])
    bare = template.render(gallery=replace(shown, rows=[]), **values)
    text = template.render(gallery=fitting(shown, LIMIT - len(bare.encode())), **values)
    write_atomically(out, lambda file: file.write(text.encode()))
    return out


def fitting(shown: Gallery, room: int) -> Gallery:
    """The first rows of pictures, as many as fit into `room` bytes; the rule says what was left out."""
    left, rows = room, []
    for row in shown.rows:
        sizes = [len(picture.uri) + 1000 for picture in row.pictures]  # with the words around it
        left -= sum(sizes) + sizes[1] * (len(sizes) - 3)  # the truth lies below each prediction
        if left < 0:
            break
        rows.append(row)
    missing = len(shown.rows) - len(rows)
    words = f" {missing} of {len(shown.rows)} rows are left out, to keep the page small." if missing else ""
    return replace(shown, rows=rows, rule=shown.rule + words)


def _values(runs: list[Run]) -> dict[str, Any]:
    """What the template shows, but for the pictures."""
    found: dict[str, Any] = {
        "runs": runs,
        "figures": [_state(run) for run in runs] if len(runs) <= HUES else [],  # of more, the tables tell
        "finished": all(run.result is not None for run in runs),
        "facts": facts(runs),
        "rows": class_rows(runs),
        "warnings": [(run.label, text) for run in runs for text in (run.evaluations or [{}])[-1].get("warnings", [])],
        "charts": charts(runs),
        "size": (WIDTH, HEIGHT),
        "reliability": reliability(runs),
        "bins": [(run.label, bins(run)) for run in runs],
        "confusions": [matrix for run in runs if (matrix := confusion(run)) is not None],
        "splits": _splits(runs),
        "configs": [(run.label, (run.folder / CONFIG).read_text("utf-8")) for run in runs],
        "versions": _versions(runs),
    }
    there = {"calibration": "reliability", "confusion": "confusions", "split": "splits"}
    return found | {"sections": [each for each in SECTIONS if each[0] not in there or found[there[each[0]]]]}


def _state(run: Run) -> str:
    if run.last is None:
        return f"{run.label}: no evaluation yet (step {run.step} of {run.config.train.steps})"
    state = f"{run.label}: {run.miou:.1f} mIoU on the validation images at step {run.last_step}"
    if run.result is None:
        state += f"; not finished, step {run.step} of {run.config.train.steps}"
    return state


def class_rows(runs: list[Run]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(class, [(IoU, difference to the first run, its sign) of each run]), and the mean in the last row."""
    rows = {
        name: [run.iou.get(name, math.nan) for run in runs] for name in next((run.iou for run in runs if run.iou), {})
    }
    rows["mean"] = [run.miou for run in runs]
    return [(name, [_cell(value, values[0]) for value in values]) for name, values in rows.items()]


def _cell(value: float, baseline: float) -> tuple[str, str, str]:
    difference = value - baseline
    sign = "" if math.isnan(difference) else "gain" if difference > 0.05 else "loss" if difference < -0.05 else ""
    return _figure(value), _figure(difference, "+.1f"), sign


def _figure(value: float, form: str = ".1f") -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"


def facts(runs: list[Run]) -> list[Fact]:
    """What can be said of each run in a word, the lines that are empty for all of them left out."""
    lines = {
        "mIoU, last step": [_figure(run.miou) for run in runs],
        "mIoU, best evaluation": [f"{run.best[1]:.1f} (step {run.best[0]})" if run.best else "–" for run in runs],
        "mIoU by prototypes, last step": [_figure(_by(run, "prototype")) for run in runs],
        **{f"mIoU by {text}, last step": [_figure(_by(run, name)) for run in runs] for name, text in NETWORKS.items()},
        "mIoU on the test images, last step": [_figure(_test(run)) for run in runs],
        "calibration error, last step": [_figure(number((run.last or {}).get("calibration_error"))) for run in runs],
        "pseudo-labels against hidden labels": [_hidden(run) for run in runs],
        "steps done": [f"{run.step} of {run.config.train.steps}" for run in runs],
        "seed": [str(run.config.seed) for run in runs],
        "time of training": [_time(run.seconds) for run in runs],
        "device": [_known(run, "hardware", "device") for run in runs],
        "CPU threads": [_known(run, "hardware", "threads") for run in runs],
        "finished": [_known(run, "date") for run in runs],
        "commit": [_known(run, "commit") for run in runs],
        "folder": [run.folder.name for run in runs],
    }
    return [Fact(name, values) for name, values in lines.items() if set(values) != {"–"}]


def _by(run: Run, predictor: str) -> float:
    return number((run.last or {}).get(predictor, {}).get("miou"))


def _test(run: Run) -> float:
    return number(((run.result or {}).get("last", {}).get("test") or {}).get("miou"))


def _hidden(run: Run) -> str:
    found = (run.evaluations or [{}])[-1].get("hidden_labels")
    return (
        "–"
        if found is None
        else f"{number(found['share']):.1f} % kept, {number(found['accuracy']):.1f} % of them right"
    )


def _known(run: Run, *keys: str) -> str:
    value: Any = run.result or {}
    for key in keys:
        value = value.get(key) or {}
    return str(value or "–")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _splits(runs: list[Run]) -> list[tuple[str, dict[str, Any]]]:
    """(list, {name, count, sha256, source}) of the finished runs, each list once."""
    found = {
        (name, split["sha256"]): (name, split)
        for run in runs
        for name, split in (run.result or {}).get("split", {}).items()
    }
    return list(found.values())


def _versions(runs: list[Run]) -> list[tuple[str, str]]:
    """(package, version), both where runs differ."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, version in (run.result or {}).get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
    return [(name, ", ".join(versions)) for name, versions in found.items()]
