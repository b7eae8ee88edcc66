"""Which charts a report has: everything that the records of its runs have numbers for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any

from semiseg.config.methods import UnlabeledOptions
from semiseg.report.charts import Chart, Line
from semiseg.report.runs import Run, number, under

HUES = 6  # colours of the page's style sheet


def charts(runs: list[Run]) -> list[Chart]:
    """Every chart that the records of `runs` have lines for."""
    found = [_miou(shown, _title("Validation mIoU", shown, runs)) for shown in together(runs)]
    if len(runs) > 1:
        found += [_labeled_loss(shown, _title("Loss on labelled images", shown, runs)) for shown in together(runs)]
    for run in runs:
        found += [_losses(run), _gradients(run), _pseudo_labels(run), _hidden(run)]
        found += [_hidden_by_class(run, key) for key in HIDDEN_BY_CLASS]
        found += [_student_and_teacher(run), _labeled_views(run), _feature_norms(run)]
        found += [_usage(run), _closest(run), _distance(run), _drift(run)]
    return [chart for chart in found if chart.lines]


def together(runs: list[Run]) -> list[list[Run]]:
    """The runs whose lines share a chart: all, or of more than there are colours each with the first."""
    return [runs] if len(runs) <= HUES else [[runs[0], run] for run in runs[1:]]


def _title(name: str, shown: list[Run], runs: list[Run]) -> str:
    """The title of a chart that shows some of the runs."""
    return name if shown == runs else f"{shown[-1].label}: {name[:1].lower()}{name[1:]}"


def _chart(runs: list[Run], title: str, unit: str, text: str, lines: list[Line], percent: bool = False) -> Chart:
    """A chart over steps, with a mark where the last of `runs` begins with its unlabelled images."""
    kept = [line for line in lines if len(line.points) > 1]  # a point alone is no curve
    last, steps = runs[-1].config, max(run.config.train.steps for run in runs)
    warmup = last.method_options.warmup if isinstance(last.method_options, UnlabeledOptions) else 0.0
    mark = ("unlabelled images join", round(warmup * last.train.steps)) if warmup else None
    return Chart(title, unit, text, kept, (0, 100) if percent else None, mark, steps=steps)


def _miou(runs: list[Run], title: str) -> Chart:
    lines = []
    for hue, run in enumerate(runs):
        headlines = {entry["headline"] for entry in run.evaluations}
        lines.append(Line(run.label, run.series("evaluation", "miou"), hue))
        second = run.series("evaluation", "prototype", "miou") if "prototype" not in headlines else []
        lines.append(Line(f"{run.label}, by its prototypes", second, hue, dashed=True))
    return _chart(runs, title, "%", "Scores of the evaluations during training.", lines)


def _losses(run: Run) -> Chart:
    lines = [Line(name.replace("_", " "), run.series("train", name), hue) for hue, name in enumerate(run.losses())]
    return _chart(
        [run], f"{run.label}: losses", "loss", "Means between two lines of the record, weighted as they add up.", lines
    )


def _labeled_loss(runs: list[Run], title: str) -> Chart:
    lines = [Line(run.label, run.series("train", "supervised"), hue) for hue, run in enumerate(runs)]
    text = (
        "Mean between two lines of the record, of the student in training. Above the first run at one step: the losses "
        "on unlabelled images keep the student from the labels."
    )
    return _chart(runs, title, "loss", text, lines)


def _gradients(run: Run) -> Chart:
    lines = [
        Line(
            f"{name.replace('_', ' ')}, {role}", run.series("evaluation", "gradients", name, role), hue, role == "head"
        )
        for hue, name in enumerate(run.losses())
        for role in ("encoder", "head")
    ]
    text = "Norm of each weighted loss's gradient in the step before an evaluation; dashed: at the decoder."
    return _chart([run], f"{run.label}: pull of the losses", "gradient norm", text, lines)


def _pair(run: Run, title: str, unit: str, text: str, *keys: str, percent: bool = False) -> Chart:
    """Student and teacher, whose names may be the last key or the middle one."""
    lines = [
        Line(name, run.series("evaluation", *(name if key == "*" else key for key in keys)), hue)
        for hue, name in enumerate(("student", "teacher"))
    ]
    return _chart([run], f"{run.label}: {title}", unit, text, lines, percent)


def _student_and_teacher(run: Run) -> Chart:
    text = "Both networks on the unlabelled images that have masks. A teacher that is no better has nothing to teach."
    return _pair(run, "student and teacher", "mIoU, %", text, "hidden_labels", "miou", "*", percent=True)


def _labeled_views(run: Run) -> Chart:
    text = "On the labelled batch of the step before an evaluation, in eval mode."
    return _pair(run, "loss on labelled images", "loss", text, "labeled_views", "*", "loss")


def _feature_norms(run: Run) -> Chart:
    text = "Mean length of the features that the classifier and the prototypes read, on the same batch."
    return _pair(run, "length of the features", "norm", text, "labeled_views", "*", "feature_norm")


def _pseudo_labels(run: Run) -> Chart:
    kept = [(step, 100 * value) for step, value in run.series("train", "kept")]
    lines = [
        Line("kept in training", kept, 0),
        Line("confident on validation images", run.series("evaluation", "pseudo_labels", "share"), 1),
        Line("of these, right", run.series("evaluation", "pseudo_labels", "accuracy"), 2),
    ]
    text = "Pixels whose confidence reaches the threshold, and how many of them are right on the validation images."
    return _chart([run], f"{run.label}: pseudo-labels", "%", text, lines, percent=True)


def _hidden(run: Run) -> Chart:
    lines = [
        Line("kept", run.series("evaluation", "hidden_labels", "share"), 1),
        Line("of these, right", run.series("evaluation", "hidden_labels", "accuracy"), 2),
    ]
    found = next((entry["hidden_labels"] for entry in run.evaluations if "hidden_labels" in entry), {})
    threshold = found.get("threshold")
    kept = "every pixel is kept" if threshold is None else "pixels are kept whose confidence reaches the threshold"
    text = (
        f"On {found.get('images')} unlabelled images that have masks, which no training saw: {kept}. Before unlabelled "
        "images join, what their labels would be."
    )
    return _chart([run], f"{run.label}: pseudo-labels against hidden labels", "%", text, lines, percent=True)


HIDDEN_BY_CLASS = {
    "precision_by_class": (
        "right pseudo-labels by class",
        "Of the pixels that are given a class, on the same images, how many are of it.",
    ),
    "recall_by_class": (
        "found by the pseudo-labels, by class",
        "Of a class's kept pixels, on the same images, how many are given it. Low: the common classes swallow it.",
    ),
}
"""Key of the record -> title and text."""


def _hidden_by_class(run: Run, key: str) -> Chart:
    """A figure of each class's pseudo-labels, or of many classes the spread."""
    title, text = HIDDEN_BY_CLASS[key]
    where = ("hidden_labels", key)
    lines = [Line(name, run.series("evaluation", *where, name), hue) for hue, name in enumerate(run.iou)]
    if len(lines) > HUES:
        lines = _spread(run, where, ("worst class", "median class", "best class"))
    return _chart([run], f"{run.label}: {title}", "%", text, lines, percent=True)


def _usage(run: Run) -> Chart:
    text = "Share of its class's pixels that a prototype gets: the least used, the median and the most used of all."
    lines = _spread(run, ["prototype_usage"], ("least used", "median", "most used"), 100)
    return _chart([run], f"{run.label}: use of the prototypes", "%", text, lines, percent=True)


def _closest(run: Run) -> Chart:
    text = "1 - cosine of the closest two prototypes of a class; 0 would mean that they collapsed into one."
    lines = _by_class(run, "prototype_closest", ("class with the closest", "median class", "class with the widest"))
    return _chart([run], f"{run.label}: closest prototypes", "1 - cosine", text, lines)


def _distance(run: Run) -> Chart:
    text = "1 - cosine between two prototypes of a class, mean over its pairs."
    lines = _by_class(run, "prototype_distance", ("tightest class", "median class", "widest class"))
    return _chart([run], f"{run.label}: distance of the prototypes", "1 - cosine", text, lines)


def _drift(run: Run) -> Chart:
    text = "1 - cosine between a prototype and its place at the K-means start, mean over its class's."
    lines = _by_class(run, "prototype_drift", ("stillest class", "median class", "most moved class"))
    return _chart([run], f"{run.label}: drift of the prototypes", "1 - cosine", text, lines)


def _by_class(run: Run, key: str, names: tuple[str, str, str]) -> list[Line]:
    """A line for each class, or of many classes the spread; the record holds a list with a value for each."""
    if len(run.iou) > HUES:
        return _spread(run, [key], names)
    series: list[tuple[float, Any]] = [*run.series("evaluation", key)]
    return [
        Line(name, [(step, values[at]) for step, values in series if at < len(values) and values[at] is not None], at)
        for at, name in enumerate(run.iou)
    ]


def reliability(runs: list[Run]) -> list[Chart]:
    """Accuracy by confidence of the last evaluation; none where no run recorded its bins."""
    found = [_reliability(shown, _title("Accuracy by confidence", shown, runs)) for shown in together(runs)]
    return [chart for chart in found if len(chart.lines) > 1]


def _reliability(runs: list[Run], title: str) -> Chart:
    lines = [Line("as sure as right", [(0, 0), (100, 100)], 0, dashed=True)]
    for hue, run in enumerate(runs, 1):
        rows = [row for row in bins(run) if row.pixels]
        total = sum(row.pixels for row in rows)
        name = f"{run.label}, calibration error {number(under(run.last, 'calibration_error')):.1f}"
        sizes = [round(2 + 8 * math.sqrt(row.pixels / total), 1) for row in rows]
        lines += [Line(name, [(row.confidence, row.accuracy) for row in rows], hue, sizes=sizes)] if rows else []
    text = (
        "Pixels of the validation images by their confidence, in 15 bins: how many are right. Large dots hold many "
        "pixels. Below the dashed line the network is surer than it should be. Calibration error: the mean distance "
        "from that line, weighted by pixels."
    )
    return Chart(title, "%", text, lines, (0, 100), steps=100, across="% confidence")


@dataclass(frozen=True)
class Bin:
    """Pixels of one range of confidences; confidence and accuracy in per cent, NaN without a pixel."""

    pixels: int
    confidence: float
    accuracy: float


def bins(run: Run) -> list[Bin]:
    """Bins of the last evaluation; empty for a run that did not record them."""
    found = under(run.last, "calibration") or {"pixels": [], "right": [], "confidence": []}
    return [
        Bin(pixels, number(confidence), 100 * right / pixels if pixels else math.nan)
        for pixels, right, confidence in zip(found["pixels"], found["right"], found["confidence"], strict=True)
    ]


def _spread(run: Run, keys: Sequence[str], names: tuple[str, str, str], factor: float = 1) -> list[Line]:
    """Smallest, median and largest of a list of values over the steps."""
    series = []
    for step, values in run.series("evaluation", *keys):
        known = [factor * value for value in map(number, _flat(values)) if not math.isnan(value)]
        series += [(step, known)] if known else []
    lines = [
        Line(name, [(step, choose(known)) for step, known in series], hue)
        for hue, (name, choose) in enumerate(zip(names, (min, median_high, max), strict=True))
    ]
    return lines if any(len(known) > 2 for _, known in series) else lines[::2]  # two values have no middle one


def _flat(values: Any) -> list:
    values = values.values() if isinstance(values, dict) else values
    return [item for value in values for item in (_flat(value) if isinstance(value, list) else [value])]
