"""Memory of loading processes while they read from a great many images."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal

from semiseg.data.dataset import ImageSet

WORKERS = 2
NAMES, PICTURES = 200_000, 2000  # read by each, at random
PATIENCE = 300  # seconds until they must have told
MEMORY = Path("/proc/self/smaps_rollup")  # Linux tells it, others do not


@dataclass(frozen=True)
class Growth:
    """Growth of one process's memory, MB: after reading minus before."""

    uss: float  # what it holds alone
    written: float  # of that, what it wrote
    pss: float  # with its share of what it holds together with others


def worker_growth(images: ImageSet, start: Literal["fork", "spawn"] = "fork") -> list[Growth]:
    """Of each of WORKERS processes, started as a loader's are, that read names and pictures at random.

    Needs MEMORY. Raises queue.Empty where they have not told within PATIENCE.
    """
    context: Any = multiprocessing.get_context(start)  # Any: the common class has no annotated Process
    found, together = context.Queue(), context.Barrier(WORKERS)
    arguments = [(images, seed, together, found) for seed in range(WORKERS)]
    children = [context.Process(target=_read, args=own, daemon=True) for own in arguments]
    for child in children:
        child.start()
    growth = [found.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    return growth


def _read(images: ImageSet, seed: int, together: Barrier, found: Queue[Growth]) -> None:
    rng = random.Random(seed)
    images.image(0)
    together.wait()  # what one process alone still holds counts for it alone
    before = _memory()
    for number in range(NAMES):
        place = rng.randrange(len(images))
        assert images.names[place]
        if number % (NAMES // PICTURES) == 0:
            images.image(place)
    together.wait()
    after = _memory()
    together.wait()
    grown = {key: (after[key] - before[key]) * 1024 / 1e6 for key in after}
    found.put(Growth(grown["Private_Clean"] + grown["Private_Dirty"], grown["Private_Dirty"], grown["Pss"]))


def _memory() -> dict[str, int]:
    """Of this process, in kB of 1024 bytes, by the kernel's names."""
    lines = MEMORY.read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}
