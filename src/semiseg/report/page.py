"""The page: the template's values of one run, or of runs against the first."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from semiseg.evaluation.statistics import paired_interval
from semiseg.report.answer import Answer
from semiseg.report.charts import HEIGHT, WIDTH
from semiseg.report.confusion import confusion, headline_counts
from semiseg.report.curves import bins, charts, reliability
from semiseg.report.doubts import doubts
from semiseg.report.opening import FEW, Opening, opening
from semiseg.report.pictures import Gallery, folds_gallery, gallery, load_last
from semiseg.report.runs import PREDICTORS, Run, check_comparable, number, read_runs, under
from semiseg.report.texts import distinct, figure
from semiseg.report.unlabelled import unlabelled_gallery
from semiseg.runtime.files import write_atomically
from semiseg.training.record import CONFIG

REPORT = "report.html"
LIMIT = 10_000_000  # bytes of a page: what a mail takes
MOST_TOLD = 4  # runs whose scores open the page

SECTIONS = (
    ("curves", "Curves"),
    ("calibration", "Calibration"),
    ("confusion", "Confusion"),
    ("runs", "Runs"),
    ("split", "Split"),
    ("configuration", "Configuration"),
)
"""Details of a page: anchor and name, in their order."""


def template(name: str, *folders: Path) -> Template:
    """A page's template, in its own `folders` or in this one, whose templates pages share."""
    loader = FileSystemLoader([*folders, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(name)


def write_report(run: Path) -> Path:
    """Write RUN/report.html for a run, finished or interrupted; returns its path. Raises ValueError: no run there."""
    (read,) = read_runs([run])
    return write_answer(run / REPORT, Answer(f"{read.config.recipe}: {read.label}", (run,)))


def write_answer(out: Path, answer: Answer) -> Path:
    """Write the page of `answer` to `out`; returns it.

    Raises ValueError where a folder is no run, or where the runs' classes differ.
    """
    runs, baselines = read_runs(list(answer.runs)), read_runs(list(answer.baselines))
    together = read_runs([*answer.baselines, *answer.runs])
    check_comparable({run.label: list(run.iou) for run in together if run.iou}, {})
    for pair in zip(baselines, runs, strict=False):
        check_comparable({}, {run.label: run.result["split"]["val"] for run in pair if run.result is not None})
    single = len(runs) == 1
    folders = [run.folder for run in (together if single and len(baselines) <= 1 else runs)]
    load = cache(load_last)
    shown = gallery(folders, [run.label for run in together], load) if single else folds_gallery(folders, load)
    chosen = answer.chosen or answer.runs[-1]
    others = tuple(folder for folder in answer.runs if folder != chosen)
    galleries = [shown, unlabelled_gallery(chosen, others, load)]
    return _write(out, together, answer.title, opening(answer, runs, baselines), galleries)


def write_comparison(runs: list[Path], out: Path, title: str, verdict: str) -> Path:
    """Write the report of several runs, the baseline first, to `out`; returns it.

    `verdict` is the sentence that opens the page. Raises ValueError where a folder is no run, or the classes differ.
    """
    read = read_runs(runs)
    check_comparable(
        {run.label: list(run.iou) for run in read if run.iou},
        {run.label: run.result["split"]["val"] for run in read if run.result is not None},
    )
    made = opening(Answer(title, (runs[-1],)), read[-1:], read[:1])
    first = replace(made, headline=verdict, helped="", sure="", command="")
    load = cache(load_last)
    galleries = [gallery(runs, [run.label for run in read], load), unlabelled_gallery(runs[-1], load=load)]
    return _write(out, read, title, first, galleries)


def summary(runs: list[Path]) -> str:
    """The verdict without a comparison: the last run's mIoU against the first run's, with its interval over images.

    Without the counts of both runs on the same images there is no verdict but the figures.
    """
    read = read_runs(runs)
    first, last = read[0], read[-1]
    words = f"{last.label} against {first.label}: {last.miou - first.miou:+.1f} mIoU at the last step"
    ours, theirs = headline_counts(last), headline_counts(first)
    if ours is None or theirs is None:
        return f"{words}; no verdict, as not both runs are finished"
    if ours[0].tolist() != theirs[0].tolist():
        return f"{words}; no verdict, as they were scored on different images"
    found, images = paired_interval(ours[1][None], theirs[1][None]), len(ours[0])
    few = "; so few images decide little" if images < FEW else ""
    return (
        f"{words}, 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f} over {images} validation images: "
        f"{found.verdict}{few}. It is one run each, so another seed may lie outside of it"
    )


def _write(out: Path, runs: list[Run], title: str, first: Opening, galleries: list[Gallery]) -> Path:
    page = template("report.html.jinja")
    values = {"title": title, "opening": first, **_values(runs)}
    shown, unlabelled = galleries
    bare = page.render(gallery=replace(shown, rows=[]), unlabelled=replace(unlabelled, rows=[]), **values)
    room = LIMIT - len(bare.encode())
    shown = fitting(shown, room * 2 // 3)
    unlabelled = fitting(unlabelled, room // 3)
    text = page.render(gallery=shown, unlabelled=unlabelled, **values)
    write_atomically(out, lambda file: file.write(text.encode()))
    return out


def fitting(shown: Gallery, room: int) -> Gallery:
    """The first rows of pictures, as many as fit into `room` bytes; the rule says how many were left out."""
    rows = []
    for row in shown.rows:
        sizes = [len(picture.uri) + 1000 for picture in row.pictures]  # with the words around it
        room -= sum(sizes) + sizes[1] * max(len(sizes) - 3, 0)  # the truth lies below each prediction
        if room < 0:
            break
        rows.append(row)
    missing = len(shown.rows) - len(rows)
    words = f" {missing} of {len(shown.rows)} rows are left out, to keep the page small." if missing else ""
    return replace(shown, rows=rows, rule=shown.rule + words)


def _values(runs: list[Run]) -> dict[str, Any]:
    """The template's values, without the pictures."""
    found: dict[str, Any] = {
        "runs": runs,
        "labels": [run.label for run in runs],
        "figures": [_state(run) for run in runs] if len(runs) <= MOST_TOLD else [],  # of more, the tables tell
        "finished": all(run.result is not None for run in runs),
        "facts": facts(runs),
        "rows": class_rows(runs),
        "warnings": [(run.label, text) for run in runs for text in [*run.warnings, *run.alarms, *doubts(run)]],
        "states": [_state(run) for run in runs if run.result is None or len(runs) == 1],
        "balance": [(run.label, rows) for run in runs if (rows := balance(run))],
        "charts": charts(runs),
        "size": (WIDTH, HEIGHT),
        "reliability": reliability(runs),
        "bins": [(run.label, bins(run)) for run in runs],
        "confusions": [matrix for run in runs if (matrix := confusion(run)) is not None],
        "splits": _splits(runs),
        "configs": [(run.label, (run.folder / CONFIG).read_text("utf-8")) for run in runs],
        "versions": distinct([run.result for run in runs if run.result], "versions").items(),
    }
    there = {"calibration": "reliability", "confusion": "confusions", "split": "splits"}
    return found | {"sections": [each for each in SECTIONS if each[0] not in there or found[there[each[0]]]]}


def balance(run: Run) -> list[list[str]]:
    """[class, labelled pixels, pseudo-labels, those that teach] of the last evaluation that knows, in per cent."""
    found = next(
        (entry["unlabeled_classes"] for entry in reversed(run.evaluations) if "unlabeled_classes" in entry), {}
    )
    columns = [found.get(name) or {} for name in ("labeled", "predicted", "kept")]
    return [[name, *(figure(each.get(name)) for each in columns)] for name in columns[0]]


def _state(run: Run) -> str:
    if run.last is None:
        return f"{run.label}: no evaluation yet (step {run.step} of {run.config.train.steps})"
    state = f"{run.label}: {run.miou:.1f} mIoU on the validation images at step {run.last_step}"
    if run.result is None:
        state += f"; not finished, step {run.step} of {run.config.train.steps}"
    return state


def class_rows(runs: list[Run]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(class, [(IoU, difference to the first run, its sign) of each run]), and the mean in the last row.

    A class may be called `mean` too: then the last row is `mean of the classes`.
    """
    names = list(next((run.iou for run in runs if run.iou), {}))
    rows = [(name, [run.iou.get(name, math.nan) for run in runs]) for name in names]
    rows.append(("mean of the classes" if "mean" in names else "mean", [run.miou for run in runs]))
    return [
        (name, [(figure(value), figure(value - first, "+.1f"), sign(value - first)) for value in (first, *others)])
        for name, (first, *others) in rows
    ]


def sign(difference: float) -> str:
    """`gain`, `loss`, or nothing where a difference of IoU in per cent is NaN or rounds to 0."""
    return "gain" if difference > 0.05 else "loss" if difference < -0.05 else ""


def facts(runs: list[Run]) -> list[list[str]]:
    """[name, a value for each run], without the lines that are empty for all runs."""
    lines = {
        "mIoU, last step": [figure(run.miou) for run in runs],
        "mIoU, best evaluation": [f"{run.best[1]:.1f} (step {run.best[0]})" if run.best else "–" for run in runs],
        **{
            f"mIoU by {text}, last step": [figure(under(run.last, name, "miou")) for run in runs]
            for name, text in PREDICTORS.items()
        },
        "mIoU on the test images, last step": [figure(under(run.result, "last", "test", "miou")) for run in runs],
        "calibration error, last step": [figure(under(run.last, "calibration_error")) for run in runs],
        "pseudo-labels against hidden labels": [_hidden(run) for run in runs],
        "steps done": [f"{run.step} of {run.config.train.steps}" for run in runs],
        "seed": [str(run.config.seed) for run in runs],
        "time of training": ["{} min {:02d} s".format(*divmod(round(run.seconds), 60)) for run in runs],
        "device": [str(under(run.result, "hardware", "device") or "–") for run in runs],
        "CPU threads": [str(under(run.result, "hardware", "threads") or "–") for run in runs],
        "finished": [str(under(run.result, "date") or "–") for run in runs],
        "commit": [str(under(run.result, "commit") or "–") for run in runs],
        "folder": [run.folder.name for run in runs],
    }
    return [[name, *values] for name, values in lines.items() if set(values) != {"–"}]


def _hidden(run: Run) -> str:
    found = run.last_evaluation.get("hidden_labels")
    if found is None:
        return "–"
    return f"{number(found['share']):.1f} % kept, {number(found['accuracy']):.1f} % of them right"


def _splits(runs: list[Run]) -> list[tuple[str, dict[str, Any]]]:
    """(list, {name, count, sha256, source}) of the finished runs, each list once."""
    found = {
        (name, split["sha256"]): (name, split)
        for run in runs
        for name, split in (run.result or {}).get("split", {}).items()
    }
    return list(found.values())
