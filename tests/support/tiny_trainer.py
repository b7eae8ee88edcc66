"""A trainer of a method that remembers, on random batches: no network, no data, no evaluation."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from support import tiny
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config.methods import UnlabeledOptions
from semiseg.config.options import OptimOptions, TrainOptions
from semiseg.methods.method import Method
from semiseg.runtime.progress import Progress
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.keeping import Keeper, State
from semiseg.training.optim import build_optimizer
from semiseg.training.record import Record, read_record
from semiseg.training.trainer import Trainer
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch

SGD = OptimOptions(lr=0.1, head_lr_factor=2, momentum=0.9, weight_decay=1e-3, power=0.9)


class Plain(Method):
    """Cross-entropy and a squared distance from two convolutions without BatchNorm; remembers what was asked."""

    poison = -1  # the step whose loss, or gradient, is not finite

    def __init__(self) -> None:
        torch.manual_seed(0)
        student = nn.ModuleDict({"encoder": nn.Conv2d(3, 4, 3, padding=1), "head": nn.Conv2d(4, 3, 1)})
        super().__init__(student, UnlabeledOptions(), tiny.setting())
        self.prepare_at = 3
        self.calls: list[tuple[str, int]] = []
        self.seen: list[tuple[LabeledBatch, UnlabeledBatch | None]] = []
        self.drawn: list[tuple[float, float]] = []

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        self.calls.append(("forward", clock.step))
        self.seen.append((labeled, unlabeled))
        self.drawn.append((torch.rand(()).item(), torch.rand((), generator=clock.generator).item()))
        logits = self.student["head"](self.student["encoder"](labeled.image))
        losses = {"supervised": F.cross_entropy(logits, labeled.label)}
        if unlabeled is not None:
            losses["consistency"] = self.student["head"](self.student["encoder"](unlabeled.image)).square().mean()
        if clock.step == self.poison:
            losses = self.poisoned(losses)
        return StepResult(losses, {"kept": torch.tensor(clock.step / 10)} if clock.step >= 2 else {})

    def poisoned(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return losses | {"supervised": losses["supervised"] * math.nan}

    def prepare(self, labeled, clock: Clock) -> None:
        self.calls.append(("prepare", clock.step))
        self.prepared = list(labeled)

    def after_step(self, clock: Clock) -> None:
        self.calls.append(("after_step", clock.step))

    def parameter_groups(self) -> list[dict]:
        return [{"role": role, "params": list(self.student[part].parameters())} for role, part in ROLES]


ROLES = (("encoder", "encoder"), ("head", "head"))


class Score:
    """What an evaluator gives: mIoU by step."""

    def __init__(self, miou: float) -> None:
        self.miou = miou

    def to_dict(self) -> dict:
        return {"miou": self.miou}


def step_batches(step: int) -> tuple[LabeledBatch, UnlabeledBatch]:
    """Four and four images; every pixel has a label, so that the mean of two means is the mean."""
    labeled, unlabeled = tiny.batches(4, 4, seed=step)
    return labeled._replace(label=labeled.label % 3), unlabeled


def trainer(folder: Path, method: Method | None = None, state: State | None = None, scores=(), **train) -> Trainer:
    """A trainer over `step_batches`; `scores` are the mIoUs of its evaluations, in turn."""
    method, state, mious = method or Plain(), state or State(), iter(scores)
    options = TrainOptions(**{"steps": 6, "precision": "fp32", "channels_last": False, "log_every": 2, **train})

    def batches(start: int) -> Iterator[tuple[LabeledBatch, UnlabeledBatch]]:
        return (step_batches(step) for step in range(start, options.steps))

    return Trainer(
        method=method,
        optimizer=build_optimizer(method.parameter_groups(), SGD),
        train=options,
        optim=SGD,
        seed=5,
        device=torch.device("cpu"),
        batches=batches,
        labeled=tiny.one_by_one(step_batches(0)[0]),
        evaluate=lambda _: Score(next(mious, 50.0)),
        record=Record(folder / "metrics.jsonl", state.step),
        keeper=Keeper(folder / "checkpoints", {"config": {"seed": 5}, "split": {}, "classes": {}}),
        progress=Progress("test", options.steps, console=Console(quiet=True)),
        state=state,
    )


def resumed(folder: Path, method: Method | None = None, **train) -> Trainer:
    """A new process's trainer, from the last checkpoint."""
    saved = load_checkpoint(folder / "checkpoints/last.pt")
    again = trainer(folder, method, State(**saved["state"]), **train)
    again.method.load_state_dict(saved["method"])
    again.optimizer.load_state_dict(saved["optimizer"])
    return again


def weights(method: Method) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in method.parameters()])


def lines(folder: Path, kind: str) -> list[dict]:
    return [entry for entry in read_record(folder / "metrics.jsonl") if entry["kind"] == kind]
