"""Whether a run goes wrong while there is time to do something about it: looks at the pseudo-labels, and at the scores.

A look is one pass of the labelling network over half a batch of unlabelled crops, every LOOK_EVERY steps: about a
fourteenth of a step's work, so about 0.4 % of the steps'. It draws no random number, and nothing learns from it. With
`train.guard lower` a collapse that lasts for two looks halves the weight of the losses on unlabelled images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from semiseg.config.options import TrainOptions
from semiseg.data.dataset import ImageSet
from semiseg.evaluation.evaluator import eval_mode
from semiseg.methods.method import Method
from semiseg.parts.predictor import Predictor
from semiseg.runtime.distributed import sum_over_ranks_
from semiseg.runtime.precision import precision_context
from semiseg.runtime.progress import Progress
from semiseg.training.baseline import Baseline, headline_iou, most_lost
from semiseg.training.compilation import uncompiled
from semiseg.training.concern import Concern
from semiseg.training.keeping import State
from semiseg.training.record import Record
from semiseg.types import IGNORE, StepResult, UnlabeledBatch

LOOK_EVERY = 20  # steps
REMEMBERED = 32  # looks
LASTS = 2  # looks in a row after which a collapse lasts
LOWERED = 4  # halvings of the weight at most
AGAIN = 2.0  # a warning is repeated where it has become so many times worse
ENOUGH = 8.0  # crops expected to show more than one class, before its absence says anything
MANY = 24.0  # crops expected to show a class, before it counts as gone
SHRUNK = 4.0  # all other classes together have shrunk so much: the pseudo-labels are of one class
LOST = 10.0  # a class has shrunk so much
RARE = 0.005  # share of the labelled pixels below which a class is not judged alone
NONE_KEPT = 0.005  # share of kept pixels below which the unlabelled images teach nothing
BEHIND = 5.0  # points of mIoU below the baseline, or the student
FALLEN = 8.0  # points of mIoU below the run's own best
MASKS = 64  # of the labelled ones, read for the prior


@dataclass(frozen=True)
class Prior:
    """What the labelled masks show."""

    share: np.ndarray  # (C,) of the labelled pixels, sum 1
    shown: np.ndarray  # (C,) share of the masks with a pixel of the class
    other: np.ndarray  # (C,) share of the masks in which at least 1 % is of other classes

    @classmethod
    def of(cls, images: ImageSet, classes: int) -> Prior:
        """Of at most MASKS masks, evenly over the list."""
        places = np.unique(np.linspace(0, len(images) - 1, min(MASKS, len(images))).round().astype(int))
        counts = np.stack([_histogram(images.mask(int(place)), classes) for place in places]).astype(float)  # (N, C)
        counts = counts[counts.sum(1) > 0]
        if not len(counts):
            return cls(*(np.zeros(classes) for _ in range(3)))
        by_mask = counts / counts.sum(1, keepdims=True)
        return cls(counts.sum(0) / counts.sum(), (counts > 0).mean(0), (by_mask < 0.99).mean(0))


def _histogram(mask: np.ndarray, classes: int) -> np.ndarray:
    """Pixels (C,) of each class in a mask (H, W)."""
    return np.bincount(mask[mask != IGNORE].ravel(), minlength=classes)[:classes]


@dataclass
class Monitor:
    """Looks, warns and, as the guard, lowers. In every process alike; the first one writes and speaks."""

    method: Method
    labeled: ImageSet  # whose masks give the prior
    train: TrainOptions
    device: torch.device
    record: Record
    progress: Progress
    baseline: Baseline | None = None  # None: there is nothing to hold the scores against
    _prior: Prior | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.method.context.classes

    @property
    def prior(self) -> Prior:
        """Of the labelled masks; read when it is first asked for."""
        self._prior = self._prior or Prior.of(self.labeled, len(self.classes))
        return self._prior

    def look(self, unlabeled: UnlabeledBatch | None, state: State, evaluate: bool) -> None:
        """Label half of the batch and judge what the last looks saw together; at its steps only."""
        due = evaluate or state.step % LOOK_EVERY == 0
        source = self.method.label_source
        if not due or source is None or unlabeled is None or state.step <= self.method.warmup_steps:
            return
        looks = [*state.health.get("looks", []), self._seen(source, unlabeled)][-REMEMBERED:]
        state.health = {**state.health, "looks": looks}
        self._settle("pseudo-labels", of_looks(looks, self.prior, self.classes, self.method.threshold), state)

    @torch.no_grad()
    def _seen(self, source: Predictor, unlabeled: UnlabeledBatch) -> list[float]:
        """(1 + 2 C,): crops, then pixels of each predicted class, then those that the threshold keeps."""
        half = (len(unlabeled.image) + 1) // 2
        valid, threshold = unlabeled.valid[:half], self.method.threshold or 0.0
        with eval_mode(source), uncompiled(), precision_context(self.train.precision, self.device):
            logits = next(iter(source.headline_alone(unlabeled.image[:half]).values()))
        confidence, label = logits.float().softmax(1).max(1)  # (B, H, W)
        count = len(self.classes)
        every = torch.bincount(label[valid], minlength=count)
        kept = torch.bincount(label[valid & (confidence >= threshold)], minlength=count)
        crops = torch.full((1,), half, device=every.device)
        return sum_over_ranks_(torch.cat([crops, every, kept]).double()).tolist()

    def figures(self, state: State) -> dict[str, Any]:
        """For the record of an evaluation: classes of the pseudo-labels and of the labelled masks, per cent."""
        looks = state.health.get("looks")
        if not looks:
            return {}
        crops, every, kept = _summed(looks, len(self.classes))
        named = {
            name: dict(zip(self.classes, (100 * values / max(values.sum(), 1)).round(3).tolist(), strict=True))
            for name, values in {"predicted": every, "kept": kept}.items()
        }
        labeled = dict(zip(self.classes, (100 * self.prior.share).round(3).tolist(), strict=True))
        share = 100 * float(kept.sum() / max(every.sum(), 1))
        return {"unlabeled_classes": {"crops": crops, "share": share, **named, "labeled": labeled}}

    def judge(self, values: Mapping[str, Any], of_method: list[str], state: State) -> None:
        """Judge an evaluation's `values`, as the record has them, and what the method itself warns `of_method`."""
        concerns = [_of_words(words) for words in of_method]
        if self.method.uses_unlabeled and state.step > self.method.warmup_steps:
            concerns += [*of_teacher(values), *of_fall(values, state.health.get("best_iou", {}), state.best)]
            concerns += [] if self.baseline is None else self.baseline.concerns(values, state.step, BEHIND)
        if values["miou"] > state.best:
            state.health = {**state.health, "best_iou": headline_iou(values)}
        self._settle("scores", concerns, state)

    def _settle(self, group: str, concerns: list[Concern], state: State) -> None:
        """Say what is new, count how long each collapse of the `group` lasts, and lower the weight where it does."""
        memory = {"warned": {}, "lasting": {}, **state.health}
        warned, before = dict(memory["warned"]), memory["lasting"].get(group, {})
        for concern in concerns:
            if concern.size >= AGAIN * warned.get(concern.cause, 0.0):
                warned[concern.cause] = float(concern.size)  # plain: a checkpoint holds no numpy
                self._say("warning", state.step, {"cause": concern.cause, "words": concern.words})
        lasting = {each.cause: before.get(each.cause, 0) + 1 for each in concerns if each.collapse}
        state.health = {**memory, "warned": warned, "lasting": {**memory["lasting"], group: lasting}}
        worst = next((each for each in concerns if each.collapse and lasting[each.cause] >= LASTS), None)
        if self.train.guard == "lower" and worst is not None and state.lowered < LOWERED:
            state.lowered += 1
            state.health = {**state.health, "lasting": {}, "looks": []}
            words = f"unlabelled images now count {state.unlabeled_factor:g} of their weight, for {worst.words}"
            self._say("guard", state.step, {"unlabeled_factor": state.unlabeled_factor, "words": words})

    def _say(self, kind: str, step: int, values: dict[str, Any]) -> None:
        self.record.add(kind, step, values)
        self.progress.say(f"step {step}: {kind}: {values['words']}")


def weighed(result: StepResult, method: Method, factor: float) -> StepResult:
    """The step with its losses on unlabelled images times `factor`; itself where that is 1.

    Raises ValueError where the method names none of its losses so: nothing would be lowered.
    """
    if factor == 1:
        return result
    if not any(name.startswith(method.unlabeled_losses) for name in result.losses):
        raise ValueError(
            f"train.guard is lower, and {type(method).__name__} has the losses {', '.join(result.losses)}, of which "
            f"none begins with {' or '.join(method.unlabeled_losses)}: name them in unlabeled_losses"
        )
    losses = {
        name: factor * loss if name.startswith(method.unlabeled_losses) else loss
        for name, loss in result.losses.items()
    }
    return replace(result, losses=losses)


def _summed(looks: list[list[float]], classes: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Crops, predicted and kept pixels (C,) of several looks."""
    total = np.sum(looks, axis=0)
    return float(total[0]), total[1 : 1 + classes], total[1 + classes :]


def of_looks(
    looks: list[list[float]], prior: Prior, classes: tuple[str, ...], threshold: float | None
) -> list[Concern]:
    """What is wrong with the pseudo-labels: one class takes all, one has gone, or none teaches.

    Each is judged on as few of the last looks as show enough crops, so that a collapse is seen at once.
    """
    found = []
    for at, name in enumerate(classes):
        share, expected = _share(looks, at, prior.other[at], ENOUGH), prior.share[at]
        if share is not None and expected < 1 and 1 - share < (1 - expected) / SHRUNK:
            size = min((1 - expected) / max(1 - share, 1e-9), SHRUNK**2)
            words = f"the pseudo-labels are almost all {name!r}: {share:.1%} of the unlabelled pixels, "
            found.append(Concern(f"one class: {name}", size, words + f"{expected:.1%} of the labelled", collapse=True))
        share = _share(looks, at, prior.shown[at], MANY)
        if share is not None and expected >= RARE and share < expected / LOST:
            size = min(expected / max(share, 1e-9), LOST**2)
            words = f"{name!r} has all but gone from the pseudo-labels: {share:.2%} of the unlabelled pixels, "
            found.append(Concern(f"gone: {name}", size, words + f"{expected:.1%} of the labelled"))
    one = next((each for each in found if each.collapse), None)
    if one is not None:
        return [one]  # that the others have gone says the same
    crops, every, kept = _summed(looks, len(classes))
    share = kept.sum() / max(every.sum(), 1)
    if threshold and crops >= ENOUGH and share < NONE_KEPT:
        words = f"the unlabelled images teach hardly anything: {share:.2%} of their pixels reach the threshold "
        found.append(Concern("none kept", 1.0, words + f"of {threshold:g}"))
    return found


def _share(looks: list[list[float]], at: int, showing: float, enough: float) -> float | None:
    """Share of class `at` among the predicted pixels of the fewest last looks with `enough` crops that should show it.

    `showing` is the share of crops that should. None: there are too few.
    """
    for first in range(len(looks) - 1, -1, -1):
        crops, every, _ = _summed(looks[first:], len(looks[0]) // 2)
        if crops * showing >= enough and every.sum():
            return float(every[at] / every.sum())
    return None


def _of_words(words: str) -> Concern:
    """A sentence of the method as a concern: its cause is the sentence without its numbers, its size the first one."""
    cause, numbers = re.sub(r"\d[\d.]*", "#", words), re.findall(r"\d+\.?\d*", re.sub(r"'.*?'", "", words))
    identical = "are identical" in words
    return Concern(cause, 1.0 if identical or not numbers else float(numbers[0]), words, collapse=identical)


def of_teacher(values: Mapping[str, Any]) -> list[Concern]:
    """A teacher that is worse than its student, on hidden masks or, without them, on the labelled batch.

    The guard acts on the labelled batch alone: hidden masks are for measuring, and a training that follows them in
    anything has learnt from them. For the same reason no validation score is a collapse.
    """
    scores = (values.get("hidden_labels") or {}).get("miou") or {}
    losses = {name: view["loss"] for name, view in (values.get("labeled_views") or {}).items()}
    teacher, student = (scores.get(name) for name in ("teacher", "student"))
    if teacher is not None and student is not None and student - teacher > BEHIND:
        words = f"the teacher is worse than its student: {teacher:.1f} mIoU, {student:.1f} the student"
        return [Concern("teacher", student - teacher, words)]
    if teacher is None and len(losses) == 2 and losses["teacher"] > 2 * losses["student"] + 0.5:
        words = f"the teacher is worse than its student: loss {losses['teacher']:.2f} on labelled images, "
        size = losses["teacher"] - losses["student"]
        return [Concern("teacher", size, words + f"{losses['student']:.2f} the student", collapse=True)]
    return []


def of_fall(values: Mapping[str, Any], best_iou: Mapping[str, float], best: float) -> list[Concern]:
    """A score that has fallen far below the run's own best, and the classes that fell most."""
    fall = best - values["miou"]
    if not fall > FALLEN:
        return []
    words = f"the score has fallen from {best:.1f} to {values['miou']:.1f} mIoU"
    return [Concern("fallen", fall, words + most_lost(headline_iou(values), best_iou))]


def build_monitor(
    method: Method, labeled: ImageSet, train: TrainOptions, record: Record, progress: Progress, device: torch.device
) -> Monitor | None:
    """The monitor that the options ask for. Raises ValueError where `train.baseline` cannot be held against the run."""
    if train.guard == "off":
        return None
    baseline = None if train.baseline is None else Baseline.read(train.baseline, train.evaluate_every, train.steps)
    return Monitor(method, labeled, train, device, record, progress, baseline)
