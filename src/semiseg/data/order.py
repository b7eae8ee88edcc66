"""The order in which a run takes its images: a pure function of (seed, stream), entry by entry."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """What a random number is for. Two streams of one seed are independent."""

    LABELED_ORDER = 0
    UNLABELED_ORDER = 1
    LABELED_VIEW = 2
    UNLABELED_VIEW = 3
    PARTNER_VIEW = 4


class Order:
    """Which images each step takes: permutation after permutation of `range(count)`, without end.

    Every image comes once before any comes twice, also across steps; a batch may span two permutations or more.
    """

    def __init__(self, count: int, seed: int, stream: Stream) -> None:
        assert 1 <= count < 2**31, "an image set is never empty, and int32 numbers it"
        self.count, self.seed, self.stream = count, seed, stream
        self._epoch = -1
        self._pass: NDArray[np.int32] = np.zeros(0, np.int32)

    def permutation(self, epoch: int) -> NDArray[np.int32]:
        """Pass `epoch` over the images, a permutation of range(count): 4 bytes an image, 400 MB for 10^8."""
        places = np.arange(self.count, dtype=np.int32)
        np.random.default_rng([self.seed, self.stream, epoch]).shuffle(places)
        return places

    def batch(self, step: int, size: int) -> list[int]:
        """The indices of `step`: entries step * size to (step + 1) * size of the endless list."""
        entries: list[int] = []
        for number in range(step * size, (step + 1) * size):
            epoch, place = divmod(number, self.count)
            if epoch != self._epoch:  # steps go forward: each pass is made once
                self._epoch, self._pass = epoch, self.permutation(epoch)
            entries.append(int(self._pass[place]))
        return entries
