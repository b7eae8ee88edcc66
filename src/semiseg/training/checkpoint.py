"""Checkpoints: everything a run needs to go on, written so that a killed process leaves the old file or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from semiseg.runtime.files import write_atomically

LAST, BEST = "last.pt", "best.pt"
PARTS = ("method", "optimizer", "state", "config", "split")
"""The keys of a checkpoint: state dicts of the method and the optimizer, the trainer's state, the config, and the
identity of the lists of images."""

_REPAIR = "Restore it from a copy, or delete the run folder and train again"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the PARTS, of tensors and plain types."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the PARTS onto the CPU; nothing but tensors and plain types is unpickled.

    Raises ValueError that names a missing or damaged file.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; training writes {LAST} at its first checkpoint and {BEST} at its first evaluation"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows in whatever a wrong byte makes of the archive or the pickle in it
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged, or no checkpoint of semiseg: {reason}. {_REPAIR}") from error
    if not isinstance(state, dict) or set(state) != set(PARTS):
        raise ValueError(f"{path} is no checkpoint of semiseg: expected a dict of {', '.join(PARTS)}. {_REPAIR}")
    return state
