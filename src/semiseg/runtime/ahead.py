"""Work in threads ahead of whoever waits for it, within a budget of memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def usable_cores() -> int:
    """The CPU cores that this process may use: fewer than the machine has, where it is bound to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # only Linux


def spare_threads(most: int = 8) -> int:
    """Threads for reading, or for writing, beside the one that computes."""
    return max(1, min(most, usable_cores() // 2))


def ahead(pool: ThreadPoolExecutor, work: Callable[[Item], Made], items: Iterable[Item], count: int) -> Iterator[Made]:
    """What `work` makes of each item, in order; up to `count` of them are made before they are asked for."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Budget:
    """How much may be held at a time, given out in the order of numbered requests: 0, 1, 2, ...

    What is larger than all of it is given out when nothing else is held.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held, self.turn, self.ended = most, 0, 0, False
        self.changed = threading.Condition()

    def take(self, number: int, amount: int) -> None:
        """Wait for the turn of request `number`, and until `amount` is free."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.ended or (self.turn == number and (not self.held or self.held + amount <= self.most))
            )
            self.held += amount
            self.turn += 1
            self.changed.notify_all()

    def give(self, amount: int) -> None:
        """`amount` is free again."""
        with self.changed:
            self.held -= amount
            self.changed.notify_all()

    def end(self) -> None:
        """Let all that wait go on: nobody will need what they make."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
