"""model.json: which network the weights are of and what its classes mean, from a file that may say anything.

Every value is checked for its type and its range before anything is made by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from torch import nn

from semiseg.config.bands import Value
from semiseg.config.checks import Range, check_value, describe, shown, types_of
from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.data.bands import Bands
from semiseg.data.deep import DTYPES
from semiseg.data.masks import MAX_CLASSES
from semiseg.parts.augment import figures_of

LARGEST_FILE = 1 << 20  # bytes
MOST_NETWORKS = 8  # that one model has

REPAIR = (
    "Restore both files of the model from a copy, or write them again from the run's checkpoints: semiseg train "
    "RUN/config.yaml --run RUN --resume"
)

_Part = Annotated[float, Range(0, 1)]
_Three = tuple[_Part, _Part, _Part]
_Parts = tuple[_Part, ...]
_Byte = Annotated[int, Range(0, 255)]

_KINDS: dict[str, Any] = {
    "network": dict, "classes": tuple[str, ...], "colors": tuple[tuple[_Byte, _Byte, _Byte], ...],
    "scale": Annotated[float, Range(0, 4, above=True)], "precision": Literal["fp32", "bf16"], "evaluation": dict,
    "headline": Literal["linear", "prototype"], "prototypes": dict | None, "several": dict | None,
    "weights_sha256": str | None, "mean": _Parts, "std": _Parts, "encoder_mean": _Parts, "encoder_std": _Parts,
    "bands": dict | None, "bands.dtype": Literal[DTYPES], "bands.low": tuple[Value, ...],
    "bands.high": tuple[Value, ...],
    **{f"prototypes.{name}": types_of(PrototypesOptions)[name] for name in ("per_class", "temperature")},
    "several.names": tuple[str, ...], "several.reported": str,
}  # fmt: skip
"""Key -> type and range, beside the options of the two sections."""

_OPTIONAL = {
    *("several", "weights_sha256", "bands", "mean", "std", "encoder_mean", "encoder_std"),
    *("network.layers", "network.weights", "network.mean", "network.std", "network.checkpoint", "network.bands"),
    *("evaluation.windows_at_once", "evaluation.images", "evaluation.hidden", "evaluation.instruments"),
    "evaluation.blend",
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
    bands: Bands | None  # None: RGB of 8 bits, as in models of earlier versions


def read_description(path: Path) -> Description:
    """The description in `path`. Raises ValueError naming the file, the field, what was expected, and the repair."""
    document = _document(path)
    kinds = {key: kind for key, kind in _KINDS.items() if "." not in key}
    found = _section(path, "", document, kinds)
    options = {"network": NetworkOptions, "evaluation": EvaluationOptions}
    hints = {section: dict(types_of(kind)) for section, kind in options.items()}
    hints["network"] |= {"mean": _Three | None, "std": _Three | None}
    for section in ("prototypes", "several", "bands"):
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
    written: dict[str, Any] = {"several": None, "weights_sha256": None, "bands": None} | found
    written["bands"] = None if written["bands"] is None else Bands(**written["bands"])
    return Description(**{key: written[key] for key in (each.name for each in fields(Description))})


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
        _refuse(path, f"it holds {shown(document)}; expected an object of fields")
    return document


def _section(path: Path, prefix: str, document: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object in their types; a field that earlier versions lack may be absent."""
    found = {}
    for name, kind in kinds.items():
        key = prefix + name
        if name in document:
            found[name] = _value(path, key, document[name], kind)
        elif key not in _OPTIONAL:
            _refuse(path, f"{key} is missing; expected {describe(kind)}")
    return found


def _value(path: Path, key: str, value: Any, kind: Any) -> Any:
    try:
        check_value(key, value, kind)
    except ValueError as error:
        _refuse(path, str(error))
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_known(path: Path, section: str, document: Mapping[str, Any], known: list[str]) -> None:
    """An option that this version does not know might change what the network does."""
    for name in document:
        if name not in known:
            _refuse(path, f"{section}.{shown(name)} is no field of this version; expected {', '.join(known)}")


def _check_together(path: Path, found: Mapping[str, Any]) -> None:
    """What a field must be, given the others."""
    classes, several = found["classes"], found.get("several")
    if not 1 <= len(classes) <= MAX_CLASSES or "" in classes:
        _refuse(path, f"classes are {len(classes)} names; expected 1 to {MAX_CLASSES}, none of them empty")
    if len(found["colors"]) != len(classes):
        _refuse(path, f"colors are {len(found['colors'])} for {len(classes)} classes; expected one for each")
    if found["headline"] == "prototype" and found["prototypes"] is None:
        _refuse(path, "headline is 'prototype', but prototypes are null; expected 'linear'")
    count = found["network"].get("bands", 3)
    if (bands := found.get("bands")) is not None:
        low, high = bands["low"], bands["high"]
        fit = len(low) == len(high) == count and all(a < b for a, b in zip(low, high, strict=True))
        if not fit:
            _refuse(path, f"bands are from {low} to {high}; expected {count} values each, each low below its high")
    elif count != 3:
        _refuse(path, f"network.bands is {count}, but bands are null; expected their range of values")
    for name, figures in zip(("mean", "std"), figures_of(count), strict=True):
        if found.get(name, figures) != figures:
            _refuse(path, f"{name} is {found[name]}; expected {figures}, which images are always normalised by")
    for name in ("encoder_mean", "encoder_std"):
        if name in found and len(found[name]) != count:
            _refuse(path, f"{name} is {found[name]}; expected {count} values")
    sha256 = found.get("weights_sha256")
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        _refuse(path, f"weights_sha256 is {shown(sha256)}; expected 64 hexadecimal digits")
    if several is not None:
        names = several["names"]
        fit = 2 <= len(set(names)) == len(names) <= MOST_NETWORKS
        fit = fit and all(name.isidentifier() and not hasattr(nn.ModuleDict, name) for name in names)
        if not fit or several["reported"] not in (*names, "mean"):
            _refuse(
                path,
                f"several is {shown(several)}; expected 2 to {MOST_NETWORKS} different names of networks, and "
                "`reported` one of these or `mean`",
            )


def _refuse(path: Path, what: str) -> NoReturn:
    raise ValueError(f"{path} does not describe a model of this version of semiseg, or is damaged: {what}. {REPAIR}")
