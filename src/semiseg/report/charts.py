"""Line charts as SVG: geometry here, colours and type in the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from semiseg.report.runs import Points

WIDTH, HEIGHT = 420, 250  # user units; the page scales them
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 34  # margins, which hold the numbers at the axes
TICKS = 5
DOTTED = 12  # a line of at most so many points has a dot at each
MOST_POINTS = 300  # of a line as it is drawn: about what a screen can show, and a page must stay small


@dataclass(frozen=True)
class Line:
    """One line of a chart; `hue` chooses one of the page's colours."""

    name: str
    points: Points
    hue: int = 0
    dashed: bool = False
    sizes: list[float] | None = None  # radius of a dot at each point, user units; None: dots where points are few

    @property
    def smooth(self) -> Points:
        """`smoothed`; empty for a line of so few points that there is nothing to smooth."""
        return smoothed(self.points)

    @property
    def dots(self) -> list[tuple[float, float, float]]:
        """(x, y, radius) of the points that are marked."""
        sizes = self.sizes or [3.0 if len(self.points) > 1 else 3.5] * len(self.points)
        few = self.sizes is not None or (len(self.points) <= DOTTED and not self.dashed) or len(self.points) == 1
        return [(*point, size) for point, size in zip(self.points, sizes, strict=True)] if few else []


@dataclass(frozen=True)
class Chart:
    """Lines over training steps."""

    title: str
    unit: str  # of the y axis
    text: str  # what is to be seen, one sentence
    lines: list[Line]
    limits: tuple[float, float] | None = None  # of y; None: the data's
    mark: tuple[str, int] | None = None  # a step to be marked by a vertical line, and what happens there
    steps: int = field(default=0, kw_only=True)  # end of the x axis
    across: str = field(default="steps", kw_only=True)  # what is along x

    @property
    def alt(self) -> str:
        """The chart in words: where each line begins and ends."""
        ends = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in self.lines]
        return f"{self.title} over {self.steps} {self.across}: {'; '.join(ends)}."

    @property
    def y_limits(self) -> tuple[float, float]:
        """Lowest and highest y, on ticks."""
        if self.limits is not None:
            return self.limits
        values = [value for line in self.lines for _, value in line.points]
        step = tick_step(min(values), max(values))
        return step * math.floor(min(values) / step), step * math.ceil(max(values) / step + 1e-9)

    def x(self, step: float) -> float:
        """Place of a step, user units."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / max(self.steps, 1), 1)

    def y(self, value: float) -> float:
        """Place of a value, user units."""
        low, high = self.y_limits
        share = (value - low) / ((high - low) or 1.0)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0), 1)

    def path(self, points: Points) -> str:
        """The points of a polyline."""
        return " ".join(f"{self.x(step)},{self.y(value)}" for step, value in thinned(points))

    @property
    def smoothing(self) -> str:
        """How its lines were smoothed, in words; empty where none was."""
        reaches = sorted({reach(len(line.points)) for line in self.lines} - {0})
        if not reaches:
            return ""
        several = " to ".join(str(2 * each + 1) for each in dict.fromkeys((reaches[0], reaches[-1])))
        return f"Strong lines are means of {several} neighbouring values, fewer at the ends; faint ones the values."

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, number) along x."""
        return [(self.x(step), f"{step:.0f}") for step in ticks(0, self.steps)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(place, number) along y."""
        return [(self.y(value), f"{value:.4g}") for value in ticks(*self.y_limits)]


def reach(count: int) -> int:
    """Neighbours on either side over which a line of `count` points is averaged: about a twentieth, 0 below 20."""
    return count // 20


def smoothed(points: Points) -> Points:
    """Each value's mean with `reach` neighbours on either side; near an end with as many as both sides have.

    So a straight line stays straight, and the first and last values are as recorded. Empty where `reach` is 0.
    """
    count, found = len(points), []
    for at, (step, _) in enumerate(points if reach(count) else []):
        near = min(reach(count), at, count - 1 - at)
        values = [value for _, value in points[at - near : at + near + 1]]
        found.append((step, sum(values) / len(values)))
    return found


def thinned(points: Points) -> Points:
    """Every so many-th point, that at most MOST_POINTS and the last one are left."""
    every = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:every], *points[-1:]]


def tick_step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten, so that about TICKS steps span the range."""
    rough = max(high - low, 1e-3) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`."""
    step = tick_step(low, high)
    first = math.ceil(low / step - 1e-6)
    return [step * at for at in range(first, math.floor(high / step + 1e-6) + 1)]
