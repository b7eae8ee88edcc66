"""A study from what was asked for to its table: compare, demo and the paper's tables are run here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from semiseg.config.options import require
from semiseg.data import open_dataset
from semiseg.evaluation.model import written_classes
from semiseg.evaluation.same_classes import check_classes_file
from semiseg.methods import METHODS
from semiseg.runtime.launch import started_processes
from semiseg.runtime.lock import only_here
from semiseg.runtime.screen import say as say
from semiseg.studies.asked import check_jobs
from semiseg.studies.comparison import make_comparison
from semiseg.studies.folders import check, is_finished
from semiseg.studies.notes import added
from semiseg.studies.reports import write_reports
from semiseg.studies.result import Result
from semiseg.studies.running import Place, find_places, run_cells
from semiseg.studies.study import Cell, Study
from semiseg.studies.table import build_result
from semiseg.studies.views import interval, opening, with_deviation, write_pages


def compare(
    recipe: str | Path,
    methods: str | Iterable[str] = "all",
    labeled: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] = "0",
    *,
    out: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    overrides: Mapping[str, object] | None = None,
    console: Console | None = None,
) -> Result:
    """Train every method on every set of labels with every seed, and write the table of what came out.

    Args:
        recipe: a shipped recipe, or a YAML file.
        methods: names, or `all`; supervised is added where it is not among them.
        labeled: sets of labelled images (`semiseg.studies.labels`). None: the recipe's.
        seeds: whole numbers from 0. A seed has the same labelled batches in every method.
        out: folder of the runs, and of compare.json, .md, .html and a report for each set of labels. None:
            runs/compare-RECIPE.
        jobs: runs at a time. None: one on each GPU, or one on the CPU.
        overrides: options of all runs, as for `load_config`; a method takes the options `method.` that it
            has, and the options `prototypes.` where it has prototypes by default or `prototypes` is true.
        console: where progress goes.

    Returns a `semiseg.studies.result.Result`, as compare.json holds it, with the runs that are missing and why.
    `result.labeled[0].rows[1].difference.miou` is the second row's mIoU less supervised's, per cent, on the first set
    of labels. The table is written again after each run. What `out` holds of the same comparison is used: finished
    runs stay, others go on from their last checkpoint, and runs with other options are refused. Call it under
    `if __name__ == "__main__":`, as it starts processes. Raises ValueError for a mistake in what was asked for, before
    anything is run.
    """
    folder = None if out is None else Path(out)
    return run_study(make_comparison(recipe, methods, labeled, seeds, folder, overrides), jobs, console)


def run_study(study: Study, jobs: int | None = None, console: Console | None = None) -> Result:
    """Run what is not finished, and write the table of all; `compare` says how. One process at a time in its folder."""
    with only_here(study.out, "--out"):
        _check_classes(study)
        return _run_study(study, jobs, console or Console())


def _check_classes(study: Study) -> None:
    """Refuse a classes.txt that differs from the finished runs' classes, before another run is trained by it."""
    for cell in study.cells:
        if is_finished(cell):
            folder = cell.config.run_folder
            check_classes_file(written_classes(folder), cell.config.data, folder)


def _run_study(study: Study, jobs: int | None, console: Console) -> Result:
    places = _places(study.cells, jobs)
    _announce(study, len(places), console)

    def write(failures: Mapping[str, str]) -> Result:
        result = build_result(study, failures, len(places))
        write_pages(result, study.out)
        return result

    write({})  # a study that is stopped has a table too
    result = write(run_cells(study.cells, places, write, console, study.table.name))
    if study.table.analysis is not None:
        from semiseg.studies.paper.analysis import analyse

        result = replace(result, analysis=analyse(study, result))
    reports = write_reports(result, study.out) if study.table.reports else []
    if reports or result.analysis is not None:
        write_pages(result, study.out)  # once more, with links to them
    _conclude(result, study.out, console)
    return result


def require_all(result: Result) -> None:
    """Raise MissingRunsError where a run of the table is missing."""
    missing = [words for section in result.labeled for row in section.rows for words in row.missing_words]
    if missing:
        runs = result.runs
        raise MissingRunsError(
            f"{runs.of - runs.finished} of {runs.of} runs did not finish, and the table says so: {missing[0]}. The "
            "same command tries again"
        )


class MissingRunsError(ValueError):
    """Some runs of a study failed; the others are in the table."""


def _places(cells: Sequence[Cell], jobs: int | None) -> list[Place]:
    """Where the runs go. Raises ValueError for all that can be checked beforehand; each set of labels is opened."""
    check_jobs(jobs)
    require(started_processes() == 1, "this starts processes of its own: start it alone, not by torchrun")
    firsts = {cell.labels: replace(cell.config.data, cache="off") for cell in reversed(cells)}
    need_unlabeled = any(METHODS[cell.config.method].uses_unlabeled for cell in cells)
    splits = {labels: open_dataset(data, need_unlabeled).split for labels, data in firsts.items()}
    for cell in cells:
        check(cell, splits[cell.labels])
    return find_places(cells[0].config.train.device, jobs)


def _announce(study: Study, places: int, console: Console) -> None:
    done = sum(is_finished(cell) for cell in study.cells)
    steps = sum(cell.config.train.steps for cell in study.cells)
    say(
        console,
        f"{study.table.headline or study.table.title}: {len(study.cells)} runs, {steps:,} steps, in {study.out}: "
        f"{len(study.rows)} rows x {len(study.labels)} sets of labels x {len(study.seeds)} seeds, {places} at a time; "
        f"{done} are finished",
    )
    if study.reference_added:
        say(console, added(study))


def _conclude(result: Result, out: Path, console: Console) -> None:
    for section in result.labeled:
        for row in section.rows:
            held = row.difference
            words = "" if held is None else f", {interval(held)} to {row.reference}, {held.verdict}"
            for line in (f"{section.title}: {row.title} {with_deviation(row.last)}{words}", *row.missing_words):
                say(console, line)
    say(console, opening(result))
    say(console, f"Table: {out / result.table}.html, .md and .json")
