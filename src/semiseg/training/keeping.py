"""What a run keeps on the disk to go on from: when, whether it is good, and back from it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from semiseg.methods.method import Method
from semiseg.runtime.distributed import rank
from semiseg.training.checkpoint import LAST, load_checkpoint, load_into, not_finite, save_checkpoint
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

    @classmethod
    def read(cls, values: Mapping[str, Any], path: Path) -> State:
        """The state in the checkpoint `path`. Raises ValueError where a value is missing or of another kind."""
        kinds = {name: type(value) for name, value in vars(cls()).items() if value is not None}
        wrong = [name for name, kind in kinds.items() if not isinstance(values.get(name, kind()), (kind, int))]
        if "step" not in values or wrong or values.keys() - {each.name for each in fields(cls)}:
            raise ValueError(
                f"{path} is no checkpoint of this version of semiseg: its state is {dict(values)!r:.300}; expected "
                f"{', '.join(kinds)}. Restore it from a copy, or train again with another --run"
            )
        return cls(**values)

    @property
    def rate_factor(self) -> float:
        """What is left of the learning rate after the retreats."""
        return 0.5**self.retreats


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
        """Write a checkpoint. Raises NonFiniteError instead where a weight is not finite, and WriteError.

        A gradient can overflow where the loss did not.
        """
        weights, memory = method.state_dict(), optimizer.state_dict()
        bad = next(not_finite(weights), None) or next(not_finite(memory, "the optimizer"), None)
        if bad is not None:
            raise self.not_finite(f"{bad} is not finite after step {state.step}", state)
        if rank() == 0:
            parts = {"method": weights, "optimizer": memory, "state": vars(state).copy(), **self.identity}
            save_checkpoint(self.folder / name, parts)
        self.saved_at = time.monotonic()

    def restore(self, method: Method, optimizer: Optimizer) -> State:
        """Put the last checkpoint back into `method` and `optimizer`. Raises ValueError where it is damaged."""
        saved = load_checkpoint(self.last)
        load_into(method, saved["method"], self.last)
        load_into(optimizer, saved["optimizer"], self.last)
        return State.read(saved["state"], self.last)

    def not_finite(self, what: str, state: State) -> NonFiniteError:
        """The error that says `what` is not finite, and what can be done."""
        advice = (
            "To go on from there at half the learning rate, add --resume --train.on_nonfinite retreat; or train anew, "
            "with another --run, with a smaller --optim.lr, with --optim.warmup_steps or with --train.precision fp32"
            if state.retreats < RETREATS
            else f"The rate was halved {state.retreats} times, so it is not the cause: train anew, with another --run, "
            "with --train.precision fp32, and look for images and masks that stand out"
        )
        return NonFiniteError(what, f"{what}. The last good checkpoint is {self.last}. {advice}")
