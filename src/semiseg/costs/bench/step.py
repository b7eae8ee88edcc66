"""A training step against its floor: the network passes that no implementation of the method can do without."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from semiseg.config.recipe import Config, load_config
from semiseg.costs.bench.pictures import write_pictures
from semiseg.costs.bench.table import Table
from semiseg.methods import METHODS
from semiseg.methods.method import split_output
from semiseg.methods.prototype import Prototype
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import kept_cross_entropy
from semiseg.parts.mixing import mix_batch
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.runtime.precision import precision_context
from semiseg.runtime.progress import Progress
from semiseg.runtime.timing import Call, median_seconds, peak_bytes
from semiseg.training.compilation import uncompiled
from semiseg.training.experiment import build_experiment, build_trainer
from semiseg.training.keeping import State
from semiseg.training.optim import build_optimizer
from semiseg.training.steps import micro_batches
from semiseg.types import SegmentationOutput, StepResult

EXTREMES = ("supervised", "prototype")  # the methods that do least and most beside their passes
LABELED, UNLABELED = 16, 48  # pictures; the first pass over them is part of no figure
TARGET = {"cpu": 1.10, "cuda": 1.05}


def _preset(encoder: str, stride: int, crop: tuple[int, int], images: int, precision: str) -> dict[str, Any]:
    """Options of a step with `images` labelled images and as many unlabelled ones, of `crop` (H, W) pixels."""
    return {
        "network.encoder": encoder,
        "network.output_stride": stride,
        "augment.crop_height": crop[0],
        "augment.crop_width": crop[1],
        "train.batch_labeled": images,
        "train.batch_unlabeled": images,
        "train.precision": precision,
    }


PRESETS = {
    "cpu": {
        "ResNet-18, 160x208, 8+8": {
            **_preset("resnet18", 16, (160, 208), 8, "fp32"),
            "data.scale": 0.5,
            "network.multi_grid": False,
        },
        "ResNet-50, 161x161, 2+2": {**_preset("resnet50", 8, (161, 161), 2, "fp32"), "data.scale": 0.5},
    },
    "cuda": {
        "ResNet-101, 513x513, 16+16, bf16": {**_preset("resnet101s", 8, (513, 513), 16, "bf16"), "train.workers": 12},
    },
}


def bench_step(device: torch.device, repeats: int = 7) -> Iterator[Table]:
    """Step over floor for every method, and where the rest of the prototype method's step goes.

    Of all presets but the first, two methods: what the others do beside the passes does not depend on the network.
    """
    with training_pictures() as pictures:
        for number, (title, options) in enumerate(PRESETS[device.type].items()):
            rows, parts = [], []
            for method in METHODS if number == 0 else EXTREMES:
                bench = StepBench(config_for(method, options, pictures), device)
                rows.append(bench.row(2 * repeats if method == "prototype" else repeats))  # the one with a target
                if method == "prototype":
                    parts = bench.parts(repeats)
            ratio = next(row["time ratio"] for row in rows if row["method"] == "prototype")
            note = f"Time ratio of prototype: {ratio}; target at most {TARGET[device.type]:.2f}."
            yield Table(f"step over floor: {title}", rows, note)
            yield Table(f"prototype, {title}: parts of a step", parts)


@contextlib.contextmanager
def training_pictures() -> Iterator[Path]:
    """A dataset's folder to train on, for a while."""
    with tempfile.TemporaryDirectory() as name:
        pictures = Path(name) / "pictures"
        write_pictures(pictures, LABELED, UNLABELED, (360, 480))
        yield pictures


def config_for(method: str, options: Mapping[str, Any], pictures: Path) -> Config:
    """The recipe `folder` with the paper's decoder, for a method that is past its warm-up; its run is beside them."""
    run = tempfile.mkdtemp(dir=pictures.parent)
    warm_up = {} if method == "supervised" else {"method.warmup": 0.0}
    fixed = {
        "data.root": str(pictures),
        "data.cache": "memory",
        "network.channels": 256,
        "network.aspp_rates": [6, 12, 18],
    }
    return load_config("folder", {**fixed, "run": run, "method": method, **warm_up, **options})


class StepBench:
    """A trainer that was made as any other, its method past the start, and beside it the floor of its step."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        experiment = build_experiment(config)
        self.method, self.dataset = experiment.method, experiment.dataset
        self.optimizer = build_optimizer(self.method.parameter_groups(), config.optim)
        bar = Progress(config.method, config.train.steps, console=Console(quiet=True))
        self.trainer = build_trainer(experiment, self.optimizer, State(), bar)
        self.method.train()
        if isinstance(self.method, TeacherMethod):
            self.trainer.prepare(self.trainer.clock(0))
        self.batches = self.trainer.batches(0)
        self.labeled, self.unlabeled = next(micro_batches(*next(self.batches), self.trainer.accumulate))
        others = [] if self.unlabeled is None else [self.unlabeled.image]
        self.images = torch.cat([self.labeled.image, *others])  # (2B, 3, H, W)
        with torch.no_grad(), uncompiled():
            self.gradient = torch.full_like(self.method.student(self.images).logits, 1 / len(self.images))

    def step(self) -> None:
        """The trainer's work between two evaluations, data and record included."""
        trainer = self.trainer
        step = trainer.state.step
        trainer.step(*trainer.batch(self.batches, step), trainer.clock(step))
        trainer.state.step += 1
        if trainer.state.step % trainer.train.log_every == 0:
            trainer.log()

    def floor(self) -> None:
        """Student forward and backward on all images of the step, teacher forward on the unlabelled ones."""
        self._teacher_pass()
        with self._precision():
            logits = self.method.student(self.images).logits
        logits.backward(self.gradient)
        self.optimizer.zero_grad(set_to_none=True)

    def held(self) -> int:
        """Bytes held from step to step: weights, statistics, the optimizer's state."""
        remembered = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        there = [*self.method.parameters(), *self.method.buffers(), *remembered]
        return sum(tensor.numel() * tensor.element_size() for tensor in there if isinstance(tensor, torch.Tensor))

    def row(self, repeats: int) -> dict[str, Any]:
        """Seconds and peak memory of the step and of its floor."""
        calls: dict[str, Call] = {"floor": self.floor, "step": self.step}
        seconds = median_seconds(calls, repeats, self.device)
        memory = {name: peak_bytes(call, self.device) for name, call in calls.items()}
        return {
            "method": self.config.method,
            "step s": round(seconds["step"], 4),
            "floor s": round(seconds["floor"], 4),
            "time ratio": round(seconds["step"] / seconds["floor"], 3),
            "step MB": round(memory["step"] / 1e6, 1),
            "floor MB": round(memory["floor"] / 1e6, 1),
            "memory ratio": round(memory["step"] / memory["floor"], 3),
        }

    def parts(self, repeats: int) -> list[dict[str, Any]]:
        """Seconds of every part of the prototype method's step, each on its own, and their share of the floor."""
        seconds = median_seconds({"floor": self.floor, **self._parts()}, repeats, self.device)
        floor = seconds["floor"]
        return [
            {"part": name, "ms": round(1000 * spent, 2), "of the floor": f"{100 * spent / floor:.1f} %"}
            for name, spent in seconds.items()
        ]

    def _parts(self) -> dict[str, Call]:
        method, unlabeled = self.method, self.unlabeled
        assert isinstance(method, Prototype)
        assert unlabeled is not None
        clock = self.trainer.clock(1)
        with torch.no_grad(), self._precision():
            seen = method.teacher(unlabeled.image).logits
            output = method.student(self.images)
        pseudo = pseudo_label(seen, unlabeled.valid)
        logits, features = (maps.detach().requires_grad_() for maps in (output.logits, output.features))
        assert output.aux is None
        options, label, classes = method.options, self.labeled.label, method.student.num_classes
        kept = pseudo.kept(options.threshold)

        def linear() -> None:
            with self._precision():
                on_labeled, on_mixed = split_output(SegmentationOutput(logits, features), len(label))
                losses = method.supervised(on_labeled, self.labeled)
                losses["unlabeled"] = kept_cross_entropy(
                    on_mixed.logits, pseudo.label, kept=kept, valid=pseudo.valid, denominator=options.denominator
                )
            StepResult(losses, {}).loss.backward()

        def prototypes() -> None:
            with self._precision():
                assert method.prototypes is not None
                on_labels, on_pseudo_labels = method.prototypes.losses(
                    features, label, pseudo=pseudo, kept=kept, generator=clock.generator
                )
            (on_labels + on_pseudo_labels).backward()

        gradients = [(parameter, torch.zeros_like(parameter)) for parameter in method.student.parameters()]

        def optimizer() -> None:
            for parameter, gradient in gradients:  # the floor leaves none
                parameter.grad = gradient
            self.optimizer.step()

        return {
            "data": lambda: next(self.batches),
            "teacher pass": self._teacher_pass,
            "pseudo-labels": lambda: pseudo_label(seen, unlabeled.valid),
            "strong view": lambda: strong_view(unlabeled.image, method.context.augment, clock.generator),
            "mix": lambda: mix_batch(options.mix, 1.0, unlabeled.image, pseudo, classes, clock.generator),
            "linear losses, both ways": linear,
            "prototype losses, both ways": prototypes,
            "optimizer": optimizer,
            "teacher and prototypes follow": lambda: method.after_step(clock),
        }

    def _teacher_pass(self) -> None:
        if self.unlabeled is not None and isinstance(self.method, TeacherMethod):
            with self._precision():
                self.method.teacher(self.unlabeled.image)

    def _precision(self) -> contextlib.AbstractContextManager:
        return precision_context(self.config.train.precision, self.device)
