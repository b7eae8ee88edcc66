"""The demo: does a method with unlabelled scenes beat training on the labelled ones alone? Measured, then said."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from semiseg.config.recipe import Config, load_config
from semiseg.report import write_comparison
from semiseg.report.page import REPORT, class_rows
from semiseg.report.runs import Run, read_runs
from semiseg.training import experiment

METHODS = ("supervised", "prototype")  # the baseline first


def demo(out: Path, steps: int | None = None, seed: int = 0, console: Console | None = None) -> Path:
    """Train both METHODS by the recipe `demo` into folders below `out`, print the scores, write the report.

    Both see the same labelled scenes in the same order, for as many steps (None: the recipe's). What `out` holds of the
    same demo is used: a stopped training goes on, a finished one is only scored again. Returns the report's path.
    Raises ValueError where `out` holds runs with other options.
    """
    console = console or Console()
    configs = {method: demo_config(out, method, steps, seed) for method in METHODS}
    scenes, total = configs["prototype"].data.scenes, configs["prototype"].train.steps
    _say(
        console,
        f"Two trainings of {total} steps from the same {scenes.labeled} labelled scenes; `prototype` also sees "
        f"{scenes.unlabeled} scenes without labels. Both are scored on {scenes.val} others. Runs go to {out}.",
    )
    folders = [_trained(config, console) for config in configs.values()]
    runs = read_runs(folders)
    console.print(score_table(runs))
    words = verdict(runs[-1].miou - runs[0].miou)
    _say(console, _how_compared(runs))
    _say(console, f"Verdict: {words}")
    report = write_comparison(folders, out / REPORT, f"semiseg demo: {total} steps, seed {seed}", words)
    _say(console, f"Report: {report}")
    return report


def demo_config(out: Path, method: str, steps: int | None, seed: int) -> Config:
    """The config of one of the demo's runs."""
    overrides: dict[str, object] = {"method": method, "seed": seed, "run": out / method}
    return load_config("demo", overrides if steps is None else overrides | {"train.steps": steps})


def _trained(config: Config, console: Console) -> Path:
    if (config.run_folder / experiment.RESULT).is_file():
        _say(console, f"{config.run_folder} holds a finished run: it is scored again, not trained again.")
    return experiment.train(config, resume=True, console=console)


def verdict(difference: float) -> str:
    """The plain sentence; `difference` in mIoU, with unlabelled images minus without."""
    helped = "helped" if round(difference, 1) > 0 else "did not help"
    return f"the unlabelled images {helped}: {difference:+.1f} mIoU"


def score_table(runs: list[Run]) -> Table:
    """IoU by class of both runs at the last step, and the difference."""
    table = Table(title="IoU on the validation scenes, last step, %")
    table.add_column("class")
    for name in (*(run.label for run in runs), "difference"):
        table.add_column(name, justify="right")
    rows = class_rows(runs)
    for name, cells in rows:
        style = {"gain": "green", "loss": "red"}.get(cells[-1][2], "")
        values = [value for value, _, _ in cells]
        difference = f"[{style}]{cells[-1][1]}[/]" if style else cells[-1][1]
        if name == rows[-1][0]:
            table.add_section()
        table.add_row(name, *values, difference)
    return table


def _how_compared(runs: list[Run]) -> str:
    """On what the verdict rests, and the scores it leaves out."""
    best = ", ".join(f"{run.label} {run.best[1]:.1f} at step {run.best[0]}" for run in runs if run.best)
    seconds = sum(run.seconds for run in runs)
    return (
        "The scores are those of the last step, so that no checkpoint was chosen by the scenes it is scored on. "
        f"Best evaluation on the way: {best}. Training took {seconds:.0f} s. One seed of a network this small says "
        "little: another --seed, or another processor's rounding, moves a score by as much as 4."
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
