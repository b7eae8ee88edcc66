"""Which runs a table is made of: one for each row, set of labels and seed, and one for rows that share it.

A run's folder is named by its labels, method, the options in which the row differs from the recipe, and seed:
`12-prototype-threshold0.9-seed0`. An option at its default leaves no mark, so that Table 4's last row, Table 7's at
0.80 and Figure 3's at 4 are the same run, in one folder for all tables.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.config.fields import ConfigError, convert, nearest, option_types
from semiseg.config.layers import Flat, flatten
from semiseg.config.recipe import Config, load_config, option_values
from semiseg.studies.grid import (
    Cell,
    check_free,
    check_method_options,
    for_method,
    labeled_sets,
    read_seeds,
    typed_words,
    words_of,
)
from semiseg.studies.labels import LabeledSet
from semiseg.studies.paper import settings
from semiseg.studies.paper.rows import Row
from semiseg.studies.paper.settings import Scale
from semiseg.studies.paper.tables import Columns, Table, find_table

Key = tuple[str, str, int]
"""Row, set of labels and seed."""


@dataclass(frozen=True)
class Reproduction:
    """The runs of a table, and how they were asked for."""

    table: Table
    dataset: str
    scale: Scale
    preset: str | None
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    splits: Mapping[str, str | None]
    """Published split of each set of labels, None where it is of the user's own."""
    seeds: tuple[int, ...]
    runs: Mapping[Key, Cell]
    out: Path
    command: str

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Each run once, all rows of a seed before the next seed."""
        return tuple({cell.name: cell for cell in self.runs.values()}.values())

    @property
    def config(self) -> Config:
        """That of the first run."""
        return self.cells[0].config


def make_reproduction(
    name: str,
    dataset: str | None = None,
    scale: Scale | None = None,
    preset: str | None = None,
    only: str | None = None,
    labeled: str | None = None,
    seeds: str | None = None,
    out: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Reproduction:
    """The runs that the words of a command line describe. Raises ConfigError for what is wrong with them."""
    table = find_table(name)
    data = _dataset(table, dataset)
    size: Scale = scale or ("cpu" if data == "camvid" else "full")
    settings.check_scale(data, size, preset)
    rows = _rows(table, only, size)
    flat = flatten(overrides or {})
    _check_options(table, rows, flat)
    numbers = read_seeds(seeds or ("0,1" if size == "cpu" else "0"))
    maker = _Maker(table.data[data], data, size, preset, flat, out or _folder(data, size, preset))
    sets = maker.labeled_sets(labeled)
    runs = {
        (row.key, chosen.name, seed): maker.cell(row, chosen, seed)
        for seed in numbers
        for chosen in sets
        for row in rows
    }
    typed = {
        "dataset": dataset,
        "scale": scale,
        "preset": preset,
        "only": only,
        "labeled": labeled,
        "seeds": seeds,
        "out": out,
    }
    splits = {chosen.name: runs[rows[0].key, chosen.name, numbers[0]].config.data.split for chosen in sets}
    labels = tuple(splits)
    return Reproduction(
        table, data, size, preset, rows, labels, splits, numbers, runs, maker.out, _command(name, typed, flat)
    )


def _folder(dataset: str, scale: Scale, preset: str | None) -> Path:
    """One for all tables, as they share runs; the presets' runs differ."""
    own = "" if preset in (None, "release") else f"-{preset}"
    return Path("runs") / f"reproduce-{dataset}-{scale}{own}"


# What was asked for ---------------------------------------------------------------------------------------------------


def _dataset(table: Table, dataset: str | None) -> str:
    chosen = dataset or next(iter(table.data))
    if chosen not in table.data:
        raise ConfigError(
            f"--dataset {chosen}: {table.name} is of {' or '.join(table.data)}"
            + ("" if len(table.data) > 1 else f". All methods on other data: semiseg compare {chosen}")
        )
    return chosen


def _rows(table: Table, only: str | None, scale: Scale) -> tuple[Row, ...]:
    there = [row for row in table.rows if scale == "full" or not row.short]
    if only is None:
        return tuple(there)
    words = words_of(only)
    names = [row.key for row in there]
    groups = [key.partition("/")[0] for key in names if "/" in key]
    for word in words or [""]:
        if word not in (*names, *groups):
            raise ConfigError(f"--only {word}: {table.name} has no such row; {nearest(word, [*names, *groups])}")
    return tuple(row for row in there if row.key in words or row.key.partition("/")[0] in words)


def _check_options(table: Table, rows: Sequence[Row], flat: Flat) -> None:
    check_free(flat)
    check_method_options(flat, {row.method for row in rows})
    for row in rows:
        for key in row.options:
            if key in flat:
                raise ConfigError(f"--{key}: the rows of {table.name} set this; choose among them by --only")


# Runs -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Maker:
    """Makes the runs of one dataset at one scale."""

    columns: Columns
    dataset: str
    scale: Scale
    preset: str | None
    typed: Flat
    out: Path

    @property
    def recipe(self) -> str:
        return settings.recipe_of(self.columns.recipe, self.scale)

    def labeled_sets(self, words: str | None) -> list[LabeledSet]:
        base = load_config(self.recipe, self.shared("supervised"))
        if words is not None:
            return labeled_sets(words, base)
        if self.columns.splits:
            return labeled_sets(self.columns.splits, base)
        return labeled_sets(_filling_split(base), base)

    def shared(self, method: str) -> Flat:
        """What all runs of a method have in common."""
        return settings.overrides(self.dataset, self.scale, self.preset, method) | for_method(self.typed, method)

    def cell(self, row: Row, chosen: LabeledSet, seed: int) -> Cell:
        """The run of a row, a set of labels and a seed."""
        flat = {**self.shared(row.method), **chosen.overrides, "method": row.method}
        plain = load_config(self.recipe, flat)
        if self.dataset in settings.SCHEDULES and self.scale != "cpu":
            schedule = settings.schedule_overrides(self.dataset, self.scale, _count(plain), row.short)
            flat = flat | schedule if row.short else schedule | flat
        variant = _variant(row, plain)
        labels = re.sub(r"[^\w.-]+", "-", chosen.name)
        own = {"seed": seed, "run": self.out / f"{labels}-{variant}-seed{seed}"}
        return Cell(variant, chosen.name, seed, load_config(self.recipe, {**flat, **row.options, **own}))


def _filling_split(base: Config) -> str | None:
    """The smallest of ROOT/splits that fills a labelled batch, or the largest; None without any."""
    lists = base.data.root.glob("splits/*/labeled.txt")
    counts = {path.parent.name: len(path.read_text("utf-8").split()) for path in lists}
    filling = [name for name in counts if counts[name] >= base.train.batch_labeled]
    if filling:
        return min(filling, key=lambda name: counts[name])
    return max(counts, key=lambda name: counts[name], default=None)


def _count(config: Config) -> int:
    """Labelled images, of a published split or of a list."""
    from semiseg.data.listing import find_list, read_lines
    from semiseg.data.splits import PUBLISHED

    if config.data.split is not None:
        return PUBLISHED[config.data.split].labeled.count
    assert config.data.labeled is not None
    return len(read_lines(find_list(config.data.labeled, config.data.root)))


def _variant(row: Row, plain: Config) -> str:
    """The method with the options in which the row differs from `plain`, for the name of a folder."""
    types, usual = option_types(row.method), option_values(plain)
    words = [row.method, "short"] if row.short else [row.method]
    for key, value in row.options.items():
        if convert(value, types[key]) != usual[key]:
            words.append(
                key.removeprefix("method.").replace("prototypes.per_class", "prototypes").removeprefix("prototypes.")
                + _value(value)
            )
    return "-".join(words)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "-on" if value else "-off"
    return str(value) if isinstance(value, int | float) else f"-{str(value).lower()}"


# The command ----------------------------------------------------------------------------------------------------------


def _command(name: str, typed: Mapping[str, object], flat: Flat) -> str:
    """The command line that makes this reproduction."""
    words = ["semiseg", "reproduce", name]
    for key, value in {**{key: each for key, each in typed.items() if each is not None}, **flat}.items():
        words += [f"--{key}", *typed_words(value)]
    return shlex.join(words)
