"""The loop: batches in, losses out of the method, one optimizer step, and the clock. It knows no method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg.checkpoint import BEST, LAST, save_checkpoint
from semiseg.distributed import rank
from semiseg.evaluate import Evaluation
from semiseg.methods.method import Method
from semiseg.optim import learning_rate, set_learning_rate
from semiseg.options import OptimOptions, TrainOptions
from semiseg.predict import precision_context
from semiseg.progress import Progress
from semiseg.record import Record
from semiseg.types import Clock, LabeledBatch, UnlabeledBatch

Batches = Iterator[tuple[LabeledBatch, UnlabeledBatch | None]]


class NonFiniteLossError(ValueError):
    """A loss became NaN or infinite."""


@dataclass
class State:
    """What a checkpoint holds beside the method and the optimizer."""

    step: int = 0  # optimizer steps done
    best: float = -math.inf  # mIoU of the best evaluation so far, in per cent
    best_step: int = 0
    seconds: float = 0.0  # spent so far, interruptions left out


@dataclass
class Trainer:
    """One run of one method, from `state.step` to the last step."""

    method: Method
    optimizer: torch.optim.Optimizer
    train: TrainOptions
    optim: OptimOptions
    seed: int
    device: torch.device
    batches: Callable[[int], Batches]  # first step -> the batches from there
    labeled: Iterable[LabeledBatch]  # every labelled image, whole: what `prepare` sees
    evaluate: Callable[[Method], Evaluation]
    record: Record
    folder: Path  # of the checkpoints
    config: dict[str, Any]  # goes into every checkpoint
    progress: Progress
    state: State = field(default_factory=State)
    _pending: list[tuple[int, dict[str, Tensor], dict[str, Tensor]]] = field(default_factory=list)

    def run(self) -> State:
        """Train to the last step. Raises NonFiniteLossError."""
        started = time.monotonic() - self.state.seconds
        self.method.to(self.device).train()
        batches = self.batches(self.state.step)
        for step in range(self.state.step, self.train.steps):
            clock = self.clock(step)
            if step == self.method.prepare_at:
                self.prepare(clock)
            self.step(*next(batches), clock)
            self.state.step, self.state.seconds = step + 1, time.monotonic() - started
            last = step + 1 == self.train.steps
            if last or (step + 1) % self.train.log_every == 0:
                self.log()
            evaluated = last or (step + 1) % self.train.evaluate_every == 0
            if evaluated:
                self.evaluation()
                self.state.seconds = time.monotonic() - started
            if evaluated or (step + 1) % self.train.checkpoint_every == 0:
                self.save(LAST)
        return self.state

    def clock(self, step: int) -> Clock:
        """The step's clock; all randomness of the step, dropout's too, follows from (seed, step, rank)."""
        words = np.random.SeedSequence([self.seed, step, rank()]).generate_state(2, np.uint64)
        torch.manual_seed(int(words[0]))
        return Clock(step, self.train.steps, torch.Generator().manual_seed(int(words[1])))

    def prepare(self, clock: Clock) -> None:
        """Let the method start what needs a trained network."""
        self.progress.say("preparing: " + type(self.method).__name__)
        with precision_context(self.train.precision, self.device):
            self.method.prepare((batch.to(self.device) for batch in self.labeled), clock)

    def step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> None:
        """One optimizer step."""
        set_learning_rate(self.optimizer, learning_rate(clock.step, clock.total_steps, self.optim))
        for part in self.micro_batches(labeled, unlabeled):
            with precision_context(self.train.precision, self.device):
                result = self.method(*part, clock)
            (result.loss / self.train.accumulate).backward()
            losses = {name: loss.detach() for name, loss in result.losses.items()}
            self._pending.append((clock.step, losses, dict(result.stats)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(clock)

    def micro_batches(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> Batches:
        """The step's batches in `accumulate` parts, on the device."""
        parts = self.train.accumulate
        chunks = [LabeledBatch(*chunk) for chunk in zip(*(t.chunk(parts) for t in labeled), strict=True)]
        others: list[UnlabeledBatch | None] = [None] * parts
        if unlabeled is not None:
            others = [UnlabeledBatch(*chunk) for chunk in zip(*(t.chunk(parts) for t in unlabeled), strict=True)]
        for first, second in zip(chunks, others, strict=True):
            yield self._placed(first), None if second is None else self._placed(second)

    def _placed(self, batch: Any) -> Any:
        batch = batch.to(self.device)
        if not self.train.channels_last:
            return batch
        return batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))

    def log(self) -> dict[str, float]:
        """Read the values since the last log, all at once, and write their means. Raises NonFiniteLossError."""
        pending, self._pending = self._pending, []
        if not pending:
            return {}
        for step, losses, _ in pending:
            self._check_finite(step, losses)
        values = {}
        for name in {name: None for _, losses, stats in pending for name in (*losses, *stats)}:
            found = [{**losses, **stats}[name] for _, losses, stats in pending if name in losses or name in stats]
            values[name] = float(torch.stack(found).float().mean())
        rate = learning_rate(self.state.step - 1, self.train.steps, self.optim)
        self.record.add("train", self.state.step, {**values, "lr": rate, "seconds": self.state.seconds})
        self.progress.step(self.state.step, values)
        return values

    def _check_finite(self, step: int, losses: dict[str, Tensor]) -> None:
        finite = torch.stack(list(losses.values())).isfinite().tolist()
        if all(finite):
            return
        names = ", ".join(name for name, good in zip(losses, finite, strict=True) if not good)
        good = self.folder / LAST
        raise NonFiniteLossError(
            f"the loss {names} is not finite at step {step}. "
            + (f"The last good checkpoint is {good}. " if good.exists() else "No checkpoint was written before. ")
            + "A smaller --optim.lr, --optim.warmup_steps or --train.precision fp32 are the usual repairs"
        )

    def evaluation(self) -> None:
        """Score the method, write the scores and its health, keep it if it is the best."""
        self.log()
        scores = self.evaluate(self.method)
        health, warnings = self.method.health()
        self.record.add("evaluation", self.state.step, {**scores.to_dict(), **health, "warnings": warnings})
        self.progress.evaluation(self.state.step, scores.miou, warnings)
        if scores.miou > self.state.best:
            self.state.best, self.state.best_step = scores.miou, self.state.step
            self.save(BEST)

    def save(self, name: str) -> None:
        """Write a checkpoint; never one with a loss that is not finite behind it."""
        for step, losses, _ in self._pending:
            self._check_finite(step, losses)
        state = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": vars(self.state).copy(),
            "config": self.config,
        }
        save_checkpoint(self.folder / name, state)
