"""Which runs a table is made of: one for each row, set of labels and seed, and one for rows that share it.

A run's folder is named by its labels, method, the options in which the row differs from the recipe, and seed:
`12-prototype-threshold0.9-seed0`. An option at its default leaves no mark, so that Table 4's last row, Table 7's at
0.80 and Figure 3's at 4 are the same run, in one folder for all tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from semiseg.config.fields import ConfigError, convert, nearest, option_types
from semiseg.config.recipe import Config, Flat, flatten, load_config, option_values
from semiseg.studies.asked import check_options, for_method, labeled_sets, read_seeds, words_of
from semiseg.studies.labels import LabeledSet
from semiseg.studies.paper import settings
from semiseg.studies.paper.settings import Scale
from semiseg.studies.paper.tables import find_table
from semiseg.studies.study import Cell, Columns, Row, Study, Table, command_line, run_folder


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
) -> Study:
    """The runs that the words of a command line describe. Raises ConfigError for what is wrong with them."""
    table = find_table(name)
    data = _dataset(table, dataset)
    size: Scale = scale or ("cpu" if data == "camvid" else "full")
    settings.check_scale(data, size, preset)
    rows = _rows(table, only, size)
    flat = flatten(overrides or {})
    check_options(flat, {row.method for row in rows})
    for key in flat:
        if any(key in row.options for row in rows):
            raise ConfigError(f"--{key}: the rows of {table.name} set this; choose among them by --only")
    numbers = read_seeds(seeds or ("0,1" if size == "cpu" else "0"))
    suffix = "" if preset in (None, "release") else f"-{preset}"  # tables share runs, presets do not
    folder = out or Path("runs") / f"reproduce-{data}-{size}{suffix}"
    maker = _Maker(table.data[data], data, size, preset, flat, folder)
    base = load_config(maker.recipe, maker.shared("supervised"))
    sets = labeled_sets(labeled or maker.columns.splits or _filling_split(base), base)
    runs = {
        (row.key, chosen.name, seed): maker.cell(row, chosen, seed)
        for seed in numbers
        for chosen in sets
        for row in rows
    }
    asked = {"dataset": dataset, "scale": scale, "preset": preset, "only": only}
    asked |= {"labeled": labeled, "seeds": seeds, "out": out}
    study = Study(
        table=table,
        rows=rows,
        labels=tuple(chosen.name for chosen in sets),
        seeds=numbers,
        runs=runs,
        out=folder,
        command=command_line("reproduce", name, asked, flat),
        dataset=data,
        scale=size,
    )
    from semiseg.studies.paper import differences  # no mistake is left to tell, and this imports torch

    found = differences.departures(study)
    beside = {labels: differences.paper_split(table, study.split(labels)) for labels in study.labels}
    return replace(study, departures=found, warning=differences.warning(found), published_splits=beside)


def _dataset(table: Table, dataset: str | None) -> str:
    chosen = dataset or next(iter(table.data))
    if chosen not in table.data:
        raise ConfigError(
            f"--dataset {chosen}: {table.name} is of {' or '.join(table.data)}"
            + ("" if len(table.data) > 1 else f". All methods on other data: semiseg compare {chosen}")
        )
    return chosen


def _rows(table: Table, only: str | None, scale: Scale) -> tuple[Row, ...]:
    there = tuple(row for row in table.rows if scale == "full" or not row.short)
    if only is None:
        return there
    words = words_of(only)
    names = [row.key for row in there]
    groups = [key.partition("/")[0] for key in names if "/" in key]
    for word in words or [""]:
        if word not in (*names, *groups):
            raise ConfigError(f"--only {word}: {table.name} has no such row; {nearest(word, [*names, *groups])}")
    return tuple(row for row in there if row.key in words or row.key.partition("/")[0] in words)


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
        if row.options.get("prototypes") is False:  # options of prototypes are for the other rows
            flat = {key: value for key, value in flat.items() if not key.startswith("prototypes.")}
        own = {"seed": seed, "run": run_folder(self.out, chosen.name, variant, seed)}
        return Cell(variant, chosen.name, seed, load_config(self.recipe, {**flat, **row.options, **own}))


def _filling_split(base: Config) -> str | None:
    """The smallest of ROOT/splits that fills a labelled batch, or the largest; None without any."""
    lists = base.data.root.glob("splits/*/labeled.txt")
    counts = {path.parent.name: len(path.read_text("utf-8").split()) for path in lists}
    filling = [name for name in counts if counts[name] >= base.train.batch_labeled]
    return min(filling, key=counts.__getitem__) if filling else max(counts, key=counts.__getitem__, default=None)


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
        if convert(value, types[key]) != usual.get(key):
            if isinstance(value, bool):
                shown = "-on" if value else "-off"
            else:
                shown = str(value) if isinstance(value, int | float) else f"-{str(value).lower()}"
            words.append(key.rpartition(".")[2] + shown)
    return "-".join(words)
