"""model.json: which network the weights are of and what its classes mean, from a file that may say anything.

Every value is checked for its type and its range before anything is made by it.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from torch import nn

from semiseg.config.checks import describe
from semiseg.config.fields import type_hints
from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.data.masks import MAX_CLASSES
from semiseg.parts.augment import MEAN, STD

LARGEST_FILE = 1 << 20  # bytes
LONGEST_NAME = 1000  # characters of a name or a path
MOST_NETWORKS = 8  # that one model has
MOST_VISITS = 16  # windows over a pixel, along each side

REPAIR = (
    "Restore both files of the model from a copy, or write them again from the run's checkpoints: semiseg train "
    "RUN/config.yaml --run RUN --resume"
)

_Three = tuple[float, float, float]

_KINDS: dict[str, Any] = {
    "network": dict, "classes": tuple[str, ...], "colors": tuple[tuple[int, int, int], ...], "scale": float,
    "precision": Literal["fp32", "bf16"], "evaluation": dict, "headline": Literal["linear", "prototype"],
    "prototypes": dict | None, "several": dict | None, "weights_sha256": str | None,
    "mean": _Three, "std": _Three, "encoder_mean": _Three, "encoder_std": _Three,
    "prototypes.per_class": int, "prototypes.temperature": float,
    "several.names": tuple[str, ...], "several.reported": str,
}  # fmt: skip
"""Key -> type, beside the options of the two sections."""

_RANGES = {
    "network.channels": (8, 8192), "network.aspp_rates": (1, 1024), "network.layers": (0, 1023),
    "network.dropout": (0, 1), "network.mean": (0, 1), "network.std": (0, 1),
    "evaluation.window": (1, 65_536), "evaluation.stride": (1, 65_536), "evaluation.windows_at_once": (1, 256),
    "evaluation.images": (1, 2**31), "evaluation.hidden": (0, 2**31), "colors": (0, 255), "scale": (1e-3, 4),
    "mean": (0, 1), "std": (0, 1), "encoder_mean": (0, 1), "encoder_std": (0, 1),
    "prototypes.per_class": (1, 1024), "prototypes.temperature": (1e-6, 1e6),
}  # fmt: skip
"""Key -> the smallest and the largest number."""

_OPTIONAL = {
    *("several", "weights_sha256", "mean", "std", "encoder_mean", "encoder_std"),
    *("network.layers", "network.weights", "network.mean", "network.std", "network.checkpoint"),
    *("evaluation.windows_at_once", "evaluation.images", "evaluation.hidden", "evaluation.instruments"),
}
"""What models of earlier versions lack, or may lack."""


@dataclass(frozen=True)
class Description:
    """What model.json says."""

    network: dict[str, Any]  # fields of NetworkOptions; the name may be of a registry of another process
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    scale: float
    precision: str
    evaluation: EvaluationOptions
    prototypes: dict[str, Any] | None  # per_class, temperature
    headline: str
    several: dict[str, Any] | None  # names, reported; None where there is one network
    weights_sha256: str | None  # None in models of earlier versions


def read_description(path: Path) -> Description:
    """The description in `path`. Raises ValueError naming the file, the field, what was expected, and the repair."""
    document = _document(path)
    kinds = {key: kind for key, kind in _KINDS.items() if "." not in key}
    found = _section(path, "", document, kinds)
    options = {"network": NetworkOptions, "evaluation": EvaluationOptions}
    hints = {
        section: {each.name: type_hints(kind)[each.name] for each in fields(kind)} for section, kind in options.items()
    }
    for section in ("prototypes", "several"):
        start = f"{section}."
        hints[section] = {key.removeprefix(start): kind for key, kind in _KINDS.items() if key.startswith(start)}
    for section, kinds in hints.items():
        if section in options:
            _check_known(path, section, found[section], list(kinds))
        if found.get(section) is not None:
            found[section] = _section(path, f"{section}.", found[section], kinds)
    _check_together(path, found)
    try:
        found["evaluation"] = EvaluationOptions(**found["evaluation"])
    except ValueError as error:
        _refuse(path, str(error))
    written: dict[str, Any] = {"several": None, "weights_sha256": None} | found
    return Description(**{key: written[key] for key in type_hints(Description)})


def _document(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. Make it readable, or restore it") from error
    if len(text) > LARGEST_FILE:
        _refuse(path, f"it is larger than {LARGEST_FILE:,} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not JSON ({str(error)[:200]})")
    if not isinstance(document, dict):
        _refuse(path, f"it holds {_shown(document)}; expected an object of fields")
    return document


def _section(path: Path, prefix: str, document: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object in their types; those that an earlier version lacks may be absent."""
    found = {}
    for name, kind in kinds.items():
        key = prefix + name
        if name in document:
            found[name] = _value(path, key, document[name], kind)
        elif key not in _OPTIONAL:
            _refuse(path, f"{key} is missing; expected {_expected(key, kind)}")
    return found


def _value(path: Path, key: str, value: Any, kind: Any) -> Any:
    if not _fits(value, kind, *_RANGES.get(key, (-(2**53), 2**53))):
        _refuse(path, f"{key} is {_shown(value)}; expected {_expected(key, kind)}")
    return _tuples(value)


def _fits(value: Any, kind: Any, low: float, high: float) -> bool:
    """Whether a value of JSON has a type, without any conversion, and its numbers lie in the range."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each, low, high) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > 10_000:
            return False
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(kinds) and all(
            _fits(each, part, low, high) for each, part in zip(value, kinds, strict=True)
        )
    if kind in (int, float):
        return type(value) in (int, kind) and low <= value <= high  # NaN is in no range
    return type(value) is kind and (kind is not str or len(value) <= LONGEST_NAME)


def _expected(key: str, kind: Any) -> str:
    if kind in (dict, dict | None):
        return "an object of fields" + ("" if kind is dict else ", or null")
    low_high = "" if key not in _RANGES else " from {:,} to {:,}".format(*_RANGES[key])
    return describe(kind) + low_high


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_known(path: Path, section: str, document: Mapping[str, Any], known: list[str]) -> None:
    """An option that this version does not know might change what the network does."""
    for name in document:
        if name not in known:
            _refuse(path, f"{section}.{_shown(name)} is no field of this version; expected {', '.join(known)}")


def _check_together(path: Path, found: Mapping[str, Any]) -> None:
    """What a field must be, given the others."""
    classes, evaluation, several = found["classes"], found["evaluation"], found.get("several")
    if not 1 <= len(classes) <= MAX_CLASSES or "" in classes:
        _refuse(path, f"classes are {len(classes)} names; expected 1 to {MAX_CLASSES}, none of them empty")
    if len(found["colors"]) != len(classes):
        _refuse(path, f"colors are {len(found['colors'])} for {len(classes)} classes; expected one for each")
    if found["headline"] == "prototype" and found["prototypes"] is None:
        _refuse(path, "headline is 'prototype', but prototypes are null; expected 'linear'")
    for name, figures in (("mean", MEAN), ("std", STD)):
        if found.get(name, figures) != figures:
            _refuse(path, f"{name} is {found[name]}; expected {figures}, which images are always normalised by")
    if evaluation["protocol"] == "slide" and evaluation["window"] > MOST_VISITS * evaluation["stride"]:
        _refuse(
            path,
            f"evaluation.stride is {evaluation['stride']} for windows of {evaluation['window']} pixels; expected at "
            f"least a {MOST_VISITS}th of the window",
        )
    sha256 = found.get("weights_sha256")
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        _refuse(path, f"weights_sha256 is {_shown(sha256)}; expected 64 hexadecimal digits")
    if several is not None:
        names = several["names"]
        fit = 2 <= len(set(names)) == len(names) <= MOST_NETWORKS
        fit = fit and all(name.isidentifier() and not hasattr(nn.ModuleDict, name) for name in names)
        if not fit or several["reported"] not in (*names, "mean"):
            _refuse(
                path,
                f"several is {_shown(several)}; expected 2 to {MOST_NETWORKS} different names of networks, and "
                "`reported` one of these or `mean`",
            )


def _shown(value: Any) -> str:
    """A value of JSON in a few characters."""
    return "null" if value is None else _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def _refuse(path: Path, what: str) -> NoReturn:
    raise ValueError(f"{path} does not describe a model of this version of semiseg, or is damaged: {what}. {REPAIR}")
