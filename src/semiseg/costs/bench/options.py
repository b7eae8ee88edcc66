"""What options of the loop are worth on this machine: a step under each of them, in turn."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import torch

from semiseg.costs.bench.step import PRESETS, StepBench, config_for, training_pictures
from semiseg.costs.bench.table import Table
from semiseg.runtime.timing import Call, median_seconds, timed
from semiseg.training.compilation import has_compiler

WAYS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "--train.no-channels_last": {"train.channels_last": False},
    "--train.compile": {"train.compile": True},
}
CACHE = "TORCHINDUCTOR_CACHE_DIR"  # where torch keeps what it compiled, in the environment


def bench_options(device: torch.device, repeats: int = 5) -> list[Table]:
    """A step of the prototype method, by option; the first preset alone, for compiling takes a minute."""
    title, options = next(iter(PRESETS[device.type].items()))
    ways = WAYS if has_compiler() else {name: way for name, way in WAYS.items() if not way.get("train.compile")}
    with training_pictures() as pictures, _nothing_compiled_yet():
        steps: dict[str, Call] = {}
        for name, way in ways.items():
            steps[name] = StepBench(config_for("prototype", {**options, **way}, pictures), device).step
        first = {name: timed(steps[name], device) for name, way in ways.items() if way.get("train.compile")}
        seconds = median_seconds(steps, repeats, device)
    shipped = next(iter(seconds.values()))
    rows = []
    for name, spent in seconds.items():
        compiling = round(first[name] - spent, 1) if name in first else 0.0
        ratio = round(spent / shipped, 3)
        rows.append({"step": name, "s": round(spent, 4), "time ratio": ratio, "compiling s": compiling})
    note = "" if ways == WAYS else "There is no C++ compiler here to measure --train.compile with."
    return [Table(f"options, prototype, {title}", rows, note)]


@contextlib.contextmanager
def _nothing_compiled_yet() -> Iterator[None]:
    """torch compiles as on its first day: its cache of earlier runs would make it seem quick."""
    kept = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            os.environ.update({} if kept is None else {CACHE: kept})
