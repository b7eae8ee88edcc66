"""Line charts as SVG: geometry here, colours and type in the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from semiseg.report.runs import Points, Run, number

WIDTH, HEIGHT = 420, 250  # user units; the page scales them
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 34  # margins, which hold the numbers at the axes
TICKS = 5


@dataclass(frozen=True)
class Line:
    """One line of a chart; `hue` chooses one of the page's colours."""

    name: str
    points: Points
    hue: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over training steps."""

    title: str
    unit: str  # of the y axis
    text: str  # what is to be seen, one sentence
    lines: list[Line]
    limits: tuple[float, float] | None = None  # of y; None: those of the data
    mark: tuple[str, int] | None = None  # a step to be marked by a vertical line, and what happens there
    steps: int = field(default=0, kw_only=True)  # end of the x axis

    @property
    def alt(self) -> str:
        """The chart in words: where each line begins and ends."""
        ends = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in self.lines]
        return f"{self.title} over {self.steps} steps: {'; '.join(ends)}."

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

    def path(self, line: Line) -> str:
        """The points of a polyline."""
        return " ".join(f"{self.x(step)},{self.y(value)}" for step, value in line.points)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, number) along x."""
        return [(self.x(step), f"{step:.0f}") for step in ticks(0, self.steps)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(place, number) along y."""
        return [(self.y(value), f"{value:.4g}") for value in ticks(*self.y_limits)]


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


def charts(runs: list[Run]) -> list[Chart]:
    """Every chart that the records of `runs` have lines for."""
    found = [_miou(runs)]
    for run in runs:
        found += [_losses(run), _pseudo_labels(run), _usage(run), _distance(run)]
    return [chart for chart in found if chart.lines]


def _chart(runs: list[Run], title: str, unit: str, text: str, lines: list[Line], percent: bool = False) -> Chart:
    kept = [line for line in lines if line.points]
    steps = max(run.config.train.steps for run in runs)
    return Chart(title, unit, text, kept, (0, 100) if percent else None, _start(runs), steps=steps)


def _start(runs: list[Run]) -> tuple[str, int] | None:
    """The step at which the last of `runs` begins with its unlabelled images."""
    options = runs[-1].config.method_options
    share = getattr(options, "warmup", 0.0)
    return ("unlabelled images join", round(share * runs[-1].config.train.steps)) if share else None


def _miou(runs: list[Run]) -> Chart:
    lines = []
    for hue, run in enumerate(runs):
        headlines = {entry["headline"] for entry in run.evaluations}
        lines.append(Line(run.label, run.series("evaluation", "miou"), hue))
        second = run.series("evaluation", "prototype", "miou") if "prototype" not in headlines else []
        lines.append(Line(f"{run.label}, by its prototypes", second, hue, dashed=True))
    return _chart(runs, "Validation mIoU", "%", "Scores of the evaluations during training.", lines)


def _losses(run: Run) -> Chart:
    lines = [Line(name.replace("_", " "), run.series("train", name), hue) for hue, name in enumerate(run.losses())]
    return _chart(
        [run],
        f"{run.label}: losses",
        "loss",
        "Means between two lines of the record, weighted as they add up.",
        lines,
    )


def _pseudo_labels(run: Run) -> Chart:
    kept = [(step, 100 * value) for step, value in run.series("train", "kept")]
    lines = [
        Line("kept in training", kept, 0),
        Line("confident on validation images", run.series("evaluation", "pseudo_labels", "share"), 1),
        Line("of these, right", run.series("evaluation", "pseudo_labels", "accuracy"), 2),
    ]
    text = "Pixels whose confidence reaches the threshold. How many are right is known on validation images only."
    return _chart([run], f"{run.label}: pseudo-labels", "%", text, lines, percent=True)


def _usage(run: Run) -> Chart:
    text = "Share of its class's pixels that a prototype gets: the least used, the median and the most used of all."
    lines = _spread(run, "prototype_usage", ("least used", "median", "most used"), 100)
    return _chart([run], f"{run.label}: use of the prototypes", "%", text, lines, percent=True)


def _distance(run: Run) -> Chart:
    text = "1 - cosine of the closest two prototypes of a class; 0 would mean that they collapsed into one."
    lines = _spread(run, "prototype_closest", ("class with the closest", "median class", "class with the widest"), 1)
    return _chart([run], f"{run.label}: closest prototypes", "1 - cosine", text, lines)


def _spread(run: Run, key: str, names: tuple[str, str, str], factor: float) -> list[Line]:
    """Smallest, median and largest of a list of values over the steps."""
    ordered = []
    for step, values in run.series("evaluation", key):
        flat = sorted(factor * value for value in map(number, _flat(values)) if not math.isnan(value))
        ordered += [(step, flat)] if flat else []
    places = (lambda n: 0, lambda n: n // 2, lambda n: n - 1)
    return [
        Line(name, [(step, flat[place(len(flat))]) for step, flat in ordered], hue)
        for hue, (name, place) in enumerate(zip(names, places, strict=True))
    ]


def _flat(values: Any) -> list:
    return [item for value in values for item in (_flat(value) if isinstance(value, list) else [value])]
