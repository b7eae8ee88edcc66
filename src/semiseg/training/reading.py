"""The files of a run's record, looked at before anything is made of them: each may be damaged, old or another's."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.config.checks import require, shown, shown_key
from semiseg.training.record import read_record

LARGEST = 1e18
"""No number of a record is larger, in size."""

Shape = Any
"""What a value must be: a test of it with its description; `{key: shape}`, with `?key` for what may be absent or null,
and `*` for every key; or `[shape]` for each item of a list."""


def _number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -LARGEST <= value <= LARGEST
        and math.isfinite(value)
    )


_UNREADABLE = (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, MemoryError, zipfile.BadZipFile)
"""What numpy raises for a file that holds something else."""

Test = tuple[Callable[[Any], bool], str]
NUMBER: Test = (lambda value: value is None or _number(value), "a number or null")
KNOWN: Test = (_number, "a number")
STEP: Test = (lambda value: _number(value) and isinstance(value, int) and value >= 0, "a whole number from 0")
TEXT: Test = (lambda value: isinstance(value, str), "text")
ANY: Test = (lambda value: isinstance(value, str | type(None)) or _number(value), "text, a number or null")

_SCORED = {"miou": NUMBER, "?iou": {"*": NUMBER}}
_HEADLINE = {"miou": NUMBER, "iou": {"*": NUMBER}}
_SCORES = {
    "headline": TEXT,
    "miou": NUMBER,
    "?calibration_error": NUMBER,
    "?calibration": {"pixels": [STEP], "right": [STEP], "confidence": [NUMBER]},
    **{f"?{name}": _SCORED for name in ("linear", "prototype", "left", "right", "mean")},
}
_KEPT = {"?images": NUMBER, "?threshold": NUMBER, "?share": NUMBER, "?accuracy": NUMBER}
_EVALUATION = {
    **_SCORES,
    "?warnings": [TEXT],
    "?seconds": KNOWN,
    "?pseudo_labels": _KEPT,
    "?hidden_labels": {
        **_KEPT,
        "share": NUMBER,
        "accuracy": NUMBER,
        "?miou": {"*": NUMBER},
        "?precision_by_class": {"*": NUMBER},
        "?recall_by_class": {"*": NUMBER},
    },
    "?unlabeled_classes": {
        "?crops": NUMBER,
        "?share": NUMBER,
        **{f"?{name}": {"*": NUMBER} for name in ("predicted", "kept", "labeled")},
    },
    "?gradients": {"*": {"*": NUMBER}},
    "?labeled_views": {"*": {"*": NUMBER}},
    "?prototype_usage": [[NUMBER]],
    "?prototype_closest": [NUMBER],
    "?prototype_distance": [NUMBER],
    "?prototype_drift": [NUMBER],
}
_ENTRY = {"kind": TEXT, "step": STEP}
_RESULT = {
    "last": {"step": STEP, "val": _SCORES, "?test": _SCORES},
    "?best": {"step": STEP, "?val": _SCORES, "?test": _SCORES},
    "split": {"*": {"name": TEXT, "sha256": TEXT, "count": STEP, "?source": TEXT}},
    "seconds": KNOWN,
    "?versions": {"*": ANY},
    "?hardware": {"*": ANY},
    "?commit": ANY,
    "?date": ANY,
}


def read_result(path: Path) -> dict[str, Any]:
    """The result.json of a finished run. Raises ValueError, with the file and the repair, where it is none."""
    repair = "restore it from a copy, or remove it: then the run counts as not finished"
    document = _json(path, _read(path), repair)
    _check(document, _RESULT, str(path), repair)
    require("val" in document["split"], f"{path} has no split of val: {repair}")
    for checkpoint in ("last", "best"):
        for name in ("val", "test"):
            _check_headline((document.get(checkpoint) or {}).get(name), f"{path}: {checkpoint}.{name}", repair)
    return document


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of metrics.jsonl, an unfinished last line left out; none without a file.

    Raises ValueError, with the file, the line and the repair, where another line is damaged or has other values.
    """
    require(path.is_file() or not path.exists(), f"{path} cannot be read: it is no file")
    repair = "restore it from a copy, or remove that line"
    entries = read_record(path)
    for number, entry in enumerate(entries, 1):  # each line is an entry
        place = f"{path}, line {number}"
        _check(entry, _ENTRY, place, repair)
        values = ANY if entry["kind"] in ("retreat", "warning", "guard") else NUMBER
        shape = _EVALUATION if entry["kind"] == "evaluation" else {f"?{key}": values for key in {*entry} - {*_ENTRY}}
        _check(entry, shape, place, repair)
        _check_headline(entry if entry["kind"] == "evaluation" else None, place, repair)
    return entries


def read_counts(path: Path, predictor: str, classes: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Names (N,) of the validation images and a predictor's counts (N, C, C), of confusions.npz.

    Raises ValueError, with the file and the repair, where it is another file, or not of so many classes.
    """
    repair = "restore it from a copy, or remove it: then the run's images are scored again, or not shown"
    try:
        with np.load(path) as arrays:
            names, counts = arrays["names"], arrays[predictor]
    except _UNREADABLE as error:
        kind = type(error).__name__
        raise ValueError(f"{path} cannot be read as counts of {shown(predictor)} ({kind}): {repair}") from None
    square = counts.ndim == 3 and counts.shape[1] == counts.shape[2] and counts.shape[0] == len(names)
    fits = square and counts.dtype.kind in "iu" and (classes is None or counts.shape[1] == classes)
    wanted = "N x C x C" if classes is None else f"N x {classes} x {classes} for the classes in result.json"
    require(fits, f"{path} holds {counts.dtype} of shape {counts.shape}; expected whole numbers, {wanted}: {repair}")
    require(bool((counts >= 0).all()), f"{path} holds negative counts: {repair}")
    return names, counts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _json(path: Path, text: bytes, repair: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is no JSON, or cut short: {repair}") from None
    require(isinstance(document, dict), f"{path} is a {type(document).__name__}; expected names with values: {repair}")
    return document


def _check(value: Any, shape: Shape, place: str, repair: str) -> None:
    """Raise ValueError, with its place, for the first value that is not of its shape."""
    if isinstance(shape, tuple):
        test, words = shape
        require(test(value), f"{place} is {shown(value)}; expected {words}: {repair}")
    elif isinstance(shape, list):
        require(isinstance(value, list), f"{place} is {shown(value)}; expected a list: {repair}")
        for number, item in enumerate(value):
            _check(item, shape[0], f"{place}{_joint(place)}{number}", repair)
    else:
        require(isinstance(value, dict), f"{place} is {shown(value)}; expected names with values: {repair}")
        named = {key: shape["*"] for key in value} if "*" in shape else {}
        for key, inner in (named or shape).items():
            name = key.removeprefix("?") if key in shape else key
            optional = name != key
            require(name in value or optional or name == "*", f"{place} lacks {name!r}: {repair}")
            if name in value and not (optional and value[name] is None):
                _check(value[name], inner, f"{place}{_joint(place)}{shown_key(name)}", repair)


def _joint(place: str) -> str:
    """Between a file and a key, or two keys."""
    return "." if ": " in place else ": "


def _check_headline(scores: dict[str, Any] | None, place: str, repair: str) -> None:
    """Raise ValueError where scores lack the named predictor's."""
    if scores is not None:
        headline = scores["headline"]
        require(headline in scores, f"{place} lacks the scores of {shown(headline)}: {repair}")
        _check(scores[headline], _HEADLINE, f"{place}{_joint(place)}{shown_key(headline)}", repair)
        lengths = {len(values) for values in (scores.get("calibration") or {}).values()}
        require(len(lengths) < 2, f"{place} has bins of calibration in lists of different lengths: {repair}")
