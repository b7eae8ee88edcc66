"""The loop: batches in, losses out of the method, one optimizer step, and the clock. It knows no method by name."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.config.options import OptimOptions, TrainOptions
from semiseg.evaluation.evaluator import Evaluation
from semiseg.methods.method import Method
from semiseg.parts.losses import pixel_count
from semiseg.parts.partners import WantsImages
from semiseg.runtime.distributed import (
    average_statistics,
    averaging,
    copy_from_first,
    is_active,
    mean_over_ranks,
    rank,
    replicated,
)
from semiseg.runtime.precision import precision_context
from semiseg.runtime.progress import Progress
from semiseg.training.checkpoint import BEST, LAST, save_checkpoint
from semiseg.training.compilation import uncompiled
from semiseg.training.instruments import gradient_norms, views_of_labels
from semiseg.training.memory import explained, probe
from semiseg.training.optim import Optimizer, learning_rate, set_learning_rate
from semiseg.training.partners import Partners, Request
from semiseg.training.record import Record
from semiseg.types import IGNORE, Clock, LabeledBatch, StepResult, UnlabeledBatch

Batches = Iterator[tuple[LabeledBatch, UnlabeledBatch | None]]
Results = list[tuple[int, StepResult]]  # each with its step


class NonFiniteLossError(ValueError):
    """A loss, or a weight after a step, became NaN or infinite."""


@dataclass
class State:
    """The trainer's part of a checkpoint."""

    step: int = 0  # optimizer steps done
    best: float = -math.inf  # mIoU of the best evaluation so far, in per cent
    best_step: int = 0
    seconds: float = 0.0  # spent so far, interruptions left out
    evaluating: float = 0.0  # of these, spent on evaluations
    accumulate: int | None = None  # micro-batches per step, where memory asked for more than the options


@dataclass
class Trainer:
    """One run of one method, from `state.step` to the last step.

    With several processes each has a trainer. Between two steps they differ in nothing, and the first one writes.
    """

    method: Method
    optimizer: Optimizer
    train: TrainOptions
    optim: OptimOptions
    seed: int
    device: torch.device
    batches: Callable[[int], Batches]  # first step -> the batches from there, on the device
    labeled: Iterable[LabeledBatch]  # every labelled image, whole: what `prepare` sees
    evaluate: Callable[[Method], Evaluation]
    record: Record
    folder: Path  # of the checkpoints
    config: dict[str, Any]  # goes into every checkpoint
    split: dict[str, Any]  # likewise: `Dataset.split`
    progress: Progress
    state: State = field(default_factory=State)
    probes: bool | None = None  # whether to try if a step fits into memory before the first; None: on a GPU
    measures: bool = False  # whether evaluations have the figures of `instruments`
    request: Request | None = None  # loads what the method asks for; None: the batches have all that there is
    _partners: Partners | None = None
    _pending: Results = field(default_factory=list)  # since the last log, on the device
    _measured: dict[str, Any] = field(default_factory=dict)  # of the step before an evaluation

    def __post_init__(self) -> None:
        self.probes = self.device.type == "cuda" if self.probes is None else self.probes
        self.method.to(self.device).train()

    @cached_property
    def _replica(self) -> torch.nn.Module:
        """The method as a step calls it, under DDP with several ranks.

        Made after the largest step was tried: DDP takes note of every backward pass that it sees.
        """
        return replicated(self.method)

    def run(self) -> State:
        """Train to the last step. Raises NonFiniteLossError and MemoryShortError.

        Checkpoints fall behind a line of the record, so that what is averaged in a line does not depend on where a run
        was interrupted.
        """
        started = time.monotonic() - self.state.seconds
        batches = self.batches(self.state.step)
        for step in range(self.state.step, self.train.steps):
            clock = self.clock(step)
            if step == self.method.prepare_at:
                self.prepare(clock)
            labeled, unlabeled = self.batch(batches, step)
            if step == 0 and self.probes:
                self.fit_to_memory(labeled, unlabeled, clock)
            evaluate, checkpoint, log = (
                (step + 1) % every == 0 or step + 1 == self.train.steps
                for every in (self.train.evaluate_every, self.train.checkpoint_every, self.train.log_every)
            )
            self.step(labeled, unlabeled, clock, measure=evaluate and self.measures)
            self.state.step, self.state.seconds = step + 1, time.monotonic() - started
            if evaluate or checkpoint or log:
                self.log()
            if evaluate:
                with self._evaluating():
                    self.evaluation(labeled)
                self.state.seconds = time.monotonic() - started
            if evaluate or checkpoint:
                self.save(LAST)
        return self.state

    def batch(self, batches: Batches, step: int) -> tuple[LabeledBatch, UnlabeledBatch | None]:
        """The batch of `step`, the next of `batches`, with the partners that the method asked for."""
        labeled, unlabeled = next(batches)
        if unlabeled is not None and self.request is not None and isinstance(self.method, WantsImages):
            self._partners = self._partners or Partners(self.method, self.request, self.train.steps)
            unlabeled = unlabeled._replace(partner=self._partners.of(step))
        return labeled, unlabeled

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """What is done in here counts as evaluation, not as training."""
        started = time.monotonic()
        yield
        self.state.evaluating += time.monotonic() - started

    def clock(self, step: int) -> Clock:
        """The step's clock. All its randomness follows from (seed, step); dropout's also from the rank."""
        own, shared = (np.random.SeedSequence([self.seed, step, number]) for number in (rank(), 0))
        torch.manual_seed(int(own.generate_state(2, np.uint64)[0]))
        generator = torch.Generator().manual_seed(int(shared.generate_state(2, np.uint64)[1]))
        return Clock(step, self.train.steps, generator)

    def prepare(self, clock: Clock) -> None:
        """Let the method start what needs a trained network; in every process alike, to the bit."""
        self.progress.say("preparing: " + type(self.method).__name__)
        with precision_context(self.train.precision, self.device), uncompiled():
            self.method.prepare((batch.to(self.device) for batch in self.labeled), clock)
        copy_from_first(self.method)

    def step(
        self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock, measure: bool = False
    ) -> None:
        """One optimizer step. Raises MemoryShortError."""
        set_learning_rate(self.optimizer, learning_rate(clock.step, clock.total_steps, self.optim))
        with explained(_sizes(labeled, unlabeled), self.accumulate, self._last_good):
            self._pending += self.passes(labeled, unlabeled, clock, self.accumulate, measure)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            average_statistics(self.method)
            self.method.after_step(clock)

    @property
    def accumulate(self) -> int:
        """Micro-batches per step."""
        return self.state.accumulate or self.train.accumulate

    def fit_to_memory(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> None:
        """Double the micro-batches until the largest step, with unlabelled images, fits. Raises MemoryShortError."""
        if isinstance(self.method, WantsImages) and unlabeled is not None and unlabeled.partner is None:
            unlabeled = unlabeled._replace(partner=unlabeled)
        largest = clock.at(max(clock.step, self.method.prepare_at or 0))
        parts = probe(
            lambda parts: self.passes(labeled, unlabeled, largest, parts, self.measures),
            self.method,
            largest,
            _sizes(labeled, unlabeled),
            self.accumulate,
            slots=(2 if self.optim.kind == "adamw" else 1) + is_active(),  # DDP keeps gradients a second time
        )
        if parts != self.accumulate:
            self.state.accumulate = parts
            self.record.add("memory", clock.step, {"accumulate": parts})
            self.progress.say(
                f"a step does not fit into the device's memory: taken in {parts} parts, as with --train.accumulate "
                f"{parts} (BatchNorm normalises by the images of a part)"
            )

    def passes(
        self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock, parts: int, measure: bool = False
    ) -> Results:
        """Forward and backward pass of each of `parts` micro-batches; the gradients stay with the weights.

        With `measure` the first part's losses are taken apart.
        """
        results: Results = []
        network = self._replica if is_active() else self.method  # tried alone, it waits for no other rank
        for number, part in enumerate(micro_batches(labeled, unlabeled, parts), 1):
            with averaging(network, number == parts):
                with precision_context(self.train.precision, self.device):
                    result = network(*part, clock)
                if measure and number == 1:
                    with self._evaluating():
                        self._measured = {"gradients": gradient_norms(result.losses, self.method)}
                (result.loss / parts).backward()
            losses = {name: loss.detach() for name, loss in result.losses.items()}
            results.append((clock.step + 1, StepResult(losses, result.stats)))
        return results

    def log(self) -> None:
        """Read the values since the last log, all at once, and write their means. Raises NonFiniteLossError."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        rows = [(step, {**result.losses, **result.stats}, result.losses) for step, result in pending]
        stacked = torch.stack([value.float() for _, values, _ in rows for value in values.values()])
        numbers = iter(mean_over_ranks(stacked).tolist())
        found: dict[str, list[float]] = {}
        for step, values, losses in rows:
            read = {name: next(numbers) for name in values}
            bad = [name for name in losses if not math.isfinite(read[name])]
            if bad:
                raise NonFiniteLossError(f"the loss {', '.join(bad)} is not finite at step {step}. {self._what_now()}")
            for name, number in read.items():
                found.setdefault(name, []).append(number)
        means = {name: sum(several) / len(several) for name, several in found.items()}
        rate = learning_rate(self.state.step - 1, self.train.steps, self.optim)
        self.record.add("train", self.state.step, {**means, "lr": rate, "seconds": self.state.seconds})
        self.progress.step(self.state.step, means)

    def _what_now(self) -> str:
        repairs = "A smaller --optim.lr, --optim.warmup_steps or --train.precision fp32 are the usual repairs"
        return f"{self._last_good()}. {repairs}"

    def _last_good(self) -> str:
        good = self.folder / LAST
        return f"The last good checkpoint is {good}" if good.exists() else "No checkpoint was written before"

    def evaluation(self, labeled: LabeledBatch) -> None:
        """Score the method, write the scores, the instruments and its health, keep it if it is the best."""
        if self.measures:
            with precision_context(self.train.precision, self.device), uncompiled():
                part, _ = next(micro_batches(labeled, None, self.accumulate))  # so many images fit into memory
                self._measured["labeled_views"] = views_of_labels(self.method, part)
        scores = self.evaluate(self.method)
        health, warnings = self.method.health()
        values = {**scores.to_dict(), **self._measured, **health, "warnings": warnings}
        self.record.add("evaluation", self.state.step, values)
        self.progress.evaluation(self.state.step, scores.miou, warnings)
        if scores.miou > self.state.best:
            self.state.best, self.state.best_step = scores.miou, self.state.step
            self.save(BEST)

    def save(self, name: str) -> None:
        """Write a checkpoint. Raises NonFiniteLossError instead where a loss or a weight is not finite.

        A gradient can overflow where the loss did not, so the weights are looked at too.
        """
        self.log()
        weights = self.method.state_dict()
        bad = [key for key, tensor in weights.items() if not tensor.isfinite().all()]
        if bad:
            raise NonFiniteLossError(f"{bad[0]} is not finite after step {self.state.step}. {self._what_now()}")
        state = {
            "method": weights,
            "optimizer": self.optimizer.state_dict(),
            "state": vars(self.state).copy(),
            "config": self.config,
            "split": self.split,
        }
        if rank() == 0:
            save_checkpoint(self.folder / name, state)


def _sizes(labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> list[int]:
    """Images of each batch of a step."""
    return [len(batch.image) for batch in (labeled, unlabeled) if batch is not None]


def micro_batches(labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, parts: int) -> Batches:
    """A step's batches in `parts` parts, whose means over labelled pixels divide as the whole's does."""
    count = None if parts == 1 else pixel_count(labeled.label != IGNORE) / parts
    chunks = [LabeledBatch(*chunk, pixels=count) for chunk in zip(*(t.chunk(parts) for t in labeled[:3]), strict=True)]
    others: list[UnlabeledBatch | None] = [None] * parts
    if unlabeled is not None:
        others = [unlabeled.each(lambda tensor, n=n: tensor.chunk(parts)[n]) for n in range(parts)]
    return zip(chunks, others, strict=True)
