"""The end of a training on one's own folder: the verdict on the screen, and one page for all of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from semiseg import report
from semiseg.report.page import REPORT
from semiseg.report.texts import figure
from semiseg.runtime.screen import printable, say
from semiseg.studies.own.schedule import minutes_of
from semiseg.studies.own.trainings import Plan, in_folds, read_plan
from semiseg.studies.own.verdict import Verdict, unlearnt_in_words, where
from semiseg.training.record import VERDICT, run_behind


def write_page(run: Path) -> Path:
    """Write RUN/report.html from what is in the folder; returns its path. Raises ValueError before its end."""
    chosen, plan = run_behind(run), read_plan(run)
    document = json.loads((run / VERDICT).read_text("utf-8"))
    pairs = in_folds(plan, run)
    other = shlex.quote(printable(run.with_name(f"{run.name}-with-baseline")))
    verdict, command = None, f"semiseg train {shlex.quote(str(plan.config.data.root))} --run {other}"
    if plan.baseline:
        low, high = document["interval"]
        found = {"words": document["verdict"], "difference": document["difference"], "low": low, "high": high}
        command = f"semiseg predict {shlex.quote(printable(run))} PICTURES --out predictions"
        folds = {name: tuple(each) for name, each in document.get("unlearnt_classes", {}).items()}
        taken = " ".join([document["taken"], *unlearnt_in_words(folds)])
        verdict = report.Verdict(**found, images=len(document["images"]), taken=taken)
    answer = report.Answer(
        title=f"{plan.config.recipe}: trained on your own pictures",
        runs=tuple(method.folder for method, _ in pairs),
        baselines=tuple(beside.folder for _, beside in pairs if beside is not None),
        chosen=chosen,
        verdict=verdict,
        plan=tuple(plan.lines),
        command=command if plan.config.method != "supervised" else "",
    )
    return report.write_answer(run / REPORT, answer)


def conclude(plan: Plan, run: Path, verdict: Verdict, words: list[str], seconds: float, console: Console) -> None:
    """Print the scores, the verdict, and what to do next."""
    console.print()
    console.print(scores(verdict))
    if len(verdict.method.by_fold) > 1:
        console.print(folds(verdict))
    say(console, "\nVerdict: " + " ".join(words))
    if plan.folds:
        say(
            console,
            "Scores are of models that had not learnt the image; the last model saw more masks than each of them.",
        )
    say(console, f"\nThis took {minutes_of(seconds)}.")
    say(console, f"Report: {run / REPORT}")
    where = shlex.quote(printable(run))
    say(console, f"Model:  {run / 'model'}")
    say(console, f"Next:   semiseg predict {where} PICTURES --out predictions")


def scores(verdict: Verdict) -> Table:
    """IoU by class, with and without unlabelled images, and the difference."""
    table = _table("class", "IoU, %", verdict)
    theirs = None if verdict.baseline is None else verdict.baseline.iou
    for place, (name, ours) in enumerate(zip(verdict.classes, verdict.method.iou, strict=True)):
        last = place == len(verdict.classes) - 1
        folds = verdict.unlearnt.get(name)
        shown = printable(name) + ("" if folds is None else f" (unseen by the models{where(folds)})")
        table.add_row(shown, *_cells(ours, None if theirs is None else theirs[place]), end_section=last)
    table.add_row("mean", *_cells(verdict.method.miou, None if verdict.baseline is None else verdict.baseline.miou))
    return table


def folds(verdict: Verdict) -> Table:
    """mIoU of each fold, likewise."""
    table = _table("fold", "mIoU of each fold, %", verdict)
    theirs = () if verdict.baseline is None else verdict.baseline.by_fold
    for place, ours in enumerate(verdict.method.by_fold):
        table.add_row(str(place + 1), *_cells(ours, theirs[place] if theirs else None))
    return table


def _table(first: str, title: str, verdict: Verdict) -> Table:
    table = Table(first, title=title, title_justify="left")
    sides = ["masks alone", "with unlabelled", "difference"] if verdict.baseline is not None else ["IoU"]
    for name in sides:
        table.add_column(name, justify="right")
    return table


def _cells(ours: float, theirs: float | None) -> list[str]:
    return [figure(ours)] if theirs is None else [figure(theirs), figure(ours), figure(ours - theirs, "+.1f")]
