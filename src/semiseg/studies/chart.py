"""The chart of a sweep: rows along x, mIoU along y, a line for each seed and one through their means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from semiseg.report.charts import Chart, Line, tick_step
from semiseg.studies.result import Result, Section

SPAN = 1.0  # mIoU in per cent


@dataclass(frozen=True, kw_only=True)
class Sweep(Chart):
    """Rows stand evenly along x, whatever their values: row number i at i + 0.5 of `steps`."""

    names: list[str]
    means: dict[str, float]
    """Per cent, of the rows that have finished runs."""

    @property
    def alt(self) -> str:
        """The chart in words."""
        return f"{self.title}: {'; '.join(f'{name}: {mean:.2f}' for name, mean in self.means.items())}."

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, name) along x."""
        return [(self.x(place + 0.5), name) for place, name in enumerate(self.names)]


def sweep(result: Result, section: Section) -> Sweep | None:
    """The chart of a section of a sweep; None for other tables, and before a run is finished."""
    scores = [row.last for row in section.rows]
    values = [value for each in scores for value in each.by_seed.values()]
    if result.axis is None or not values:
        return None
    lines = [
        Line(f"seed {seed}", [(at + 0.5, each.by_seed[seed]) for at, each in enumerate(scores) if seed in each.by_seed])
        for seed in (result.seeds if len(result.seeds) > 1 else [])  # one alone is the mean
    ]
    points = [(at + 0.5, each.mean) for at, each in enumerate(scores) if each.mean is not None]
    low, high = min(values), max(max(values), min(values) + SPAN)  # what differs by nothing is to look so
    step = tick_step(low, high)
    return Sweep(
        f"mIoU by {result.axis}, {section.name} labels",
        "%",
        "mIoU after the last step." + (f" {result.warning}." if result.warning else ""),
        [*(line for line in lines if line.points), Line("mean over the seeds", points, hue=1)],
        (step * math.floor(low / step), step * math.ceil(high / step - 1e-9)),
        steps=len(section.rows),
        across=result.axis,
        names=[row.key for row in section.rows],
        means={row.key: fmean(row.last.by_seed.values()) for row in section.rows if row.last.by_seed},
    )
