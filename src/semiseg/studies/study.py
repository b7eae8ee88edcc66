"""A study as it is asked for: a table's rows, its sets of labels and seeds, and the run of each.

A comparison is a table whose rows are methods and whose reference is `supervised`; a table of the paper has rows with
options and published figures. No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from semiseg.config.recipe import Config, Flat
from semiseg.studies.published import Published

Key = tuple[str, str, int]
"""Row, set of labels and seed."""

Predictor = Literal["headline", "linear", "prototype"]
Analysis = Literal["discrimination", "embedding", "boundary", "consistency"]
Column = Literal["method", "seeds", "reference", "published difference", "costs"]


@dataclass(frozen=True)
class Row:
    """One row: a method, and what sets its runs apart."""

    key: str
    """What `--only` takes; `0.95` takes all rows whose keys begin with `0.95/`."""
    title: str
    method: str
    options: Flat = field(default_factory=dict)
    """They stand over the options of the recipe, of the scale and of the command line."""
    published: Mapping[str, Published] = field(default_factory=dict)
    """By published split; of a row without options `semiseg.studies.published` has the method's."""
    predictor: Predictor = "headline"
    """Whose score it is: rows of one run may differ in this alone."""
    reference: str | None = None
    """The row it is held against. None: the table's."""
    short: bool = False
    """Trained for as few steps as U2PL's code trains its supervised baseline; at full scale only."""


@dataclass(frozen=True)
class Columns:
    """What a table of the paper shows of one dataset."""

    recipe: str
    splits: tuple[str, ...] = ()
    """Sets of labels, as `--labeled` takes them. None: the folder's smallest that fills a batch."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows, their reference, and what a page shows of them."""

    name: str
    """The name of its files."""
    title: str
    headline: str | None = None
    """The sentence that opens the page. None: how many rows helped."""
    rows: tuple[Row, ...]
    reference: str
    """The row that others are held against."""
    verdicts: tuple[str, str] = ("higher", "lower")
    """Words for a row whose interval lies above or below 0."""
    columns: tuple[Column, ...] = ("seeds", "reference", "published difference")
    """Columns that not every table has; with `method` the first column is called so."""
    reports: bool = False
    """Whether the runs of one seed are shown side by side, on a page for each set of labels."""
    notes: tuple[str, ...] = ()
    axis: str | None = None
    """The swept option of a sweep, in words."""
    analysis: Analysis | None = None
    """The analysis of the runs, beside their scores."""
    data: Mapping[str, Columns] = field(default_factory=dict)
    """Of the paper, by dataset, the paper's own first."""
    paper: str = ""
    """Data and network of the published figures."""
    all_methods: bool = False
    """Whether methods that the paper does not list have rows too."""


@dataclass(frozen=True)
class Cell:
    """One run; `method` may say more than its name, as `prototype-threshold0.9`, where runs differ in more."""

    method: str
    labels: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.config.run_folder.name

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.method}, {self.labels} labels, seed {self.seed}"


@dataclass(frozen=True)
class Departure:
    """One thing in which runs differ from the paper's setting."""

    what: str
    paper: str
    here: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """The runs of a table, and how they were asked for."""

    table: Table
    rows: tuple[Row, ...]
    """The rows of the table that were asked for."""
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: Mapping[Key, Cell]
    """Rows may share one."""
    out: Path
    command: str
    reference_added: bool = False
    """Nobody asked for the reference."""
    published_splits: Mapping[str, str | None] = field(default_factory=dict)
    """For each set of labels, the published split whose figures stand beside it."""
    dataset: str | None = None
    """Of the paper's tables, as `--dataset` has it."""
    scale: str | None = None
    """Likewise."""
    departures: tuple[Departure, ...] = ()
    """From the paper's setting."""
    warning: str | None = None
    """Why the figures are no reproduction of the paper's, to stand over every table."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Each run once, all rows of a seed before the next seed."""
        return tuple({cell.name: cell for cell in self.runs.values()}.values())

    @property
    def config(self) -> Config:
        """The first run's; in a comparison all runs share data, network, schedule and evaluation."""
        return self.cells[0].config

    def split(self, labels: str) -> str | None:
        """The published split that a set of labels is; None for the user's own."""
        return self.runs[self.rows[0].key, labels, self.seeds[0]].config.data.split

    def reference(self, row: Row) -> str | None:
        """The key of the row that `row` is held against; None for a reference."""
        key = row.reference or self.table.reference
        return None if key == row.key else key


def file_name(labels: str) -> str:
    """The name of a set of labels as files have it."""
    return re.sub(r"[^\w.-]+", "-", labels)


def run_folder(out: Path, labels: str, variant: str, seed: int) -> Path:
    """Where a run goes: `out`/12-prototype-threshold0.9-seed0."""
    return out / f"{file_name(labels)}-{variant}-seed{seed}"


def command_line(command: str, name: str, asked: Mapping[str, object], flat: Flat) -> str:
    """The command line that makes a study; an option that was not `asked` for is None."""
    words = ["semiseg", command, name]
    for key, value in {**{key: value for key, value in asked.items() if value is not None}, **flat}.items():
        parts = value if isinstance(value, list | tuple) else [value]
        typed = [str(part).lower() if isinstance(part, bool | None) else str(part) for part in parts]
        words += [f"--{key}", *typed]
    return shlex.join(words)
