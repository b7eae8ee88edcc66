"""A method that asks for some of its unlabelled images by name."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class WantsImages(ABC):
    """Beside its unlabelled batch, such a method gets the images it asks for, as `UnlabeledBatch.partner` (AEL)."""

    @abstractmethod
    def wanted(self, step: int) -> Tensor | None:
        """The unlabelled images that the batch of `step` is to have as partners; None: none.

        Positions in the unlabelled list, (B,) int64 on the device, one for each slot of the batch of all ranks, which
        must agree. The trainer calls this up to two steps ahead. Keep the answer in a buffer until its step is over,
        so that a resumed run gets the same. The copy to the host is asynchronous (`semiseg.training.partners`).
        """
