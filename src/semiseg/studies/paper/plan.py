"""The plan of a reproduction: its runs, their costs on the device at hand, and what is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from semiseg.costs.speed import Speed, measured_speed
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.provenance import device_name
from semiseg.studies.folders import is_finished, steps_done
from semiseg.studies.paper.costs import cost_of
from semiseg.studies.paper.missing import missing
from semiseg.studies.study import Study

HEAD = ("row", "runs to do", "steps to do", "TFLOP per step", "PFLOP", "hours here", "GB here")

_ROUNDS = 3  # of measuring: a second on a CPU


@dataclass(frozen=True)
class _Line:
    """The runs of one row that are not finished, without the runs that an earlier row has too."""

    title: str
    runs: int
    of: int
    steps: int
    flops: int  # of all steps
    seconds: float
    memory: int  # bytes
    tera: str = ""  # operations of a step

    def words(self) -> tuple[str, ...]:
        """Under HEAD."""
        peta = self.flops / 1e15
        return (
            self.title,
            f"{self.runs} of {self.of}",
            f"{self.steps:,}",
            self.tera,
            f"{peta:,.0f}" if peta >= 100 else f"{peta:.3g}",
            f"{self.seconds / 3600:,.1f}",
            f"{self.memory / 1e9:.1f}",
        )


def plan(made: Study) -> str:
    """The plan as text. Nothing is run, fetched or written."""
    device = pick_device(made.config.train.device)
    precisions = dict.fromkeys(cell.config.train.precision for cell in made.cells)
    speeds = {precision: measured_speed(device, precision, _ROUNDS) for precision in precisions}
    lines = _lines(made, speeds)
    runs, of, steps, flops, seconds = (
        sum(getattr(line, name) for line in lines) for name in ("runs", "of", "steps", "flops", "seconds")
    )
    total = _Line("all, one at a time", runs, of, steps, flops, seconds, max(line.memory for line in lines))
    known = all(cost_of(cell.config)[1] for cell in made.cells)
    counted = "counted beforehand for these very steps" if known else "counted now, where not known beforehand"
    steps_by_labels = {  # of the rows that are not cut short
        labels: max(made.runs[row.key, labels, made.seeds[0]].config.train.steps for row in made.rows)
        for labels in made.labels
    }
    table = [HEAD, *(line.words() for line in [*lines, total])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
    done = sum(is_finished(cell) for cell in made.cells)
    lacking = missing(made)
    return "\n".join(
        [
            made.table.headline or made.table.title,
            *([made.warning] if made.warning else []),
            f"{len(made.cells)} runs in {made.out}, {done} finished: {len(made.rows)} rows x {len(made.labels)} sets "
            f"of labels x {len(made.seeds)} seeds, rows of the same runs once",
            "steps of a run: " + "; ".join(f"{labels}: {most:,}" for labels, most in steps_by_labels.items()),
            "",
            *(form.format(*row).rstrip() for row in table),
            "",
            *_device_words(device, speeds, total.memory),
            f"operations and memory: {counted}, on tensors without values (semiseg estimate)",
            "",
            *(["missing:", *(f"  {words}" for words in lacking)] if lacking else ["nothing is missing"]),
        ]
    )


def _lines(made: Study, speeds: dict[str, Speed]) -> list[_Line]:
    found, seen = [], set()
    for row in made.rows:
        cells = [made.runs[row.key, labels, seed] for labels in made.labels for seed in made.seeds]
        own = list({cell.name: cell for cell in cells if cell.name not in seen}.values())
        seen |= {cell.name for cell in own}
        if not own:
            continue
        left = [cell for cell in own if not is_finished(cell)]
        steps = sum(cell.config.train.steps - steps_done(cell) for cell in left)
        config = own[0].config
        cost, _ = cost_of(config)
        seconds = steps * speeds[config.train.precision].seconds(cost)
        tera = f"{cost.flops / 1e12:.4g}"
        found.append(_Line(row.title, len(left), len(own), steps, steps * cost.flops, seconds, cost.memory, tera))
    return found


def _device_words(device: torch.device, speeds: dict[str, Speed], memory: int) -> list[str]:
    there = _memory(device)
    fits = "" if memory <= there else ": TOO LITTLE for the largest step; --train.accumulate, --network.checkpoint true"
    return [
        f"device here: {device_name(device)}, {there / 1e9:.0f} GB{fits}",
        *(
            f"speed in {precision}, by a moment's measurement of a convolution and an addition: "
            f"{speed.flops / 1e12:.3g} TFLOP/s, {speed.bytes / 1e9:.3g} GB/s"
            for precision, speed in speeds.items()
        ),
        "hours are of training steps with unlabelled images; loading data and evaluations come on top, and a warm-up's "
        "steps take less",
    ]


def _memory(device: torch.device) -> int:
    """Bytes that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
