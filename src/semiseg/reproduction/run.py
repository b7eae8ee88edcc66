"""A table of the paper from the words that ask for it to its page."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from semiseg.comparison.folders import is_finished
from semiseg.comparison.grid import check_jobs
from semiseg.comparison.run import MissingRunsError, check_folders, say
from semiseg.comparison.running import find_places, run_cells
from semiseg.comparison.table import Document
from semiseg.comparison.views import labels_title
from semiseg.launch import started_processes
from semiseg.options import require
from semiseg.reproduction.analysis import analyse
from semiseg.reproduction.document import build_document
from semiseg.reproduction.grid import Reproduction
from semiseg.reproduction.views import cells, missing_words, title, write_views


def run(made: Reproduction, jobs: int | None = None, console: Console | None = None) -> Document:
    """Run what is not finished, and write the table of all; returns what its JSON file holds.

    The table is written again after each run, so that a stopped reproduction has one too. Raises ValueError for a
    mistake in what was asked for, before anything is run.
    """
    check_jobs(jobs)
    console = console or Console()
    require(started_processes() == 1, "a reproduction starts its own processes: start it alone, not by torchrun")
    check_folders(made.cells)
    places = find_places(made.config.train.device, jobs)
    _announce(made, len(places), console)

    def write(failures: Mapping[str, str]) -> Document:
        document = build_document(made, failures, len(places))
        write_views(document, made.out)
        return document

    write({})
    document = write(run_cells(made.cells, places, write, console, "reproduce"))
    document["analysis"] = analyse(made, document)
    write_views(document, made.out)
    _conclude(document, made, console)
    return document


def require_all(document: Document) -> None:
    """Raise MissingRunsError where a run of the table is missing."""
    missing = list(dict.fromkeys(words for section in document["labeled"] for words in missing_words(section)))
    if missing:
        runs = document["runs"]
        raise MissingRunsError(
            f"{runs['of'] - runs['finished']} of {runs['of']} runs did not finish, and the table says so: {missing[0]}."
            " The same command tries again"
        )


def _announce(made: Reproduction, places: int, console: Console) -> None:
    done = sum(is_finished(cell) for cell in made.cells)
    steps = sum(cell.config.train.steps for cell in made.cells)
    say(
        console,
        f"{made.table.title}: {len(made.cells)} runs, {steps:,} steps, in {made.out}, {places} at a time; {done} are "
        "finished",
    )


def _conclude(document: Document, made: Reproduction, console: Console) -> None:
    say(console, title(document))
    for section in document["labeled"]:
        for row in section["rows"]:
            say(console, f"{labels_title(section)}: {', '.join(cells(document, row))}")
        for words in missing_words(section):
            say(console, words)
    say(console, f"Table: {made.out / made.table.name}.html, .md and .json")
