"""How long a person waits before anything happens: the help, and the list of a great many files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from semiseg.bench.pictures import write_pictures
from semiseg.bench.table import Table
from semiseg.data import open_dataset
from semiseg.options import DataOptions
from semiseg.timing import median_seconds, timed

FILES = 1_000_000
HELP_TARGET, LIST_TARGET = 0.5, 5.0  # seconds


def bench_start(repeats: int = 5) -> list[Table]:
    """`semiseg --help` as a process, and opening a folder of a million unlabelled images."""
    cpu = torch.device("cpu")
    command = [sys.executable, "-m", "semiseg.cli", "--help"]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "pictures"
        write_pictures(root, 8, 1, (64, 64))
        for number in range(FILES):
            (root / "images" / f"photo{number:07}.jpg").touch()
        listing = timed(lambda: open_dataset(DataOptions(root=root)), cpu)
    help_ = median_seconds({"help": lambda: subprocess.run(command, capture_output=True, check=True)}, repeats, cpu)
    rows = [
        {"what": "semiseg --help", "s": round(help_["help"], 3), "target s": HELP_TARGET},
        {"what": f"opening {FILES:,} unlabelled files", "s": round(listing, 2), "target s": LIST_TARGET},
    ]
    return [Table("start", rows)]
