"""Which options there are, of which type, and how a value from a file or the command line becomes one.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.options import (
    AugmentOptions,
    DataOptions,
    EvaluationOptions,
    LossOptions,
    NetworkOptions,
    OptimOptions,
    TrainOptions,
)
from semiseg.config.prototypes import PrototypesOptions


class ConfigError(ValueError):
    """The user's mistake in a recipe or an option; the message names the place, the key and the repair."""


def has_prototypes(method: str) -> bool:
    """Whether the section `prototypes` is among the options of `method`."""
    return any(item.name == "prototypes" for item in fields(METHOD_OPTIONS[method]))


def sections(method: str) -> dict[str, type]:
    """Section name -> dataclass of its options; the section `method` holds the options of `method`."""
    return {
        "method": METHOD_OPTIONS[method],
        **({"prototypes": PrototypesOptions} if has_prototypes(method) else {}),
        "data": DataOptions,
        "augment": AugmentOptions,
        "network": NetworkOptions,
        "loss": LossOptions,
        "optim": OptimOptions,
        "train": TrainOptions,
        "evaluation": EvaluationOptions,
    }


def option_types(method: str) -> dict[str, Any]:
    """Every option that `method` has: dotted key -> type, in the order of the help."""
    types: dict[str, Any] = {"recipe": str, "preset": str | None, "seed": int, "run": Path | None}
    types["method"] = Literal[tuple(METHOD_OPTIONS)]
    for name, options in sections(method).items():
        if name == "prototypes":
            types["prototypes"] = bool
        types |= _field_types(options, f"{name}.")
    types.pop("method.prototypes", None)  # a section of its own
    return types


@cache
def type_hints(options: type) -> Mapping[str, Any]:
    """Field -> type of a dataclass of options; worked out once, as a table loads a config a hundred times."""
    return get_type_hints(options)


def _field_types(options: type, prefix: str) -> dict[str, Any]:
    hints = type_hints(options)
    types: dict[str, Any] = {}
    for name in (item.name for item in fields(options)):
        key = prefix + name
        types |= _field_types(hints[name], f"{key}.") if is_dataclass(hints[name]) else {key: hints[name]}
    return types


def marked(method: str, mark: str) -> set[str]:
    """Dotted keys of the options of `method` whose field has the metadata `mark`."""
    return {key for name, options in sections(method).items() for key in _marked(options, f"{name}.", mark)}


def _marked(options: type, prefix: str, mark: str) -> Iterable[str]:
    hints = type_hints(options)
    for item in fields(options):
        if is_dataclass(hints[item.name]):
            yield from _marked(hints[item.name], f"{prefix}{item.name}.", mark)
        elif mark in item.metadata:
            yield prefix + item.name


def nearest(name: str, valid: Iterable[str]) -> str:
    """The repair for a mistyped name: the nearest valid one, if one is near, and all of them."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}? Expected" if close else "expected"
    return f"{hint} one of: {', '.join(names)}"


def check_method(name: object, place: str = "") -> str:
    """`name` if there is such a method. Raises ConfigError with the valid names; `place` opens its message."""
    if name not in METHOD_OPTIONS:
        raise ConfigError(f"{place}there is no method {name!r}; {nearest(str(name), METHOD_OPTIONS)}")
    return str(name)


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
    else:
        return _convert_plain(value, kind)
    raise ValueError(value)


def _convert_plain(value: object, kind: type) -> Any:
    if kind is bool:
        words = {"true": True, "false": False}
        if str(value).lower() in words:
            return words[str(value).lower()]
    elif kind in (str, Path):
        if isinstance(value, str | Path):
            return kind(value)
    elif not isinstance(value, bool):
        if kind is int and isinstance(value, int | str):
            return int(value)
        # YAML 1.1 reads 1e-3 as text; nan would pass every check of the form `x < 0`.
        if kind is float and isinstance(value, int | float | str) and math.isfinite(float(value)):
            return float(value)
    raise ValueError(value)


def describe(kind: Any) -> str:
    """What values a type takes, in words."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("none" if arg is NoneType else describe(arg) for arg in inner)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if get_origin(kind) is tuple:
        count = "any number of" if inner[-1] is Ellipsis else len(inner)
        return f"{count} values, each {describe(inner[0])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}[kind]


def option_help(method: str) -> dict[str, str]:
    """Dotted key -> docstring, for every option in a section."""
    texts = {key: text for name, options in sections(method).items() for key, text in _field_help(options, f"{name}.")}
    if "method.prototypes" in texts:
        del texts["method.prototypes"]
        texts["prototypes"] = "The prototype predictor and its losses; true where any prototypes.* is given."
    return texts


def _field_help(options: type, prefix: str) -> Iterable[tuple[str, str]]:
    hints = type_hints(options)
    texts = attribute_docs(options)
    for name in (item.name for item in fields(options)):
        if is_dataclass(hints[name]):
            yield from _field_help(hints[name], f"{prefix}{name}.")
        else:
            yield prefix + name, texts[name]


def attribute_docs(options: type) -> dict[str, str]:
    """Field name -> the string under it in the source, of a class and its bases."""
    texts: dict[str, str] = {}
    for base in reversed(options.__mro__[:-1]):
        texts |= _module_docs(base.__module__)[base.__name__]
    return texts


@cache
def _module_docs(module: str) -> dict[str, dict[str, str]]:
    """Class name -> field name -> docstring. Python keeps no docstring of an attribute, so its source is read."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {node.name: dict(_docs(node)) for node in classes}


def _docs(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for field, text in pairwise(node.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str(words))):
                yield name, " ".join(words.split())


def methods_with(key: str) -> list[str]:
    """The methods that have the option `key` (`method.threshold`)."""
    return [name for name in METHOD_OPTIONS if key in option_types(name)]


RENAMED = {
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
"""Old spelling -> the new one: version 0.1 had the prototypes' options among each method's own."""
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
