"""What is not finite, noted on the device in every step, read with the log, and named in words.

watch = FiniteWatch(method, classes)
watch.look(step)                                       # each step, between the backward pass and the optimizer's step
bad = watch.count(optimizer.state)                     # each log: a scalar on the device, read with the losses
cause = watch.cause(losses_by_step, optimizer.state)   # where a loss that was read or `bad` says so

One NaN is everywhere a step later, so what counts is which came first. Within a step the order is that of the
computation: what the step began with, what passed through the networks, the losses, the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semiseg.parts.prototype_predictor import PrototypePredictor

NEVER = 2**31 - 1
MOST = 5  # names in a message
STATISTICS = ("running_mean", "running_var")
KINDS = ("prototypes", "activations", "statistics", "loss", "gradient", "optimizer", "weight", "memory")
"""In the order of a step. The last three are looked at once per log and not in every step."""

Named = tuple[str, str, Tensor]  # a kind, what it is of, and where it stands
Memory = Mapping[Tensor, Mapping[str, object]]
"""An optimizer's `state`: what it remembers of each parameter."""


@dataclass(frozen=True)
class Cause:
    """What was not finite before anything else was."""

    kind: str
    """One of KINDS."""
    step: int | None
    """The number of the step, as `look` was told; None where it is known only that it came since the last log."""
    names: tuple[str, ...]
    """Losses, classes, layers or tensors; the likeliest source first."""

    def __str__(self) -> str:
        """A sentence without its full stop, as `the loss "unlabeled" is not finite at step 7`."""
        more = f" and {len(self.names) - MOST} more" if len(self.names) > MOST else ""
        names = ", ".join(f'"{name}"' for name in self.names[:MOST]) + more
        several = len(self.names) > 1
        subject, verb = {
            "prototypes": (f"the prototypes of class {names}", "are"),
            "activations": (f'what came into the BatchNorm layer "{self.names[0]}"', "is"),
            "statistics": (f"the BatchNorm statistics of {names}", "are"),
            "loss": (f"the {'losses' if several else 'loss'} {names}", "are" if several else "is"),
            "gradient": (f"the gradient of {names}", "is"),
            "optimizer": (f"the optimizer's memory of {names}", "is"),
            "weight": (f"the weight {names}", "is"),
            "memory": (f"what the method remembers as {names}", "is"),
        }[self.kind]
        when = "" if self.step is None else f" at step {self.step}"
        return f"{subject} {verb} not finite{when}{_MEANING.get(self.kind, '')}"


_MEANING = {
    "activations": ": the weights in front of it had grown too large, or the images were not",
    "gradient": ", while the losses were: it overflowed in the backward pass",
    "optimizer": ", while the gradients were",
    "weight": ", while the gradients were: the optimizer's step was too long",
}


def advice(cause: Cause, precision: str) -> str:
    """What a new run may do differently, as sentences. precision: `train.precision` of the run that failed.

    A resumed run takes none of it, for it would be another run.
    """
    steps = "a smaller --optim.lr, or a longer rise to it by --optim.warmup_steps"
    if precision != "fp32" and cause.kind in ("loss", "gradient", "activations"):
        return f"A new run (another --run) may take {steps}, or --train.precision fp32"
    return f"A new run (another --run) may take {steps}"


class FiniteWatch:
    """Notes for each gradient, BatchNorm statistic and class of prototypes the step at which it was first not finite.

    Nothing here waits for the device but `cause`. Make it of a method in train mode, on its device.
    """

    def __init__(self, method: nn.Module, classes: Sequence[str]) -> None:
        """classes: their names, in the order of the prototypes."""
        self.weights = dict(method.named_parameters())
        self.learning = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        state = list(_state(method, classes))
        self.state = [each for each in state if each[0] != "memory"]
        self.memory = [each for each in state if each[0] == "memory"]
        device = next(method.parameters()).device
        self._normalising = {name for name, module in method.named_modules() if module.training}
        self._first = torch.full((len(self.state) + len(self.learning),), NEVER, dtype=torch.int32, device=device)
        self._none = torch.zeros(1, device=device)  # stands for the gradient of a weight that has none

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Note what is not finite now: behind the backward pass of `step`, before the optimizer's step."""
        gradients = (self._none if each.grad is None else each.grad for each in self.learning.values())
        bad = not_finite([*(tensor for _, _, tensor in self.state), *gradients])
        self._first.masked_fill_(bad & (self._first == NEVER), step)

    @torch.no_grad()
    def count(self, optimizer: Memory) -> Tensor:
        """How much was not finite since the watch began, or is not now; 0 where all is well. Scalar, float32"""
        now = [tensor for _, _, tensor in self._others(optimizer)]
        return (self._first < NEVER).sum().float() + not_finite(now).sum()

    @torch.no_grad()
    def cause(self, losses: Iterable[tuple[int, Mapping[str, float]]], optimizer: Memory) -> Cause | None:
        """What came first; None where all is finite. Waits for the device.

        losses: for each step since the last log its number and its losses' values.
        """
        first = self._first.tolist()
        found: dict[tuple[int, int], list[str]] = {}

        def note(step: int, kind: str, name: str) -> None:
            found.setdefault((step, KINDS.index(kind)), []).append(name)

        for step, values in losses:
            for name in (name for name, value in values.items() if not math.isfinite(value)):
                note(step, "loss", name)
        with_loss = {step for step, kind in found if KINDS[kind] == "loss"}
        for step, (kind, name, _) in zip(first, self.state, strict=False):
            passed = kind == "statistics" and name in self._normalising and step in with_loss
            note(step, "activations" if passed else kind, name)
        # The backward pass goes from the last layer to the first, so the last bad one is the nearest to the source.
        for step, name in zip(reversed(first), reversed(self.learning), strict=False):
            note(step, "gradient", name)
        others = self._others(optimizer)
        for (kind, name, _), bad in zip(others, not_finite([each[2] for each in others]).tolist(), strict=True):
            if bad:
                note(NEVER - 1, kind, name)
        (step, kind), names = min(found.items(), default=((NEVER, 0), []))
        if step == NEVER:
            return None
        return Cause(KINDS[kind], step if step < NEVER - 1 else None, tuple(dict.fromkeys(names)))

    def _others(self, optimizer: Memory) -> list[Named]:
        """What is looked at once per log; the state too, which `after_step` may have changed since the last look."""
        names = {id(weight): name for name, weight in self.weights.items()}
        remembered: list[Named] = [
            ("optimizer", names.get(id(weight), "?"), value)
            for weight, values in optimizer.items()
            for value in values.values()
            if isinstance(value, Tensor)
            and value.is_floating_point()
            and value.device == weight.device  # no step count
        ]
        weights: list[Named] = [("weight", name, weight) for name, weight in self.weights.items()]
        return [*remembered, *weights, *self.state, *self.memory]


def not_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which of some floating-point tensors hold a NaN or an infinity. (T,) bool, on their device

    Decided by the Euclidean length, one call for all and the quickest: a tensor too long for float32, beyond 1.8e19,
    counts too, and no training comes back from there.
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.bool)
    return ~torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors), 2)]).isfinite()


def _state(method: nn.Module, classes: Sequence[str]) -> Iterator[Named]:
    """Every floating-point buffer; the prototypes class by class."""
    by_class = {
        f"{path}.prototypes".lstrip(".")
        for path, module in method.named_modules()
        if isinstance(module, PrototypePredictor)
    }
    for name, buffer in method.named_buffers():
        if not buffer.is_floating_point() or not buffer.numel():
            continue
        owner, _, last = name.rpartition(".")
        if name in by_class:
            yield from (("prototypes", label, own) for label, own in zip(classes, buffer, strict=True))
        elif last in STATISTICS:
            yield "statistics", owner, buffer
        else:
            yield "memory", name, buffer
