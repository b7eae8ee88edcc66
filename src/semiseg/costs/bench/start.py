"""How long a person waits before anything happens, and what a great many files cost: seconds, and workers' memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from semiseg.config.options import DataOptions
from semiseg.costs.bench.pictures import write_many_names
from semiseg.costs.bench.table import Table
from semiseg.costs.bench.workers import MEMORY, worker_growth
from semiseg.data import open_dataset
from semiseg.data.dataset import ImageSet
from semiseg.runtime.timing import median_seconds, timed

FILES = 1_000_000
HELP_TARGET, LIST_TARGET = 0.5, 5.0  # seconds
GROWTH_TARGET = 20.0  # MB, of a worker


def bench_start(repeats: int = 5) -> list[Table]:
    """`semiseg --help` as a process; opening a folder of a million unlabelled images, and reading from it."""
    cpu = torch.device("cpu")
    command = [sys.executable, "-m", "semiseg.cli", "--help"]
    help_ = median_seconds({"help": lambda: subprocess.run(command, capture_output=True, check=True)}, repeats, cpu)
    rows = [_row("semiseg --help", "s", help_["help"], HELP_TARGET)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "pictures"
        write_many_names(root, FILES)
        opened: list[ImageSet] = []
        seconds = timed(lambda: opened.append(open_dataset(DataOptions(root=root)).unlabeled), cpu)
        rows.append(_row(f"opening {FILES:,} unlabelled files", "s", seconds, LIST_TARGET))
        if MEMORY.exists():
            workers = worker_growth(opened[0])
            rows.append(_row("growth of a worker, USS", "MB", max(each.uss for each in workers), GROWTH_TARGET))
            rows.append(_row("... PSS", "MB", max(each.pss for each in workers), GROWTH_TARGET))
    note = "The folder is opened once. A worker's growth is the larger one's of two forked workers that read the files."
    return [Table("start", rows, note)]


def _row(what: str, unit: str, measured: float, target: float) -> dict[str, Any]:
    return {"what": what, "unit": unit, "measured": round(measured, 2), "target": f"< {target:g}"}
