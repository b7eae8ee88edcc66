"""Benchmarks small enough for a test."""

from pathlib import Path

import torch

from semiseg.costs.bench.pictures import write_pictures
from semiseg.costs.bench.step import StepBench, config_for

CPU = torch.device("cpu")


SMALL = {
    "augment.crop_height": 48,
    "augment.crop_width": 64,
    "network.channels": 16,
    "train.batch_labeled": 2,
    "train.batch_unlabeled": 2,
    "train.workers": 0,
}


def step_bench(method: str, folder: Path, **changes) -> StepBench:
    """A small step with its floor."""
    write_pictures(folder / "pictures", 6, 6, (60, 80))
    return StepBench(config_for(method, SMALL | changes, folder / "pictures"), CPU)
