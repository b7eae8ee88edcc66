"""A table of the paper from the words that ask for it to its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from semiseg.studies.folders import is_finished
from semiseg.studies.paper.analysis import analyse
from semiseg.studies.paper.document import build_document
from semiseg.studies.paper.grid import Reproduction
from semiseg.studies.paper.views import missing_words, title, write_pages
from semiseg.studies.run import MissingRunsError, places_for, say
from semiseg.studies.running import run_cells
from semiseg.studies.table import Document
from semiseg.studies.views import interval, labels_title, with_deviation


def run(made: Reproduction, jobs: int | None = None, console: Console | None = None) -> Document:
    """Run what is not finished, and write the table of all; returns what its JSON file holds.

    The table is written again after each run, so that a stopped reproduction has one too. Raises ValueError for a
    mistake in what was asked for, before anything is run.
    """
    console = console or Console()
    places = places_for(made.cells, jobs)
    _announce(made, len(places), console)

    def write(failures: Mapping[str, str]) -> Document:
        document = build_document(made, failures, len(places))
        write_pages(document, made.out)
        return document

    write({})
    document = write(run_cells(made.cells, places, write, console, "reproduce"))
    document["analysis"] = analyse(made, document)
    write_pages(document, made.out)
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
            say(console, f"{labels_title(section)}: {row['title']} {with_deviation(row['last'])}{_held(row)}")
        for words in missing_words(section):
            say(console, words)
    say(console, f"Table: {made.out / made.table.name}.html, .md and .json")


def _held(row: Mapping[str, Any]) -> str:
    """The difference to the row's reference, in words; empty without one."""
    found = row["difference"]
    return "" if found is None else f", {interval(found)} to {row['reference']}, {found['verdict']}"
