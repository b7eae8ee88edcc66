"""Names of very many images in two arrays.

A list of a million strings is a million objects. Reading one writes its reference count, so that a forked worker gets
its own copy of the page, in the end of every page: some hundred MB per worker. An array is read without being written,
and is handed as a tensor to workers that are not forked, which torch does through shared memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item", covariant=True)

_AT_ONCE = 100_000  # names decoded in one go while iterating


class OnDemand(Sequence[Item]):
    """A sequence that makes an item when it is asked for, and keeps none."""

    @abstractmethod
    def item(self, place: int) -> Item:
        """Item `place`, 0 <= place < len(self)."""

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        chosen = range(len(self))[place]
        return self.item(chosen) if isinstance(chosen, int) else [self.item(each) for each in chosen]


class Names(OnDemand[str]):
    """Names in UTF-8, one after the other, each followed by a NUL, which no name of a file has."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.integer]) -> None:
        self._text = text  # (bytes,)
        self._ends = ends  # (names,), where the NULs are
        self._shared: tuple[Tensor, Tensor] | None = None  # the same, once a worker was given them

    def __getstate__(self) -> tuple[Tensor, Tensor]:
        import torch  # whoever only opens a dataset does without

        if self._shared is None:
            self._shared = torch.from_numpy(self._text), torch.from_numpy(self._ends)
        return self._shared

    def __setstate__(self, shared: tuple[Tensor, Tensor]) -> None:
        self._shared = shared
        self._text, self._ends = (tensor.numpy() for tensor in shared)

    @classmethod
    def pack(cls, names: Iterable[str]) -> Names:
        """The same names in as few bytes."""
        text = np.array(bytearray("\0".join([*names, ""]).encode(errors="surrogateescape")), np.uint8)
        ends = np.flatnonzero(text == 0)
        return cls(text, ends.astype(np.int32) if len(text) < 2**31 else ends)

    def __len__(self) -> int:
        return len(self._ends)

    def item(self, place: int) -> str:
        return self._decoded(place, place + 1)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self._decoded(first, min(first + _AT_ONCE, len(self))).split("\0")

    def _decoded(self, first: int, stop: int) -> str:
        """Names first, ..., stop - 1, with NULs between them."""
        start = int(self._ends[first - 1]) + 1 if first else 0
        return self._text[start : int(self._ends[stop - 1])].tobytes().decode(errors="surrogateescape")
