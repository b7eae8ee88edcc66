"""The chart of a sweep as SVG geometry: rows along x, mIoU along y; colours and type are the page's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semiseg.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, tick_step, ticks
from semiseg.studies.result import Result, Section

SPAN = 1.0  # mIoU in per cent


@dataclass(frozen=True)
class Sweep:
    """Of one set of labels: the mean over seeds as a line, each seed as a dot."""

    title: str
    axis: str
    names: list[str]
    """Of the rows, from left to right; they stand evenly, whatever their values."""
    seeds: list[list[float]]
    """mIoU of each row's seeds, per cent; none where its runs are missing."""

    @property
    def alt(self) -> str:
        """The chart in words."""
        known = [f"{name}: {sum(values) / len(values):.2f}" for name, values in self._known()]
        return f"{self.title}, mIoU by {self.axis}: {'; '.join(known)}."

    @property
    def line(self) -> str:
        """Points of the polyline through the means."""
        return " ".join(f"{self.x(name)},{self.y(sum(values) / len(values))}" for name, values in self._known())

    @property
    def dots(self) -> list[tuple[float, float]]:
        """Place of each seed."""
        return [(self.x(name), self.y(value)) for name, values in self._known() for value in values]

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, name) along x."""
        return [(self.x(name), name) for name in self.names]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(place, number) along y."""
        return [(self.y(value), f"{value:.4g}") for value in ticks(*self._limits())]

    def x(self, name: str) -> float:
        """Place of a row, user units."""
        width = (WIDTH - LEFT - RIGHT) / len(self.names)
        return round(LEFT + width * (self.names.index(name) + 0.5), 1)

    def y(self, value: float) -> float:
        """Place of a mIoU, user units."""
        low, high = self._limits()
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def _known(self) -> list[tuple[str, list[float]]]:
        return [(name, values) for name, values in zip(self.names, self.seeds, strict=True) if values]

    def _limits(self) -> tuple[float, float]:
        """On ticks, and at least SPAN apart, so that what differs by nothing looks so."""
        values = [value for several in self.seeds for value in several]
        low, high = min(values), max(max(values), min(values) + SPAN)
        step = tick_step(low, high)
        return step * math.floor(low / step), step * math.ceil(high / step - 1e-9)


def sweep(result: Result, section: Section) -> Sweep | None:
    """The chart of a section of a sweep; None for other tables, and before a run is finished."""
    seeds = [list(row.last.by_seed.values()) for row in section.rows]
    if result.axis is None or not any(seeds):
        return None
    return Sweep(f"{section.name} labels", result.axis, [row.key for row in section.rows], seeds)
