"""Several things measured in one process, side by side: time as a median of interleaved rounds, memory as a peak."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def median_seconds(calls: Mapping[str, Call], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of each call, median over `repeats` rounds of all of them, after one round that does not count.

    The rounds alternate, so that what slows the machine for a while slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            spent = timed(call, device)
            if number:
                seconds[name].append(spent)
    return {name: statistics.median(several) for name, several in seconds.items()}


def timed(call: Call, device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    _wait(device)
    began = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - began


def peak_bytes(call: Call, device: torch.device) -> int:
    """Most bytes of tensors that `call` held at one time, without the tensors that were there before it."""
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own lines would stand between the tables
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    results: Any = seen.profiler.kineto_results  # pyright: ignore[reportOptionalMemberAccess]
    changes = [event for event in results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0))


def process_peak(device: torch.device) -> int | None:
    """Most bytes this process has held so far: of tensors on a GPU, of memory in all on a CPU; None if nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
