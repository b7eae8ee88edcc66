"""`semiseg estimate` held against steps that are run here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from semiseg.costs.bench.step import EXTREMES, PRESETS, StepBench, config_for, training_pictures
from semiseg.costs.bench.table import Table
from semiseg.costs.estimate import count_step
from semiseg.costs.speed import measured_speed
from semiseg.runtime.timing import median_seconds, peak_bytes

NOTE = "Ratios are measured over estimated. Memory is all that is held, weights and the optimizer's state included."


def bench_estimate(device: torch.device, repeats: int = 5) -> Iterator[Table]:
    """Seconds and memory of a step, measured and estimated."""
    with training_pictures() as pictures:
        for title, options in PRESETS[device.type].items():
            benches = [StepBench(config_for(method, options, pictures), device) for method in EXTREMES]
            yield Table(f"estimate: {title}", [_row(bench, repeats) for bench in benches], NOTE)


def _row(bench: StepBench, repeats: int) -> dict[str, Any]:
    """The device is measured right beside the step: other work on it slows both."""
    cost = count_step(bench.config, bench.method.student.num_classes)
    estimated = measured_speed(bench.device, bench.config.train.precision).seconds(cost)
    seconds = median_seconds({"step": bench.step}, repeats, bench.device)["step"]
    memory = peak_bytes(bench.step, bench.device) + bench.held()
    return {
        "method": bench.config.method,
        "step s": round(seconds, 4),
        "estimated s": round(estimated, 4),
        "time ratio": round(seconds / estimated, 3),
        "MB": round(memory / 1e6, 1),
        "estimated MB": round(cost.memory / 1e6, 1),
        "memory ratio": round(memory / cost.memory, 3),
    }
