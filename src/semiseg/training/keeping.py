"""What a run keeps on the disk to go on from: when, whether it is good, and back from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semiseg.methods.method import Method
from semiseg.parts.finite import Cause, advice
from semiseg.runtime.distributed import rank
from semiseg.training.checkpoint import LAST, load_checkpoint, load_into, save_checkpoint
from semiseg.training.optim import Optimizer
from semiseg.training.steps import Row

RETREATS = 3  # of `train.on_nonfinite retreat`, in one run


class NonFiniteError(ValueError):
    """A loss, or a weight after a step, became NaN or infinite; `what` says which, the message also what to do."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(message)
        self.what = what


@dataclass
class State:
    """The trainer's part of a checkpoint."""

    step: int = 0  # optimizer steps done
    best: float = -math.inf  # mIoU of the best evaluation so far, in per cent
    best_step: int = 0
    seconds: float = 0.0  # spent so far, interruptions left out
    evaluating: float = 0.0  # of these, spent on evaluations
    accumulate: int | None = None  # micro-batches per step, where memory asked for more than the options
    rows: list[Row] = field(default_factory=list)  # of the steps since the last line of the record
    retreats: int = 0  # from what was not finite; each halved the learning rate
    first_steps: int | None = None  # steps the run was begun for, where it was made longer: warm-up is a share of these
    lowered: int = 0  # halvings of the weight of the losses on unlabelled images, by the guard
    health: dict[str, Any] = field(default_factory=dict)  # what the monitor remembers between two looks

    @classmethod
    def read(cls, values: Mapping[str, Any], path: Path) -> State:
        """The state in the checkpoint `path`. Raises ValueError where a value is missing or of another kind."""
        wrong = [name for name in values if name not in _FITS or not _FITS[name](values[name])]
        if not wrong and values.get("best_step", 0) > values.get("step", -1):
            wrong = ["best_step"]
        if "step" not in values or wrong:
            raise ValueError(
                f"{path} is no checkpoint of this version of semiseg: of its state {', '.join(wrong) or 'the step'} is "
                "not what it should be. Restore it from a copy, or train again with another --run"
            )
        return cls(**values)

    @property
    def rate_factor(self) -> float:
        """What is left of the learning rate after the retreats."""
        return 0.5**self.retreats

    @property
    def unlabeled_factor(self) -> float:
        """What is left of the weight of the losses on unlabelled images."""
        return 0.5**self.lowered


def _counts(value: Any) -> bool:
    return type(value) is int and value >= 0


def _measures(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_row(row: Any) -> bool:
    whole = isinstance(row, list | tuple) and len(row) == 3 and _counts(row[0]) and isinstance(row[1], dict)
    whole = whole and isinstance(row[2], list | tuple) and set(row[2]) <= set(row[1])
    return whole and all(type(value) is float for value in row[1].values())


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(type(each) in (int, float) for each in value.values())


def _remembers(name: Any, value: Any) -> bool:
    """Whether the monitor can have remembered it."""
    if name == "looks":
        same = isinstance(value, list) and len({len(look) for look in value if isinstance(look, list)}) <= 1
        return same and all(isinstance(look, list) and all(map(_measures, look)) for look in value)
    if name == "lasting":
        return isinstance(value, dict) and all(map(_numbers, value.values()))
    return name in ("warned", "best_iou") and _numbers(value)


_FITS: dict[str, Callable[[Any], bool]] = {
    "step": _counts,
    "best": lambda value: value == -math.inf or (_measures(value) and value <= 100),
    "best_step": _counts,
    "seconds": _measures,
    "evaluating": _measures,
    "accumulate": lambda value: value is None or (_counts(value) and value > 0),
    "rows": lambda value: isinstance(value, list) and all(map(_is_row, value)),
    "retreats": lambda value: _counts(value) and value <= RETREATS,
    "first_steps": lambda value: value is None or (_counts(value) and value > 0),
    "lowered": _counts,
    "health": lambda value: isinstance(value, dict) and all(_remembers(*item) for item in value.items()),
}
"""Field of State -> whether a value from a file can be it."""


@dataclass
class Keeper:
    """The checkpoints of a run. In every process alike; the first one writes."""

    folder: Path  # of the checkpoints
    identity: dict[str, Any]  # their parts that never change: config, split, classes
    minutes: float = math.inf  # between two checkpoints
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / LAST

    @property
    def is_late(self) -> bool:
        """Whether the last checkpoint is older than `minutes`."""
        return time.monotonic() - self.saved_at >= 60 * self.minutes

    def save(self, name: str, method: Method, optimizer: Optimizer, state: State) -> None:
        """Write a checkpoint. Raises WriteError."""
        if rank() == 0:
            own = {"method": method.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state).copy()}
            save_checkpoint(self.folder / name, own | self.identity)
        self.saved_at = time.monotonic()

    def restore(self, method: Method, optimizer: Optimizer) -> State:
        """Put the last checkpoint back into `method` and `optimizer`. Raises ValueError where it is damaged."""
        saved = load_checkpoint(self.last)
        load_into(method, saved["method"], self.last)
        load_into(optimizer, saved["optimizer"], self.last)
        return State.read(saved["state"], self.last)

    def not_finite(self, cause: Cause | None, state: State, precision: str) -> NonFiniteError:
        """The error that says what is not finite, and what can be done; `cause` None: another process saw it."""
        what = f"a value is not finite at step {state.step}, in another process" if cause is None else str(cause)
        again = (
            "To go on from there at half the learning rate, add --resume --train.on_nonfinite retreat. "
            if state.retreats < RETREATS
            else f"The rate was halved {state.retreats} times since, so look for images and masks that stand out, too. "
        )
        repair = "" if cause is None else advice(cause, precision)
        return NonFiniteError(what, f"{what}. The last good checkpoint is {self.last}. {again}{repair}".rstrip())
