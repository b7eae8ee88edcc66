"""The contents of a comparison's run folders, and whether they may be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.config.changes import changed_options
from semiseg.config.recipe import load_config
from semiseg.data.dataset import check_same_lists
from semiseg.studies.study import Cell
from semiseg.training import reading
from semiseg.training.record import CONFIG, CONFUSIONS, METRICS, RESULT

_TAIL = 2**16  # bytes, of which a line of the record is a fraction


def is_finished(cell: Cell) -> bool:
    """Whether nothing is left to be done; a run that was scored without its images one by one is scored again."""
    folder = cell.config.run_folder
    return (folder / RESULT).is_file() and (folder / CONFUSIONS).is_file()


def steps_done(cell: Cell) -> int:
    """Steps as far as the record tells."""
    path = cell.config.run_folder / METRICS
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError):  # cut short, at either end
            continue
    return 0


def read_result(cell: Cell) -> dict[str, Any]:
    """The result.json of a finished run."""
    return reading.read_result(cell.config.run_folder / RESULT)


def read_entries(cell: Cell) -> list[dict[str, Any]]:
    """The record of a run."""
    return reading.read_entries(cell.config.run_folder / METRICS)


def read_counts(cell: Cell, predictor: str) -> tuple[np.ndarray, np.ndarray]:
    """Names (N,) of the validation images, and a predictor's counts (N, C, C) after the last step."""
    return reading.read_counts(cell.config.run_folder / CONFUSIONS, predictor)


def check(cell: Cell, split: Mapping[str, Any]) -> None:
    """Refuse what lies in the run's folder if it is not this run; `split` is `Dataset.split` of the data as they are.

    Raises ValueError that names what differs and what to do.
    """
    folder = cell.config.run_folder
    record = folder / METRICS
    if not (record.is_file() and record.stat().st_size):
        return  # nothing, or a run that did not reach its first step
    changed = changed_options(cell.config, load_config(folder / CONFIG))
    if changed:
        raise ValueError(
            f"{folder} holds a run with other options: {', '.join(changed[:5])}. Compare with the same, choose another "
            "folder by --out, or delete that run"
        )
    if is_finished(cell):
        saved = read_result(cell)["split"]
        check_same_lists(saved, split, saved, folder)


def log_of(cell: Cell) -> Path:
    """The file of the run's prints."""
    return cell.config.run_folder / "train.log"
