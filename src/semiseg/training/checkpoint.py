"""Checkpoints: everything a run needs to go on, written so that a killed process leaves the old file or the new one.

A checkpoint is a zip archive, as torch writes it, with a checksum (CRC-32) of each of its records.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semiseg.runtime.files import write_atomically

LAST, BEST = "last.pt", "best.pt"
PARTS = ("method", "optimizer", "state", "config", "split", "classes")
"""The keys of a checkpoint: state dicts of the method and the optimizer, the trainer's state, the config, the identity
of the lists of images, and the classes: {names, colors}. The oldest checkpoints lack the last."""

_END, _END_BYTES = b"PK\x05\x06", 22
"""The last record of a zip archive without a comment, and its length."""


def _repair(path: Path) -> str:
    best = path.with_name(BEST)
    other = f", copy {best} there to go on from the best evaluation" if path.name == LAST and best.exists() else ""
    return f"Restore it from a copy{other}, or train again with another --run"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the PARTS, of tensors and plain types. Raises WriteError where the disk does not take them."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the PARTS onto the CPU; nothing but tensors and plain types is unpickled.

    Raises ValueError that names a missing or damaged file, one without a part, and weights that are not finite.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; training writes {LAST} before its first step and {BEST} at its first evaluation"
        )
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
            file.seek(-_END_BYTES, 2)
            if not file.read().startswith(_END):
                raise ValueError("there is more behind its end")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows in whatever a wrong byte makes of the archive or the pickle in it
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ValueError(f"{path} is damaged, or no checkpoint of semiseg: {reason}. {_repair(path)}") from error
    if wrong is not None:
        raise ValueError(f"{path} is damaged: the checksum of {wrong} in it is another. {_repair(path)}")
    parts = {"classes": None} | state if isinstance(state, dict) else {}
    if set(parts) != set(PARTS) or not all(isinstance(parts[part], dict) for part in PARTS[:-1]):
        raise ValueError(f"{path} is no checkpoint of semiseg: expected a dict of {', '.join(PARTS)}. {_repair(path)}")
    bad = next(_bad_names({part: parts[part] for part in ("method", "optimizer")}), None)
    if bad is not None:
        raise ValueError(f"{path} holds numbers that are not finite, in {bad}. {_repair(path)}")
    return parts


def _bad_names(value: Any, name: str = "") -> Iterator[str]:
    """Names of the tensors in nested dicts and lists that hold NaN or infinity."""
    if isinstance(value, Tensor):
        if not value.isfinite().all():
            yield name
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _bad_names(item, f"{name}.{key}" if name else str(key))


def load_into(target: Any, state: Mapping[str, Any], path: Path) -> None:
    """`target.load_state_dict(state)`. Raises ValueError, naming the checkpoint `path`, where it does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} does not fit this method and network: {type(error).__name__}: {reason}. {_repair(path)}"
        ) from error
