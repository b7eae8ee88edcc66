"""Step time against the number of devices: a model of it, and what one and two processes of this machine measure.

    python benchmarks/scaling.py table RECIPE --image-seconds S [--fixed-seconds F --read-seconds R --bandwidth B ...]
    python benchmarks/scaling.py measure

A step of N devices takes the longer of two times, since images are read ahead by other processes:

    compute + exposed    compute = fixed + per image x images of a device + small x 2 log2(N) x latency
                         exchange = 2 (N - 1) / N x 4 bytes per parameter / bandwidth + 2 (N - 1) x latency  (a ring)
                         exposed = what of the exchange is longer than the backward pass it runs beside
                         small = exchanges of a few numbers that the step waits for: counts, partners, batch statistics
    reading              seconds per image and core x images of a device / cores of a device

`measure` takes fixed, per image and reading from one process, bandwidth and latency from sums over two processes, and
holds the model's time of two processes against theirs. Each process has one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from rich.console import Console

from semiseg.config.recipe import Config, load_config
from semiseg.runtime.distributed import process_group, rank
from semiseg.runtime.launch import launch, started_processes
from semiseg.runtime.progress import Progress
from semiseg.runtime.timing import median_seconds
from semiseg.training.experiment import build_experiment, build_method, build_trainer
from semiseg.training.keeping import State
from semiseg.training.optim import build_optimizer
from semiseg.types import LabeledBatch

BACKWARD = 2 / 3  # of the compute: twice the work of the forward pass
REPEATS = 15
SMALL, LARGE = 1_000, 4_000_000  # numbers in a sum over processes: one measures the latency, one the bandwidth


@dataclass(frozen=True)
class Costs:
    """What a step costs. An image here is a labelled or an unlabelled one."""

    parameters: int  # that have a gradient, of 4 bytes
    fixed: float  # seconds of a step without images: the optimizer, the averages, what a device needs to be told
    image: float  # seconds of a device per image, forward and backward, teacher and losses included
    read: float = 0.0  # seconds of one core to read and augment an image
    cores: float = 1.0  # that read for a device
    bandwidth: float = float("inf")  # bytes per second of the slowest link of the ring
    latency: float = 0.0  # seconds of a message
    small: int = 0  # exchanges of a few numbers in a step, each up and down a tree of devices


@dataclass(frozen=True)
class Step:
    """Seconds of a step, in parts."""

    compute: float
    exchange: float
    exposed: float
    reading: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return max(self.compute + self.exposed, self.reading)


def step_of(costs: Costs, images: float, devices: int) -> Step:
    """The step of a device that has `images` of its own."""
    each_link = 2 * (devices - 1) / devices * 4 * costs.parameters
    exchange = each_link / costs.bandwidth + 2 * (devices - 1) * costs.latency
    compute = costs.fixed + costs.image * images + costs.small * 2 * math.log2(devices) * costs.latency
    exposed = max(0.0, exchange - BACKWARD * costs.image * images)
    return Step(compute, exchange, exposed, costs.read * images / costs.cores)


def table(costs: Costs, images: int, most: int, shared: bool) -> str:
    """Markdown: `images` for every device, or `shared` by all of them."""
    lines = [
        "| devices | images each | compute s | exchange s | exposed s | reading s | step s | images/s | efficiency |",
        "| ---: " * 9 + "|",
    ]
    alone = images / step_of(costs, images, 1).seconds
    for devices in (2**power for power in range(most.bit_length())):
        each = images / devices if shared else images
        step = step_of(costs, each, devices)
        rate = each * devices / step.seconds
        cells = [f"{value:.3g}" for value in (step.compute, step.exchange, step.exposed, step.reading, step.seconds)]
        cells = [str(devices), f"{each:g}", *cells, f"{rate:.1f}", f"{rate / devices / alone:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# Measured -------------------------------------------------------------------------------------------------------------


def config_of(images: int, run: Path, devices: int) -> Config:
    """The demo with `images` of each kind a step, one thread a process, nothing but steps."""
    options = {"batch_labeled": images, "batch_unlabeled": images, "devices": devices, "threads": 1, "device": "cpu"}
    quiet = {"train.steps": 1000, "method.warmup": 0.0, "run": run}
    return load_config("demo", quiet | {f"train.{name}": value for name, value in options.items()})


def measure_process(tokens: Sequence[str]) -> int:
    """One process of a measurement: `tokens` are the images of each kind and the file for what was found."""
    images, file = int(tokens[0]), Path(tokens[1])
    device = torch.device("cpu")
    torch.set_num_threads(1)
    with process_group(device), tempfile.TemporaryDirectory() as folder:
        experiment = build_experiment(config_of(images, Path(folder), started_processes()))
        optimizer = build_optimizer(experiment.method.parameter_groups(), experiment.config.optim)
        trainer = build_trainer(experiment, optimizer, State(), Progress("", 1, console=Console(quiet=True)))
        trainer.prepare(trainer.clock(0))
        batches = trainer.batches(0)
        labeled, unlabeled = next(batches)
        assert unlabeled is not None
        few = len(labeled.image) // 2
        half = LabeledBatch(*(part[:few] for part in labeled[:3])), unlabeled.each(lambda part: part[:few])
        calls = {
            "half": lambda: trainer.step(*half, trainer.clock(1)),
            "whole": lambda: trainer.step(labeled, unlabeled, trainer.clock(1)),
            "read": lambda: next(batches),
        }
        if started_processes() > 1:
            calls |= {str(size): lambda size=size: dist.all_reduce(torch.ones(size)) for size in (SMALL, LARGE)}
        parameters = sum(p.numel() for p in experiment.method.parameters() if p.requires_grad)
        found = median_seconds(calls, REPEATS, device) | {
            "images": len(labeled.image) + len(unlabeled.image),
            "parameters": parameters,
        }
        found["small"] = exchanges_of(calls["whole"])
        if rank() == 0:
            file.write_text(json.dumps(found))
    return 0


def exchanges_of(call: Callable[[], object]) -> int:
    """How many exchanges a call makes beside those of DDP's gradients."""
    names = ("all_reduce", "all_gather", "batch_isend_irecv")
    count = itertools.count()
    with ExitStack() as patches:
        for name in names:
            original = getattr(dist, name)
            counted = lambda *given, original=original, **more: (next(count), original(*given, **more))[1]  # noqa: E731
            patches.enter_context(patch.object(dist, name, counted))
        call()
    return next(count)


def measured(images: int, processes: int) -> dict[str, float]:
    """What `processes` processes find with `images` of each kind a step."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        status = launch(measure_process, [str(images), str(file)], processes)
        if status:
            sys.exit(status)
        return json.loads(file.read_text())


def measure(images: int) -> str:
    """Markdown: the costs as measured, and the model's times against those of one and two processes."""
    one, two = measured(images, 1), measured(images, 2)
    image = 2 * (one["whole"] - one["half"]) / one["images"]
    fixed = one["whole"] - one["images"] * image
    latency = two[str(SMALL)] / 2
    bandwidth = 4 * (LARGE - SMALL) / (two[str(LARGE)] - two[str(SMALL)])
    costs = Costs(
        int(one["parameters"]), fixed, image, one["read"] / one["images"], 1.0, bandwidth, latency, int(two["small"])
    )
    lines = [f"{costs}", "", "| processes | images each | model s | measured s |", "| ---: | ---: | ---: | ---: |"]
    for processes, found in ((1, one), (2, two)):
        for name, part in (("half", 0.5), ("whole", 1.0)):
            each = part * found["images"]
            step = step_of(replace(costs, read=0.0), each, processes)
            lines.append(f"| {processes} | {each:g} | {step.seconds:.4f} | {found[name]:.4f} |")
    return "\n".join(lines)


def parameters_of(recipe: str) -> int:
    """How many numbers its student's gradient has; as for two classes, the classifier is small."""
    method = build_method(load_config(recipe), ("a", "b"), weights=False)
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("measure", help="one and two processes of this machine against the model")
    check.add_argument("--images", type=int, default=8, help="labelled images a step, and as many unlabelled ones")
    model = commands.add_parser("table", help="the model's table")
    model.add_argument("recipe", help="for its number of parameters")
    model.add_argument("--images", type=int, default=8, help="images of a device a step, labelled and unlabelled")
    model.add_argument("--shared", action="store_true", help="--images are of all devices together")
    model.add_argument("--devices", type=int, default=64, help="up to so many")
    for name, default, text in (
        ("image-seconds", None, "seconds of a device per image"),
        ("fixed-seconds", 0.0, "seconds of a step without images"),
        ("read-seconds", 0.0, "seconds of one core to read and augment an image"),
        ("cores", 1.0, "cores that read for a device (train.workers)"),
        ("bandwidth", float("inf"), "bytes per second of the slowest link"),
        ("latency", 0.0, "seconds of a message"),
        ("small", 0, "exchanges of a few numbers in a step, those of SyncBatchNorm among them: 2 for each layer"),
    ):
        model.add_argument(f"--{name}", type=float, default=default, required=default is None, help=text)
    given = parser.parse_args()
    if given.command == "measure":
        os.environ["OMP_NUM_THREADS"] = "1"
        print(measure(given.images))
        return
    costs = Costs(
        parameters_of(given.recipe),
        given.fixed_seconds,
        given.image_seconds,
        given.read_seconds,
        given.cores,
        given.bandwidth,
        given.latency,
        int(given.small),
    )
    print(f"{costs.parameters:,} parameters, {4 * costs.parameters / 1e6:.0f} MB a gradient\n")
    print(table(costs, given.images, given.devices, given.shared))


if __name__ == "__main__":
    main()
