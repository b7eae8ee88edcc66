"""The order in which a run takes its images: a pure function of (seed, stream), entry by entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b

import numpy as np

from semiseg.data.names import OnDemand

DRAWN = 2**20
"""Up to so many images a pass is drawn whole, once, and kept: 0.1 s and 40 MB, in the training process alone.

Both grow with the count, to ten seconds and gigabytes at 10^8, so the passes of larger sets are `Shuffled`. The bound
lies above the sets that runs were made with before there was another way: their order stays what it was.
"""

_ROUNDS = 6  # four make a pseudo-random permutation of a random function (Luby and Rackoff 1988)


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
        assert count >= 1, "an image set is never empty"
        self.count, self.seed, self.stream = count, seed, stream
        self._epoch = -1
        self._pass: Sequence[int] = ()

    def permutation(self, epoch: int) -> Sequence[int]:
        """Pass `epoch` over the images, a permutation of range(count)."""
        if self.count > DRAWN:
            return Shuffled(self.count, f"{self.seed} {int(self.stream)} {epoch}")
        return np.random.default_rng([self.seed, self.stream, epoch]).permutation(self.count).tolist()

    def batch(self, step: int, size: int) -> list[int]:
        """The indices of `step`: entries step * size to (step + 1) * size of the endless list."""
        return [self._entry(*divmod(place, self.count)) for place in range(step * size, (step + 1) * size)]

    def _entry(self, epoch: int, place: int) -> int:
        if epoch != self._epoch:  # steps go forward: each pass is made once
            self._epoch, self._pass = epoch, self.permutation(epoch)
        return self._pass[place]


class Shuffled(OnDemand[int]):
    """A permutation of range(count), chosen by `key`, of which each entry is computed alone, in constant memory.

    The numbers fill a square row by row, the smallest that holds them. A Feistel network moves a place along its row by
    a hash of its column, then along its column by a hash of its row, and so on: each round can be undone, so that
    together they permute the square. An image that falls outside the count is moved again until it is inside (cycle
    walking; Black and Rogaway 2002), which is a permutation of the count, and seldom: a square of side n holds fewer
    than 2n numbers too many.
    """

    def __init__(self, count: int, key: str) -> None:
        self.total, self.key = count, key
        self.side = math.isqrt(count - 1) + 1

    def __len__(self) -> int:
        return self.total

    def item(self, place: int) -> int:
        place = self._moved(place)
        while place >= self.total:
            place = self._moved(place)
        return place

    def _moved(self, place: int) -> int:
        """Another place of the square, a different one for each."""
        row, column = divmod(place, self.side)
        for number in range(_ROUNDS):
            row, column = column, (row + self._hash(number, column)) % self.side
        return row * self.side + column

    def _hash(self, number: int, half: int) -> int:
        digest = blake2b(f"{self.key} {number} {half}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")
