"""Values of the steps since the last line of the record, and batches taken in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from semiseg.parts.losses import pixel_count
from semiseg.runtime.distributed import mean_over_ranks
from semiseg.types import IGNORE, LabeledBatch, StepResult, UnlabeledBatch

Batches = Iterator[tuple[LabeledBatch, UnlabeledBatch | None]]
Results = list[tuple[int, StepResult]]  # each with its step
Row = tuple[int, dict[str, float], list[str]]
"""Step, its losses and statistics by name, and which of them are losses; of all ranks, their mean."""


class Values:
    """What the steps gave since the last line of the record; on the device until it is read, all at once.

    A checkpoint between two lines holds the rows, so that what is averaged in a line does not depend on where a run was
    interrupted.
    """

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        """`rows`: of the checkpoint that a run goes on from."""
        self._rows: list[Row] = [(int(step), dict(values), list(losses)) for step, values, losses in rows]
        self._unread: Results = []
        self.bad = 0.0  # the count that `read` was given last

    def add(self, results: Results) -> None:
        """Take a step's results, one of each micro-batch."""
        for step, result in results:
            losses = {name: loss.detach() for name, loss in result.losses.items()}
            self._unread.append((step, StepResult(losses, result.stats)))

    def read(self, bad: Tensor | None = None) -> list[Row]:
        """The rows so far. Waits for the device, where there is something new.

        `bad` () counts what is not finite; it is read with them, and goes into `self.bad`.
        """
        unread, self._unread = self._unread, []
        values = [{**result.losses, **result.stats} for _, result in unread]
        if values or (bad is not None and not self._rows):
            first = torch.zeros((), device=next(iter(values[0].values())).device) if bad is None else bad
            stacked = torch.stack([first, *(value.float() for each in values for value in each.values())])
            self.bad, *read = mean_over_ranks(stacked).tolist()
            numbers = iter(read)
            for (step, result), each in zip(unread, values, strict=True):
                self._rows.append((step, {name: next(numbers) for name in each}, list(result.losses)))
        return self._rows

    def newest(self) -> dict[str, float]:
        """The newest step's values, of this process, to show; nothing is read for the record by it."""
        _, result = self._unread[-1]
        values = {**result.losses, **result.stats}
        return dict(zip(values, torch.stack([value.float() for value in values.values()]).tolist(), strict=True))

    def losses(self) -> list[tuple[int, dict[str, float]]]:
        """The losses of each row that was read, with its step."""
        return [(step, {name: values[name] for name in losses}) for step, values, losses in self._rows]

    def means(self) -> dict[str, float]:
        """The mean of each value over the rows, which are then forgotten; empty where there are none."""
        found: dict[str, list[float]] = {}
        for _, values, _ in self.read():
            for name, number in values.items():
                found.setdefault(name, []).append(number)
        self._rows = []
        return {name: sum(several) / len(several) for name, several in found.items()}


def sizes(labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> list[int]:
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
