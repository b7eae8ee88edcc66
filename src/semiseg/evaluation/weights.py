"""model.safetensors: held against the network it is for before a byte of it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from semiseg.evaluation.description import REPAIR, Description
from semiseg.evaluation.same_classes import class_difference, class_record

_KEY = "semiseg"
_MAY_LACK = ("pixel_mean", "pixel_std")
"""Buffers that models of earlier versions do not have: `Segmentor` fills them in."""


def packed(weights: Mapping[str, Tensor], classes: Mapping[str, Any]) -> bytes:
    """A file of the weights, in which the `class_record` stands too: their last layer means nothing without it."""
    return save(dict(weights), {_KEY: json.dumps(classes)})


def load_weights(
    predictor: Callable[[], nn.Module], path: Path, about: Description, of: str | None = None
) -> nn.Module:
    """What `predictor` makes, with the weights in `path`.

    `of` says whose network it is, where it is not built from the description. Raises ValueError naming the tensors that
    are missing, left over, of another shape or not finite; where the file is not the one that `about` was written
    with; or where both have other classes.
    """
    expected = {name: (tuple(value.shape), value.dtype) for name, value in _state(predictor).items()}
    try:
        with safe_open(path, "pt") as file:  # its header alone
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        _check_shapes(path, shapes, expected, of)
        _check_classes(path, metadata, about)
        _check_sha256(path, about.weights_sha256)
        tensors = load_file(path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror or error}. Make it readable, or restore it"
        ) from error
    except SafetensorError as error:
        _refuse(path, f"is damaged, cut short or no safetensors file ({error})")
    for name, tensor in tensors.items():
        kind = expected[name][1]
        if tensor.dtype != kind:
            _refuse(path, f"holds {name} as {tensor.dtype}; expected {kind}")
        if not tensor.isfinite().all():
            _refuse(path, f"holds numbers that are not finite (NaN or infinity), in {name}")
    made = predictor()
    made.load_state_dict(tensors)
    return made


def _state(predictor: Callable[[], nn.Module]) -> dict[str, Any]:
    """Tensors by name without memory for them, so that a description of terabytes costs nothing."""
    try:
        with torch.device("meta"):
            return predictor().state_dict()
    except Exception:  # a few networks compute while they are made; their sizes are published ones, or a user's own
        return predictor().state_dict()


def _check_shapes(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    of: str | None,
) -> None:
    missing = [name for name in expected if name not in shapes and not name.endswith(_MAY_LACK)]
    extra = [name for name in shapes if name not in expected]
    other = [
        f"{name} is {shapes[name]}, expected {shape}"
        for name, (shape, _) in expected.items()
        if shapes.get(name, shape) != shape
    ]
    wrong = {"lacks": missing, "has besides": extra, "other shapes": other}
    told = [
        f"{what} ({len(names)}): {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in wrong.items()
        if names
    ]
    if told:
        _refuse(path, f"does not hold weights of the network that {of or 'model.json describes'}: {'; '.join(told)}")


def _check_classes(path: Path, metadata: Mapping[str, str], about: Description) -> None:
    """The file of an earlier version does not say its classes."""
    if _KEY not in metadata:
        return
    try:
        difference = class_difference(json.loads(metadata[_KEY]), class_record(about.classes, about.colors))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        _refuse(path, f"says its classes in no way that can be read ({type(error).__name__})")
    if difference is not None:
        _refuse(path, f"was trained for other classes than model.json has: {difference}")


def _check_sha256(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        _refuse(path, f"is not the file that model.json was written with: its sha256 is {found}, expected {expected}")


def _refuse(path: Path, what: str) -> NoReturn:
    raise ValueError(f"{path} {what}. {REPAIR}")
