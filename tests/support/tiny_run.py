"""A run that takes a second: drawn scenes, a network of a few thousand weights, every part of a real one."""

import itertools
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.options import (
    AugmentOptions,
    DataOptions,
    EvaluationOptions,
    NetworkOptions,
    OptimOptions,
    SceneOptions,
    TrainOptions,
)
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.recipe import Config
from semiseg.training.experiment import train

QUIET = Console(quiet=True)

METHODS = {
    "supervised": {},
    "cutmix": {"warmup": 0.4, "threshold": 0.18, "confidence": "pixel", "ema_decay": 0.8},
    "ael": {
        "warmup": 0.4, "threshold": 0.18, "ema_decay": 0.8, "strong": True,
        "paste_probability": 1.0, "bank_area": 0.01, "box_area": 0.01,
    },
    "prototype": {
        "warmup": 0.4, "threshold": 0.18, "ema_decay": 0.8, "strong": True,
        "prototypes": PrototypesOptions(per_class=2, grid=8), "mix_probability": 1.0,
    },
}  # fmt: skip
"""Options under which every method does all it can do in twelve steps."""


def tiny_config(run: Path, method: str = "prototype", *, data=None, evaluation=None, **train_options) -> Config:
    """One thread and float32: the same bits every time."""
    options = {
        "steps": 12, "batch_labeled": 2, "batch_unlabeled": 2, "precision": "fp32", "threads": 1, "workers": 0,
        "device": "cpu", "log_every": 2, "evaluate_every": 5, "checkpoint_every": 3,
    } | train_options  # fmt: skip
    return Config(
        recipe="tiny",
        seed=3,
        run=run,
        method=method,
        method_options=METHOD_OPTIONS[method](**METHODS[method]),
        data=data or DataOptions(dataset="scenes", scenes=SceneOptions(4, 8, 3, height=32, width=40)),
        augment=AugmentOptions(crop_height=32, crop_width=32),
        network=NetworkOptions(
            encoder="test_resnet",
            output_stride=32,
            multi_grid=False,
            channels=8,
            aspp_rates=(1, 2, 3),
            weights="none",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        optim=OptimOptions(lr=0.02, head_lr_factor=2),
        train=TrainOptions(**options),
        evaluation=evaluation or EvaluationOptions(),
    )


def train_quietly(config: Config) -> None:
    """Train to the end, from wherever the run is."""
    multiprocessing.set_start_method("fork", force=True)  # of loading workers, as in a process the user started
    train(config, resume=True, longer=True, console=QUIET)


def count_calls(config: Config, into: Path) -> None:
    """Train to the end and write down how many Python calls that takes."""
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    train_quietly(config)
    sys.setprofile(None)
    into.write_text(str(next(calls)))


def train_and_die(config: Config, calls: int) -> None:
    """Train, and be killed at the `calls`-th Python call: a moment that does not depend on the machine."""
    countdown = itertools.count(-calls)
    os.register_at_fork(after_in_child=lambda: sys.setprofile(None))  # loading workers live
    sys.setprofile(lambda *_: next(countdown) or die())
    train_quietly(config)


def train_and_die_writing(config: Config, write: int, half: bool) -> None:
    """Train, and be killed in the `write`-th atomic write: with `half` the file on the disk, or all but its name."""
    countdown, fsync = itertools.count(1 - write), os.fsync

    def last_sync(descriptor: int) -> None:
        fsync(descriptor)
        if next(countdown) == 0:
            if half:
                os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()

    os.fsync = last_sync
    train_quietly(config)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
