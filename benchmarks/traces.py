"""Whether two runs of one seed lost alike: the largest relative difference of each loss over all common steps.

python benchmarks/traces.py RUN OTHER        both trained with --train.log_every 1
"""

from __future__ import annotations

import sys
from math import isnan, nan
from pathlib import Path

from semiseg.record import read_record


def trace(run: Path) -> dict[int, dict[str, float]]:
    """The losses of each step, from the run's metrics.jsonl."""
    lines = [line for line in read_record(run / "metrics.jsonl") if line["kind"] == "train"]
    return {
        line["step"]: {k: v for k, v in line.items() if k not in ("kind", "step", "lr", "seconds")} for line in lines
    }


def compare(run: Path, other: Path) -> None:
    """Print a line for each loss and share."""
    ours, theirs = trace(run), trace(other)
    steps = sorted(ours.keys() & theirs.keys())
    if not steps:
        sys.exit("the runs have no step in common: train both with --train.log_every 1")
    print(f"{len(steps)} common steps, {steps[0]} to {steps[-1]}")
    for name in sorted({name for step in steps for name in ours[step].keys() | theirs[step].keys()}):
        pairs = [(step, ours[step].get(name, nan), theirs[step].get(name, nan)) for step in steps]
        if any(isnan(a) != isnan(b) for _, a, b in pairs):
            print(f"{name}: at some steps in one of the runs only")
            continue
        pairs = [pair for pair in pairs if not isnan(pair[1])]  # a loss on unlabelled images is not there from step 1
        apart = {step: abs(a - b) / max(abs(b), 1e-12) for step, a, b in pairs if a != b}
        if not apart:
            print(f"{name}: equal, every digit")
            continue
        step, worst = max(apart.items(), key=lambda found: found[1])
        print(f"{name}: apart from step {min(apart)} on by {apart[min(apart)]:.1e}, most by {worst:.1e} at step {step}")


if __name__ == "__main__":
    compare(*map(Path, sys.argv[1:]))
