"""A comparison from the words that ask for it to its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from semiseg.config.options import require
from semiseg.data import open_dataset
from semiseg.methods import METHODS
from semiseg.runtime.launch import started_processes
from semiseg.studies.folders import check, is_finished
from semiseg.studies.grid import REFERENCE, Cell, Grid, check_jobs, make_grid
from semiseg.studies.reports import write_reports
from semiseg.studies.running import Place, find_places, run_cells
from semiseg.studies.table import Document, build_document
from semiseg.studies.views import cells, headline, labels_title, missing_words, write_pages


def compare(
    recipe: str | Path,
    methods: str | Iterable[str] = "all",
    labeled: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] = "0",
    *,
    out: Path | None = None,
    jobs: int | None = None,
    overrides: Mapping[str, object] | None = None,
    console: Console | None = None,
) -> Document:
    """Train every method on every set of labels with every seed, and write the table of what came out.

    Args:
        recipe: a shipped recipe, or a YAML file.
        methods: names, or `all`; supervised is added where it is not among them.
        labeled: sets of labelled images (`semiseg.studies.labels`). None: the recipe's.
        seeds: whole numbers from 0. A seed has the same labelled batches in every method.
        out: folder of the runs, and of compare.json, .md, .html and a report for each set of labels. None:
            runs/compare-RECIPE.
        jobs: runs at a time. None: one on each GPU, or one on the CPU.
        overrides: options of all runs, as for `load_config`; a method takes those of `method.` that it has.
        console: where progress goes.

    Returns what compare.json holds, with the runs that are missing and why; the table is written again after each run.
    What `out` holds of the same comparison is used: finished runs stay, others go on from their last checkpoint, and
    runs with other options are refused. Call it under `if __name__ == "__main__":`, as it starts processes. Raises
    ValueError for a mistake in what was asked for, before anything is run.
    """
    return run_grid(make_grid(recipe, methods, labeled, seeds, out, overrides), jobs, console)


def run_grid(grid: Grid, jobs: int | None, console: Console | None = None) -> Document:
    """`compare` of a grid that is made."""
    console = console or Console()
    places = places_for(grid.cells, jobs)
    _announce(grid, len(places), console)

    def write(failures: Mapping[str, str]) -> Document:
        document = build_document(grid, failures, len(places))
        write_pages(document, grid.out)
        return document

    write({})
    document = write(run_cells(grid.cells, places, write, console))
    if write_reports(document, grid.out):
        write_pages(document, grid.out)  # once more, with links to them
    _conclude(document, grid.out, console)
    return document


def require_all(document: Document) -> None:
    """Raise MissingRunsError where a run of the table is missing."""
    missing = [words for section in document["labeled"] for row in section["rows"] for words in missing_words(row)]
    if missing:
        raise MissingRunsError(
            f"{len(missing)} of {document['runs']['of']} runs did not finish, and the table says so: {missing[0]}. The "
            "same command tries again"
        )


class MissingRunsError(ValueError):
    """Some runs of a comparison failed; the others are in the table."""


def places_for(cells: Sequence[Cell], jobs: int | None) -> list[Place]:
    """Where the runs go, once all that can be checked beforehand is in order. Raises ValueError where it is not."""
    check_jobs(jobs)
    require(started_processes() == 1, "this starts processes of its own: start it alone, not by torchrun")
    _check_folders(cells)
    return find_places(cells[0].config.train.device, jobs)


def _check_folders(cells: Sequence[Cell]) -> None:
    """Open the data of each set of labels, so that what is wrong with them is heard at once, and look at old runs.

    Raises ValueError for either.
    """
    firsts = {cell.labels: cell for cell in reversed(cells)}
    need = any(METHODS[cell.config.method].uses_unlabeled for cell in cells)
    splits = {labels: _split(cell, need) for labels, cell in firsts.items()}
    for cell in cells:
        check(cell, splits[cell.labels])


def _split(cell: Cell, need_unlabeled: bool) -> Mapping[str, object]:
    return open_dataset(replace(cell.config.data, cache=False), need_unlabeled).split


def _announce(grid: Grid, places: int, console: Console) -> None:
    done = sum(is_finished(cell) for cell in grid.cells)
    words = (
        f"{len(grid.cells)} runs of {grid.config.train.steps} steps in {grid.out}: {len(grid.methods)} methods x "
        f"{len(grid.labels)} sets of labels x {len(grid.seeds)} seeds, {places} at a time; {done} are finished"
    )
    say(console, words)
    if grid.reference_added:
        say(console, f"{REFERENCE} was added: it is what the others are held against")


def _conclude(document: Document, out: Path, console: Console) -> None:
    for section in document["labeled"]:
        for row in section["rows"]:
            method, last, difference, verdict, *_ = cells(row)
            say(console, f"{labels_title(section)}: {method} {last}, {difference} {verdict}")
            for words in missing_words(row):
                say(console, words)
    say(console, headline(document))
    say(console, f"Table: {out / 'compare.html'}, .md and .json")


def say(console: Console, text: str) -> None:
    """Print a line, whole where it goes into a file."""
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
