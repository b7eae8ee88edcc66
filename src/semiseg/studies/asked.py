"""What the words of a command line ask of a study: methods, seeds, sets of labels, and options of its runs.

No torch here: a mistake is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from semiseg.config.checks import Range, check_value
from semiseg.config.fields import ConfigError, check_method, option_types, repair
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Config, Flat
from semiseg.studies.labels import CHOSEN_HERE, LabeledSet, labeled_set, recipes_own

_SET_HERE = {"method": "--methods", "seed": "--seeds", "run": "--out", **dict.fromkeys(CHOSEN_HERE, "--labeled")}
"""Options of a run that the study sets, and by which of its own they are chosen."""


def words_of(value: str | Iterable[object]) -> list[str]:
    """`a,b` or ["a", "b"] as words, each once."""
    parts = value.split(",") if isinstance(value, str) else [str(part) for part in value]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def read_methods(value: str | Iterable[str]) -> list[str]:
    """Names of methods, or `all`. Raises ConfigError for other words."""
    words = words_of(value)
    if not words:
        raise ConfigError(f"--methods names none; expected all, or some of {', '.join(METHOD_OPTIONS)}")
    return list(METHOD_OPTIONS) if "all" in words else [check_method(word, "--methods: ") for word in words]


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


def check_jobs(jobs: int | None) -> None:
    """Raise ValueError for a number of runs at a time that cannot be."""
    if jobs is not None:
        check_value("--jobs", jobs, Annotated[int, Range(1, 1000)])


def check_options(flat: Flat, methods: Iterable[str]) -> None:
    """Raise ConfigError for an option that the study sets itself, and for a method's own that no method takes."""
    methods = list(methods)
    taken = {key for method in methods for key in for_method(flat, method)}
    valid = sorted({key for method in methods for key in option_types(method)})
    for key in flat:
        if key in _SET_HERE:
            raise ConfigError(f"--{key}: a comparison has this of its own; use {_SET_HERE[key]}")
        if key not in taken and key in valid:
            raise ConfigError(f"--{key}: none of these methods has prototypes by default; add --prototypes true")
        if key not in taken:
            raise ConfigError(f"--{key}: none of the compared methods has such an option; {repair(key, valid)}")
    if str(flat.get("train.devices", 1)) != "1":
        raise ConfigError("--train.devices: a comparison gives each run one device; --jobs says how many run at a time")


def for_method(flat: Flat, method: str) -> Flat:
    """`flat` without the options that are other methods' own: a method takes what it has.

    `prototypes.*` are for the methods that have prototypes by default, for they would turn them on in others; with
    `prototypes` true they are for every method that can have them.
    """
    own = option_types(method)
    by_default = getattr(METHOD_OPTIONS[method](), "prototypes", None) is not None
    wanted = by_default or str(flat.get("prototypes")).lower() == "true"

    def takes(key: str) -> bool:
        if key.startswith("prototypes.") and not wanted:
            return False
        return key in own or not key.startswith(("method.", "prototypes"))

    return {key: value for key, value in flat.items() if takes(key)}
