"""The way from a method's wish for unlabelled images to the batch of them, behind the steps in between.

    step t - 3      the method draws the wish for step t, on the device, and keeps it in a buffer
    before t - 2    its copy to the host is put behind what the device has to do
    before t - 1    it is read; the device is at step t - 2 by then, so that it never runs dry; threads begin to load
    before t        the batch is handed over

A method that gets no partners costs nothing. A resumed run reads the wishes out of the method's buffers and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semiseg.parts.partners import WantsImages
from semiseg.types import UnlabeledBatch

Wait = Callable[[], UnlabeledBatch]
Request = Callable[[int, Sequence[int]], Wait]  # a step and the positions for its slots -> what waits for the batch


class Reading:
    """A small tensor's values on their way to the host."""

    def __init__(self, tensor: Tensor) -> None:
        self.values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self.values.copy_(tensor, non_blocking=True)
        self.arrived = torch.cuda.Event() if tensor.is_cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def tolist(self) -> list[int]:
        """The values; waits until the device has done all before the copy."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()


class Partners:
    """The partners of each of `steps` steps, asked of a method and of a loader in time."""

    def __init__(self, method: WantsImages, request: Request, steps: int) -> None:
        self.method, self.request, self.steps = method, request, steps
        self._read: dict[int, Reading] = {}  # by the step that uses it
        self._loading: dict[int, Wait] = {}

    def of(self, step: int) -> UnlabeledBatch | None:
        """The partners of `step`, called before each step in order. Raises ValueError for an unreadable image."""
        for number in range(step, min(step + 3, self.steps)):
            wish = None if number in self._read or number in self._loading else self.method.wanted(number)
            if wish is not None:
                self._read[number] = Reading(wish)
        for number in (step, step + 1):
            if number in self._read:
                self._loading[number] = self.request(number, self._read.pop(number).tolist())
        return self._loading.pop(step)() if step in self._loading else None
