"""The demo: does a method with unlabelled scenes beat training on the labelled ones alone? Measured, then said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from semiseg.report import write_comparison
from semiseg.report.page import REPORT, class_rows
from semiseg.report.runs import Run, read_runs
from semiseg.studies.comparison import make_comparison
from semiseg.studies.run import require_all, run_study, say
from semiseg.studies.study import Study


def demo(out: Path, steps: int | None = None, seed: int = 0, console: Console | None = None) -> Path:
    """Compare `prototype` with `supervised` by the recipe `demo`, print the scores, write the report; returns its path.

    Both see the same labelled scenes in the same order, for as many steps (None: the recipe's). What `out` holds of the
    same demo is used: a stopped training goes on, a finished one stays. Raises ValueError where `out` holds runs with
    other options, or where a run fails.
    """
    console = console or Console()
    study = demo_study(out, steps, seed)
    scenes, total = study.config.data.scenes, study.config.train.steps
    say(
        console,
        f"Two trainings of {total} steps from the same {scenes.labeled} labelled scenes; `prototype` also sees "
        f"{scenes.unlabeled} scenes without labels. Both are scored on {scenes.val} others. Runs go to {out}.",
    )
    require_all(run_study(study, 1, console))
    folders = [cell.config.run_folder for cell in study.cells]
    runs = read_runs(folders)
    console.print(score_table(runs))
    words = verdict(runs[-1].miou - runs[0].miou)
    best = ", ".join(f"{run.label} {run.best[1]:.1f} at step {run.best[0]}" for run in runs if run.best)
    say(
        console,
        "The scores are the last step's, so that no checkpoint was chosen by the scenes it is scored on. "
        f"Best evaluation on the way: {best}. Training took {sum(run.seconds for run in runs):.0f} s. One seed of a "
        "network this small says little: another --seed, or another processor's rounding, moves a score by as much "
        "as 4.",
    )
    say(console, f"Verdict: {words}")
    report = write_comparison(folders, out / REPORT, f"semiseg demo: {total} steps, seed {seed}", words)
    say(console, f"Report: {report}")
    return report


def demo_study(out: Path, steps: int | None, seed: int) -> Study:
    """The two runs; their report is the demo's own."""
    study = make_comparison("demo", "prototype", None, [seed], out, {} if steps is None else {"train.steps": steps})
    return replace(study, table=replace(study.table, reports=False), reference_added=False)


def verdict(difference: float) -> str:
    """The plain sentence; `difference` in mIoU, with unlabelled images minus without."""
    helped = "helped" if round(difference, 1) > 0 else "did not help"
    return f"the unlabelled images {helped}: {difference:+.1f} mIoU"


def score_table(runs: list[Run]) -> Table:
    """IoU by class of both runs at the last step, and the difference."""
    table = Table("class", title="IoU on the validation scenes, last step, %")
    for name in (*(run.label for run in runs), "difference"):
        table.add_column(name, justify="right")
    rows = class_rows(runs)
    for place, (name, cells) in enumerate(rows):
        style = {"gain": "green", "loss": "red"}.get(cells[-1][2], "none")
        table.add_row(
            name, *(value for value, _, _ in cells), f"[{style}]{cells[-1][1]}[/]", end_section=place == len(rows) - 2
        )
    return table
