"""Learning curves class by class, as one SVG: python benchmarks/curves.py OUT.svg WHAT runs/camvid-46-*

Folders of runs are named DATA-LABELS-KIND-SEED; a kind has a colour. WHAT is `iou`: IoU of every class on the
validation images, a line per seed; or `pseudo-labels`: for the methods that make them, of each class's pixels on these
images whose confidence reaches the threshold, how many the teacher names rightly (solid), and of the pixels it names
so, how many are of that class (dashed). With --depth N an axis ends N points below the panel's best value; what is
lower runs along its foot.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from xml.sax.saxutils import escape

from semiseg.report.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line
from semiseg.report.runs import Points, Run, read_runs

COLUMNS = 4
TITLE = 26  # units above a panel, and below the last row for the legend
COLORS = {
    "supervised": "#57606a",
    "cutmix": "#0969da",
    "prototype": "#cf222e",
    "mean_teacher": "#1a7f37",
    "momentum-0.99": "#bf8700",
    "linear-only": "#8250df",
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #57606a; } .title { font-size: 15px; font-weight: 600; fill: #1f2328; }
.axis { stroke: #d0d7de; } .mark { stroke: #57606a; stroke-dasharray: 2 4; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 6 5; }
"""


def kind(run: Run) -> str:
    """The method, or what was changed in it: from the folder's name."""
    return run.folder.name.split("-", 2)[2].rsplit("-", 1)[0]


def iou(run: Run, name: str) -> list[Line]:
    """The headline's IoU of a class."""
    points: Points = []
    for entry in run.evaluations:
        value = entry["miou"] if name == "mIoU" else entry[entry["headline"]]["iou"][name]
        if value is not None:  # a class that the images do not show has no IoU
            points.append((entry["step"], value))
    return [Line(kind(run), points)]


def pseudo_labels(run: Run, name: str) -> list[Line]:
    """Recall and precision of the confident pixels of a class; for `mIoU` the accuracy of all classes together."""
    keys = [("accuracy",)] if name == "mIoU" else [("recall_by_class", name), ("precision_by_class", name)]
    found = [run.series("evaluation", "pseudo_labels", *key) for key in keys]
    return [Line(kind(run), points, dashed=at == 1) for at, points in enumerate(found) if points]


WHAT = {"iou": (iou, "mIoU"), "pseudo-labels": (pseudo_labels, "all classes: share that is right")}


def panel(chart: Chart) -> list[str]:
    """One chart; its origin is its upper left corner."""
    parts = [f'<text class="title" x="{LEFT}" y="0">{escape(chart.title)}</text>']
    for place, number in chart.y_ticks:
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4}" text-anchor="end">{number}</text>')
    for place, number in chart.x_ticks:
        parts.append(f'<text x="{place}" y="{HEIGHT - 16}" text-anchor="middle">{number}</text>')
    if chart.mark is not None:
        at = chart.x(chart.mark[1])
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - 34}"/>')
    for line in chart.lines:
        dashed = ' class="dashed"' if line.dashed else ""
        parts.append(f'<polyline{dashed} stroke="{COLORS[line.name]}" points="{chart.path(line.points)}"/>')
    return parts


def limits(lines: list[Line], depth: float | None) -> tuple[float, float] | None:
    """The range of y: that of the data (None), or only so far below their highest value."""
    values = [value for line in lines for _, value in line.points]
    if max(values) < 1:  # as good as never found: no axis for the rest of nothing
        return 0, 1
    if depth is None or min(values) >= max(values) - depth:
        return None
    return math.floor(max(values) - depth), math.ceil(max(values))


def figure(runs: list[Run], what: str, depth: float | None = None) -> str:
    """All panels, the mean first, and the legend."""
    lines_of, mean = WHAT[what]
    runs = [run for run in runs if lines_of(run, "mIoU")]
    steps = max(run.config.train.steps for run in runs)
    warmup = max(getattr(run.config.method_options, "warmup", 0.0) for run in runs)
    parts = []
    names = ["mIoU", *runs[0].iou]
    for at, name in enumerate(names):
        lines = [line for run in runs for line in lines_of(run, name) if line.points]
        mark = ("unlabelled images join", round(warmup * steps)) if warmup else None
        chart = Chart(mean if name == "mIoU" else name, "%", "", lines, limits(lines, depth), mark, steps=steps)
        x, y = at % COLUMNS * WIDTH, at // COLUMNS * (HEIGHT + TITLE) + TITLE
        parts += [f'<g transform="translate({x} {y})">', *panel(chart), "</g>"]
    width, height = COLUMNS * WIDTH, -(-len(names) // COLUMNS) * (HEIGHT + TITLE) + 2 * TITLE
    parts += legend(sorted({kind(run) for run in runs}), height - TITLE, bool(warmup))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def legend(kinds: list[str], y: int, marked: bool) -> list[str]:
    """Which colour is which kind of run."""
    parts = []
    for at, name in enumerate(kinds):
        x = LEFT + 160 * at
        parts.append(f'<polyline stroke="{COLORS[name]}" points="{x},{y - 5} {x + 30},{y - 5}"/>')
        parts.append(f'<text x="{x + 38}" y="{y}">{name}</text>')
    if marked:
        x = LEFT + 160 * len(kinds)
        parts.append(f'<line class="mark" x1="{x}" x2="{x + 30}" y1="{y - 5}" y2="{y - 5}"/>')
        parts.append(f'<text x="{x + 38}" y="{y}">unlabelled images join; steps along x, per cent along y</text>')
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--depth", type=float, help="points below the best value at which an axis ends")
    given = parser.parse_args()
    given.out.write_text(figure(read_runs(given.runs), given.what, given.depth), encoding="utf-8")


if __name__ == "__main__":
    main()
