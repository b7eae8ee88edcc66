"""The loop: batches in, losses out of the method, one optimizer step, and the clock. It knows no method by name."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from semiseg.config.options import OptimOptions, TrainOptions
from semiseg.evaluation.evaluator import Evaluation
from semiseg.methods.method import Method
from semiseg.parts.finite import FiniteWatch
from semiseg.parts.partners import WantsImages
from semiseg.runtime.distributed import (
    average_statistics,
    averaging,
    copy_from_first,
    gathered,
    is_active,
    rank,
    replicated,
)
from semiseg.runtime.precision import precision_context
from semiseg.runtime.progress import Progress
from semiseg.runtime.stopping import Stopped, StopRequest
from semiseg.training.checkpoint import BEST, LAST
from semiseg.training.compilation import uncompiled
from semiseg.training.health import Monitor, weighed
from semiseg.training.instruments import gradient_norms, views_of_labels
from semiseg.training.keeping import RETREATS, Keeper, NonFiniteError, State
from semiseg.training.memory import explained, probe
from semiseg.training.optim import Optimizer, learning_rate, set_learning_rate
from semiseg.training.partners import Partners, Request
from semiseg.training.record import Record
from semiseg.training.steps import Batches, Results, Values, micro_batches, sizes
from semiseg.types import Clock, LabeledBatch, UnlabeledBatch

TOGETHER = 5  # steps after which several processes ask each other whether one of them is to stop


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
    keeper: Keeper
    progress: Progress
    state: State = field(default_factory=State)
    probes: bool | None = None  # whether to try if a step fits into memory before the first; None: on a GPU
    measures: bool = False  # whether evaluations have the figures of `instruments`
    monitor: Monitor | None = None  # looks at the pseudo-labels and scores, and warns; None: nobody does
    request: Request | None = None  # loads what the method asks for; None: the batches have all that there is
    stop: StopRequest = field(default_factory=StopRequest)
    _partners: Partners | None = None
    _measured: dict[str, Any] = field(default_factory=dict)  # of the step before an evaluation

    def __post_init__(self) -> None:
        self.probes = self.device.type == "cuda" if self.probes is None else self.probes
        self.method.to(self.device).train()
        self._values = Values(self.state.rows)
        self._watch = FiniteWatch(self.method, self.method.context.classes)

    @cached_property
    def _replica(self) -> torch.nn.Module:
        """The method as a step calls it, under DDP with several ranks.

        Made after the largest step was tried: DDP takes note of every backward pass that it sees.
        """
        return replicated(self.method)

    def run(self) -> State:
        """Train to the last step. Raises Stopped, NonFiniteError and MemoryShortError.

        There is a checkpoint before the first step, so a run that has a record has one to go on from.
        """
        self._began = time.monotonic() - self.state.seconds
        if self.state.step == 0:
            self.save(LAST)
        with self.stop.deferred():
            while self.state.step < self.train.steps:
                try:
                    self._run()
                except NonFiniteError as error:
                    self._retreat(error)
        return self.state

    def _run(self) -> None:
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
            self.state.step, self.state.seconds = step + 1, time.monotonic() - self._began
            if evaluate or checkpoint or log:
                self.log()
            elif self.progress.is_due(step + 1):
                self.progress.step(step + 1, self._values.newest())
            if self.monitor is not None:
                self.monitor.look(unlabeled, self.state, evaluate)
            if evaluate:
                with self._evaluating():
                    self.evaluation(labeled)
                self.state.seconds = time.monotonic() - self._began
            signal, late = self._asked(evaluate or checkpoint or log or (step + 1) % TOGETHER == 0)
            if evaluate or checkpoint or late or signal:
                self.save(LAST)
            if signal:
                self.progress.say(f"saved step {step + 1} of {self.train.steps} in {self.keeper.last}")
                raise Stopped(signal)

    def _asked(self, together: bool) -> tuple[int, bool]:
        """The signal that asks for the end, or 0, and whether minutes ask for a checkpoint.

        Several processes agree on it, which takes time, so they do only `together`.
        """
        if is_active() and not together:
            return 0, False
        asked = gathered((self.stop.number, self.keeper.is_late))
        return max(signal for signal, _ in asked), asked[0][1]

    def _retreat(self, error: NonFiniteError) -> None:
        """Go back to the last checkpoint, and on at half the rate. Raises `error` where the options do not say so."""
        if self.train.on_nonfinite == "stop" or self.state.retreats == RETREATS:
            raise error
        lost, retreats, seconds = self.state.step, self.state.retreats + 1, time.monotonic() - self._began
        kept = {"retreats": retreats, "seconds": seconds, "first_steps": self.state.first_steps}
        self.state = replace(self.keeper.restore(self.method, self.optimizer), **kept)
        if len(set(gathered(self.state.step))) > 1:
            raise ValueError(f"the processes read different files {self.keeper.last}: start them again") from error
        self.optimizer.zero_grad(set_to_none=True)
        self._values, self._partners = Values(self.state.rows), None
        self._watch = FiniteWatch(self.method, self.method.context.classes)
        self.record.back_to(self.state.step)
        factor = self.state.rate_factor
        self.record.add("retreat", self.state.step, {"from": lost, "rate_factor": factor, "reason": error.what})
        self.progress.say(
            f"{error.what}: back to step {self.state.step}, and on at {factor:g} of the learning rate "
            f"(retreat {retreats} of {RETREATS})"
        )
        self.save(LAST)

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
        rate = learning_rate(clock.step, clock.total_steps, self.optim) * self.state.rate_factor
        set_learning_rate(self.optimizer, rate)
        with explained(sizes(labeled, unlabeled), self.accumulate, f"The last good checkpoint is {self.keeper.last}"):
            self._values.add(self.passes(labeled, unlabeled, clock, self.accumulate, measure))
            self._watch.look(clock.step + 1)
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
            sizes(labeled, unlabeled),
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
                    result = weighed(network(*part, clock), self.method, self.state.unlabeled_factor)
                if measure and number == 1:
                    with self._evaluating():
                        self._measured = {"gradients": gradient_norms(result.losses, self.method)}
                (result.loss / parts).backward()
            results.append((clock.step + 1, result))
        return results

    def log(self) -> None:
        """Read the values since the last line of the record, all at once, and write their means.

        Raises NonFiniteError.
        """
        self._check_values()
        means = self._values.means()
        if means:
            rate = learning_rate(self.state.step - 1, self.train.steps, self.optim) * self.state.rate_factor
            self.record.add("train", self.state.step, {**means, "lr": rate, "seconds": self.state.seconds})
            self.progress.step(self.state.step, means)

    def _check_values(self) -> None:
        """Raise NonFiniteError where a loss, a gradient, a weight or a memory is not finite."""
        self._values.read(self._watch.count(self.optimizer.state))
        losses = self._values.losses()
        if self._values.bad or not all(math.isfinite(value) for _, values in losses for value in values.values()):
            cause = self._watch.cause(losses, self.optimizer.state)
            raise self.keeper.not_finite(cause, self.state, self.train.precision)

    def evaluation(self, labeled: LabeledBatch) -> None:
        """Score the method, write the scores, the instruments and its health, keep it if it is the best."""
        if self.measures:
            with precision_context(self.train.precision, self.device), uncompiled():
                part, _ = next(micro_batches(labeled, None, self.accumulate))  # so many images fit into memory
                self._measured["labeled_views"] = views_of_labels(self.method, part)
        scores = self.evaluate(self.method)
        health, warnings = self.method.health()
        values = {**scores.to_dict(), **self._measured, **health, "warnings": warnings}
        values |= {} if self.monitor is None else self.monitor.figures(self.state)
        self.record.add("evaluation", self.state.step, values)
        self.progress.evaluation(self.state.step, scores.miou, [] if self.monitor else warnings)
        if self.monitor is not None:
            self.monitor.judge(values, warnings, self.state)
        if scores.miou > self.state.best:
            self.state.best, self.state.best_step = scores.miou, self.state.step
            self.save(BEST)

    def save(self, name: str) -> None:
        """Write a checkpoint. Raises NonFiniteError instead where a loss or a weight is not finite, and WriteError."""
        self._check_values()
        self.state.rows = list(self._values.read())
        self.keeper.save(name, self.method, self.optimizer, self.state)
