"""Checkpoints: everything a run needs to go on, written so that a killed process leaves the old file or the new one."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

LAST, BEST = "last.pt", "best.pt"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a file that becomes `path` only when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, of tensors and plain types."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing but tensors and plain types is unpickled.

    Raises ValueError that names a missing or damaged file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there; a run folder gets it at its first checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise ValueError(f"{path} is not a checkpoint of semiseg, or it is damaged: {error}") from error
