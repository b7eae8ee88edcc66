"""Which options there are, of which type, and how a value from a file or the command line becomes one.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from semiseg.config.checks import shown
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.options import SECTIONS
from semiseg.config.prototypes import PrototypesOptions


class ConfigError(ValueError):
    """The user's mistake in a recipe or an option; the message names the place, the key and the repair."""


def has_prototypes(method: str) -> bool:
    """Whether the section `prototypes` is among the options of `method`."""
    return any(item.name == "prototypes" for item in fields(METHOD_OPTIONS[method]))


def sections(method: str) -> dict[str, type]:
    """Section name -> dataclass of its options; the section `method` holds the options of `method`."""
    prototypes = {"prototypes": PrototypesOptions} if has_prototypes(method) else {}
    return {"method": METHOD_OPTIONS[method], **prototypes, **SECTIONS}


def option_types(method: str) -> dict[str, Any]:
    """Every option that `method` has: dotted key -> type, in the order of the help."""
    types: dict[str, Any] = {"recipe": str, "preset": str | None, "seed": int, "run": Path | None}
    types["method"] = Literal[tuple(METHOD_OPTIONS)]
    for key, (options, item) in option_fields(method).items():
        types[key] = bool if key == "prototypes" else type_hints(options)[item.name]
    return types


def option_fields(method: str) -> dict[str, tuple[type, Field[Any]]]:
    """Every option of `method` in a section: dotted key -> the dataclass that has it, and its field there."""
    found = {key: pair for name, options in sections(method).items() for key, pair in _fields(options, f"{name}.")}
    if "method.prototypes" in found:  # a section of its own; the key alone turns it on or off
        found = {"prototypes": found.pop("method.prototypes"), **found}
    return found


def _fields(options: type, prefix: str) -> Iterable[tuple[str, tuple[type, Field[Any]]]]:
    hints = type_hints(options)
    for item in fields(options):
        if is_dataclass(hints[item.name]):
            yield from _fields(hints[item.name], f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, (options, item)


def marked(method: str, mark: Mapping[str, str]) -> set[str]:
    """Dotted keys of the options of `method` whose field has `mark` among its metadata."""
    return {key for key, (_, item) in option_fields(method).items() if mark.items() <= item.metadata.items()}


type_hints = cache(get_type_hints)  # field -> type; worked out once, as a table loads a config a hundred times


def nearest(name: str, valid: Iterable[str]) -> str:
    """The repair for a mistyped name: the nearest valid one, if one is near, and all of them."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}? Expected" if close else "expected"
    return f"{hint} one of: {', '.join(names)}"


def check_method(name: object, place: str = "") -> str:
    """`name` if there is such a method. Raises ConfigError with the valid names; `place` opens its message."""
    if not isinstance(name, str):
        raise ConfigError(f"{place}method is {shown(name)}; expected the name of one: {', '.join(METHOD_OPTIONS)}")
    if name not in METHOD_OPTIONS:
        raise ConfigError(f"{place}there is no method {shown(name)}; {nearest(name, METHOD_OPTIONS)}")
    return name


def convert(value: object, kind: Any) -> Any:
    """`value`, from YAML or as typed, as the type `kind` of an option. Raises ValueError where it does not fit."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        absent = value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
        return None if absent else convert(value, next(arg for arg in inner if arg is not NoneType))
    if origin is Literal:
        choices = {str(choice): choice for choice in inner}
        if str(value) in choices:
            return choices[str(value)]
    elif origin is tuple:
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            kinds = inner[:1] * len(items) if inner[-1] is Ellipsis else inner
            if len(items) == len(kinds):
                return tuple(map(convert, items, kinds))
    elif kind is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    elif kind in (str, Path):
        if isinstance(value, str | Path) and (kind is str or str(value)):  # an empty path would be the current folder
            return kind(value)
    elif not isinstance(value, bool):
        if kind is int and isinstance(value, int | str):
            return int(value)
        # YAML 1.1 reads 1e-3 as text; nan would pass every check of the form `x < 0`.
        if kind is float and isinstance(value, int | float | str):
            with suppress(OverflowError):  # a whole number of more than 308 digits
                if math.isfinite(float(value)):
                    return float(value)
    raise ValueError(value)


def now(key: str, value: object) -> object:
    """The value of the option `key` under its present name: see OLD_VALUES."""
    return OLD_VALUES.get(key, {}).get(str(value).lower(), value)


def option_help(method: str) -> dict[str, str]:
    """Dotted key -> docstring, for every option in a section; empty where the source has none or cannot be read."""
    return {key: attribute_docs(options).get(item.name, "") for key, (options, item) in option_fields(method).items()}


@cache
def attribute_docs(options: type) -> dict[str, str]:
    """Field name -> the string under it in the source, of a class and its bases."""
    from docstring_parser import parse_from_object  # it takes a tenth of the time of `--help`, which alone needs it

    parsed = (parse_from_object(base) for base in reversed(options.__mro__[:-1]))
    return {text.arg_name: " ".join((text.description or "").split()) for base in parsed for text in base.params}


def methods_with(key: str) -> list[str]:
    """The methods that have the option `key` (`method.threshold`)."""
    return [name for name in METHOD_OPTIONS if key in option_types(name)]


RENAMED = {
    "data.no-cache": "data.cache off",
    "method.prototype": "prototypes (true or false)",
    "method.prototypes": "prototypes (true or false), and the number of prototypes prototypes.per_class",
    "method.prototypes_per_class": "prototypes.per_class",
    "method.temperature": "prototypes.temperature",
    "method.prototype_temperature": "prototypes.temperature",
    "method.momentum": "prototypes.momentum",
    "method.prototype_momentum": "prototypes.momentum",
    "method.update": "prototypes.update (none: off)",
    "method.update_rule": "prototypes.update",
    "method.grid": "prototypes.grid",
    "method.prototype_grid": "prototypes.grid",
    "method.prototype_weight": "prototypes.weight",
    "method.init_pixels": "prototypes.init_pixels",
}
"""Old spelling -> the new one: version 0.1 had prototypes' options among each method's own, and `cache` was a flag."""
OLD_VALUES = {"data.cache": {"true": "memory", "false": "off"}}
"""Of an option that had other values before: what each of them is now. YAML reads `off` as false."""
GONE = {"loss.slices": "it saved 0.7 of 18 GB and is gone; train.accumulate saves more"}
"""Options that are no longer there, and what serves instead."""


def repair(key: str, valid: Iterable[str]) -> str:
    """What to do about an unknown option: its new spelling, the method that has it, or the nearest name."""
    names = list(valid)
    if key in GONE:
        return GONE[key]
    if key in RENAMED and ("prototypes" in names or not methods_with(key)):
        return f"it is now {RENAMED[key]}"
    if owners := methods_with(key):
        return f"it belongs to --method {' or '.join(owners)}"
    section = [name for name in names if name.rpartition(".")[0] == key.rpartition(".")[0]]
    # The last part is compared, for `optim.` alone makes `optim.zzz` look much like `optim.lr`.
    if near := _nearest_by_last_part(key, section, 0.6) or _nearest_by_last_part(key, names, 0.7):
        return f"did you mean {near}?"
    return f"expected one of: {', '.join(section or dict.fromkeys(name.split('.')[0] for name in names))}"


def _nearest_by_last_part(key: str, names: Sequence[str], cutoff: float) -> str | None:
    lasts = {name: name.rpartition(".")[2] for name in names}
    best = difflib.get_close_matches(key.rpartition(".")[2], dict.fromkeys(lasts.values()), n=1, cutoff=cutoff)
    alike = [name for name in names if lasts[name] in best]
    return next(iter(difflib.get_close_matches(key, alike, n=1, cutoff=0)), None)
