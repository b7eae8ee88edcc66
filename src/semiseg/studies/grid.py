"""Which runs a comparison is made of: one for each method, set of labelled images and seed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from semiseg.config.fields import ConfigError, check_method, option_types, repair
from semiseg.config.layers import Flat, flatten
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Config, load_config
from semiseg.studies.labels import CHOSEN_HERE, LabeledSet, labeled_set, recipes_own

REFERENCE = "supervised"
"""What every method is held against."""

_SET_HERE = {"method": "--methods", "seed": "--seeds", "run": "--out", **dict.fromkeys(CHOSEN_HERE, "--labeled")}
"""Options of a run that the comparison sets, and by which of its own they are chosen."""


@dataclass(frozen=True)
class Cell:
    """One run; `method` may say more than its name, as `prototype-threshold0.9`, where runs differ in more."""

    method: str
    labels: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.config.run_folder.name

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.method}, {self.labels} labels, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """The runs, the reference's first of each seed, and how they were asked for."""

    recipe: str
    out: Path
    methods: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    reference_added: bool  # nobody asked for it
    command: str

    @property
    def config(self) -> Config:
        """That of the first run: data, network, schedule and evaluation are those of all."""
        return self.cells[0].config


def make_grid(
    recipe: str | Path,
    methods: str | Iterable[str] = "all",
    labeled: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] = "0",
    out: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Grid:
    """The grid that the words of a command line, or lists of them, describe. Raises ConfigError for what is wrong."""
    flat = flatten(overrides or {})
    check_free(flat)
    asked = _methods(methods)
    names = tuple(dict.fromkeys([REFERENCE, *asked]))
    check_method_options(flat, names)
    base = load_config(recipe, for_method(flat, REFERENCE))
    sets = labeled_sets(labeled, base)
    numbers = read_seeds(seeds)
    folder = out or Path("runs") / f"compare-{base.recipe}"
    cells = tuple(
        _cell(recipe, flat, method, chosen, seed, folder) for seed in numbers for chosen in sets for method in names
    )
    labels = tuple(chosen.name for chosen in sets)
    typed = None if labeled is None else ",".join(words_of(labeled))
    command = _command(str(recipe), ",".join(words_of(methods)), typed, numbers, out, flat)
    return Grid(base.recipe, folder, names, labels, numbers, cells, REFERENCE not in asked, command)


def check_jobs(jobs: int | None) -> None:
    """Raise ConfigError for a number of runs at a time that cannot be."""
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; expected 1 or more")


def _cell(recipe: str | Path, flat: Flat, method: str, chosen: LabeledSet, seed: int, out: Path) -> Cell:
    own = {"method": method, "seed": seed, "run": out / f"{file_name(chosen.name)}-{method}-seed{seed}"}
    config = load_config(recipe, {**for_method(flat, method), **chosen.overrides, **own})
    return Cell(method, chosen.name, seed, config)


def file_name(labels: str) -> str:
    """The name of a set of labels as files have it."""
    return re.sub(r"[^\w.-]+", "-", labels)


# What was asked for ---------------------------------------------------------------------------------------------------


def words_of(value: str | Iterable[object]) -> list[str]:
    """`a,b` or ["a", "b"] as words, each once."""
    parts = value.split(",") if isinstance(value, str) else [str(part) for part in value]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _methods(value: str | Iterable[str]) -> list[str]:
    words = words_of(value)
    if not words:
        raise ConfigError(f"--methods names none; expected all, or some of {', '.join(METHOD_OPTIONS)}")
    if "all" in words:
        return list(METHOD_OPTIONS)
    return [check_method(word, "--methods: ") for word in words]


def read_seeds(value: str | Iterable[int]) -> tuple[int, ...]:
    """`0,1` or [0, 1] as numbers, each once. Raises ConfigError for other words."""
    words = words_of(value)
    if not words or not all(re.fullmatch("[0-9]+", word) for word in words):
        raise ConfigError(f"--seeds is {','.join(words)!r}; expected whole numbers from 0, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, words)))


def labeled_sets(value: str | Iterable[str] | None, base: Config) -> list[LabeledSet]:
    """The sets of labels that the words of `--labeled` name, or the recipe's own.

    Raises ConfigError where two have one name.
    """
    words = [] if value is None else words_of(value)
    sets = [labeled_set(each, base.data) for each in words] or [recipes_own(base.data)]
    names = [chosen.name for chosen in sets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--labeled {','.join(words)}: two of these are called {twice!r}; give the lists other names")
    return sets


# Options of the runs --------------------------------------------------------------------------------------------------


def check_free(flat: Flat) -> None:
    """Raise ConfigError for an option of a run that is for the comparison to set."""
    for key in flat:
        if key in _SET_HERE:
            raise ConfigError(f"--{key}: a comparison has this of its own; use {_SET_HERE[key]}")
    if str(flat.get("train.devices", 1)) != "1":
        raise ConfigError("--train.devices: a comparison gives each run one device; --jobs says how many run at a time")


def check_method_options(flat: Flat, methods: Iterable[str]) -> None:
    """Raise ConfigError for an option of a method's own that none of `methods` has."""
    valid = {key for method in methods for key in option_types(method)}
    for key in flat:
        if _is_own(key) and key not in valid:
            raise ConfigError(f"--{key}: none of the compared methods has such an option; {repair(key, sorted(valid))}")


def for_method(flat: Flat, method: str) -> Flat:
    """`flat` without the `method.*` and `prototypes.*` options that this method does not define.

    `prototypes.*` alone turns nothing on here: unless `prototypes` is given too, it is for methods that have them on.
    """
    own = option_types(method)
    taken = {key: value for key, value in flat.items() if not _is_own(key) or key in own}
    if "prototypes" in taken or getattr(METHOD_OPTIONS[method](), "prototypes", None) is not None:
        return taken
    return {key: value for key, value in taken.items() if not key.startswith("prototypes.")}


def _is_own(key: str) -> bool:
    """Whether an option is not one that every method has."""
    return key.partition(".")[0] in ("method", "prototypes") and key != "method"


# The command ----------------------------------------------------------------------------------------------------------


def _command(recipe: str, methods: str, labeled: str | None, seeds: Iterable[int], out: Path | None, flat: Flat) -> str:
    """The command line that makes this grid."""
    words = ["semiseg", "compare", recipe, "--methods", methods]
    words += [] if labeled is None else ["--labeled", labeled]
    words += ["--seeds", ",".join(map(str, seeds))]
    words += [] if out is None else ["--out", str(out)]
    for key, value in flat.items():
        words += [f"--{key}", *typed_words(value)]
    return shlex.join(words)


def typed_words(value: object) -> list[str]:
    """An option's value as one would type it."""
    if isinstance(value, bool) or value is None:
        return [str(value).lower()]
    return [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
