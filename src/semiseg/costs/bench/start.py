"""How long a person waits before anything happens, and what a great many files cost: seconds, and workers' memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from semiseg.config.options import DataOptions
from semiseg.costs.bench.pictures import write_many_names, write_pictures
from semiseg.costs.bench.table import Table
from semiseg.costs.bench.workers import MEMORY, worker_growth
from semiseg.data import open_dataset
from semiseg.data.dataset import ImageSet
from semiseg.runtime.timing import median_seconds, timed

FILES = 1_000_000
HELP_TARGET, LIST_TARGET = 0.5, 5.0  # seconds
WORD_TARGET, LOSS_TARGET = 2.0, 10.0  # seconds
IMPORT_TARGET = 1.3  # times torch's own
GROWTH_TARGET = 20.0  # MB, of a worker

SMALL = "train.steps=9 train.batch_labeled=4 train.batch_unlabeled=4 network.encoder=resnet18 network.weights=none"
SMALL += " augment.crop_height=64 augment.crop_width=64 train.workers=2 train.device=cpu"
"""A recipe that learns on a laptop."""


def bench_start(repeats: int = 5) -> list[Table]:
    """`semiseg --help` and `semiseg train` as processes; a folder of a million unlabelled images, opened and read."""
    cpu = torch.device("cpu")
    command = [sys.executable, "-m", "semiseg.cli", "--help"]
    help_ = median_seconds({"help": lambda: subprocess.run(command, capture_output=True, check=True)}, repeats, cpu)
    rows = [_row("semiseg --help", "s", help_["help"], HELP_TARGET), *_training(repeats), _imports(repeats)]
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
    note = (
        "The folder is opened once. A worker's growth is the larger one's of two forked workers that read the files. "
        "Other work on the machine slows the clock: seconds of the processor are of the training process alone."
    )
    return [Table("start", rows, note)]


def _training(repeats: int) -> list[dict[str, Any]]:
    """From the command to its first word and to its first loss, by the clock and of the processor."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "pictures"
        write_pictures(root, 12, 40, (128, 160))
        options = [f"--{option}" for option in SMALL.split()]
        command = [sys.executable, "-m", "semiseg.cli", "train", "folder", "--data.root", str(root), *options]
        waits = [_first(command, Path(name) / f"run-{number}") for number in range(repeats)]
    word, loss, processor = (median(each) for each in zip(*waits, strict=True))
    return [
        _row("semiseg train, to the first word", "s", word, WORD_TARGET),
        _row("... to the first loss", "s", loss, LOSS_TARGET),
        _row("... to the first loss, of the processor", "s", processor, LOSS_TARGET),
    ]


def _first(command: list[str], run: Path) -> tuple[float, float, float]:
    """Seconds to the first line and to the first step's, and of the processor until then; the process is ended."""
    began, word = time.perf_counter(), None
    process = subprocess.Popen([*command, "--run", str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        word = word or time.perf_counter() - began
        if " step 1/" in line:
            loss = time.perf_counter() - began
            break
    else:
        raise RuntimeError(f"{' '.join(command)} ended without a step: {''.join(said)}")
    process.kill()
    with process.stdout:
        _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it was waited for
    return word, loss, usage.ru_utime + usage.ru_stime


def _imports(repeats: int) -> dict[str, Any]:
    """What `semiseg train` imports over torch alone, in seconds of the processor; in turn, so that both are slowed."""
    spent = {name: [] for name in ("torch", "semiseg.training.start, semiseg.training.experiment")}
    for _ in range(repeats):
        for name, each in spent.items():
            code = f"import time, {name}; print(time.process_time())"
            each.append(float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    bare, ours = (median(each) for each in spent.values())
    return _row("imports over `import torch`", "x", ours / bare, IMPORT_TARGET)


def _row(what: str, unit: str, measured: float, target: float) -> dict[str, Any]:
    return {"what": what, "unit": unit, "measured": round(measured, 2), "target": f"< {target:g}"}
