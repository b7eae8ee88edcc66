"""Did the unlabelled images help, how sure is that, and which of the two models is to be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.statistics import Interval, paired_interval
from semiseg.training.reading import read_counts, read_result
from semiseg.training.record import CONFUSIONS, RESULT

FEW = 10  # images from which an interval is little to go by
Model = str
"""`method` or `baseline`."""


@dataclass(frozen=True)
class Scored:
    """The images that one model, or the models of all folds, were scored on, none of which they had learnt."""

    names: tuple[str, ...]
    counts: np.ndarray  # (N, C, C) int64, of the headline at the last step
    by_fold: tuple[float, ...]  # mIoU of each fold, per cent

    @property
    def miou(self) -> float:
        """Over all images together, per cent; NaN where they show no class."""
        return 100 * summed(self.counts).miou()

    @property
    def iou(self) -> list[float]:
        """By class, per cent; NaN for a class that no image shows."""
        return (100 * summed(self.counts).iou()).tolist()


@dataclass(frozen=True)
class Verdict:
    """What came out; `method` is scored always, the rest where a baseline was trained."""

    classes: tuple[str, ...]
    method: Scored
    baseline: Scored | None = None
    interval: Interval | None = None
    unlearnt: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Class -> folds, from 1, in which it was scored and no labelled mask shows it; none: there were no folds."""

    @property
    def chosen(self) -> Model:
        """The one whose model is to be used: the higher score, and of two alike the simpler."""
        if self.baseline is None or self.interval is None:
            return "method"
        return "method" if self.interval.difference > 0 else "baseline"

    @property
    def absent(self) -> list[str]:
        """Classes that no validation image shows: they are in no score."""
        return [name for name, value in zip(self.classes, self.method.iou, strict=True) if math.isnan(value)]


def summed(counts: np.ndarray) -> ConfusionMatrix:
    """Counts (N, C, C) of all images as one matrix."""
    return ConfusionMatrix(counts.sum(0))


def read_scored(runs: Sequence[Path]) -> tuple[tuple[str, ...], Scored]:
    """Classes and scores of finished runs: one, or one of each fold. Raises ValueError for a damaged record."""
    names: list[str] = []
    counts, by_fold, classes = [], [], ()
    for run in runs:
        last = read_result(run / RESULT)["last"]["val"]
        classes = tuple(last[last["headline"]]["iou"])
        found, matrices = read_counts(run / CONFUSIONS, last["headline"], len(classes))
        names += found.tolist()
        counts.append(matrices)
        by_fold.append(100 * summed(matrices).miou())
    return classes, Scored(tuple(names), np.concatenate(counts), tuple(by_fold))


def judge(methods: Sequence[Path], baselines: Sequence[Path] = ()) -> Verdict:
    """The verdict on finished runs, one of each or one of each fold, in the same order.

    Raises ValueError where a record is damaged, or the runs of a pair were scored on different images.
    """
    classes, ours = read_scored(methods)
    if not baselines:
        return Verdict(classes, ours)
    theirs_classes, theirs = read_scored(baselines)
    if ours.names != theirs.names or classes != theirs_classes:
        raise ValueError(
            f"{methods[0].parent}: the two trainings were scored on different images or classes. Restore the folder "
            "from a copy, or train again with another --run"
        )
    return Verdict(classes, ours, theirs, paired_interval(ours.counts[None], theirs.counts[None]))


def as_dict(verdict: Verdict, model: str) -> dict[str, Any]:
    """Every figure, per cent; `model` is the folder of the training whose model is to be used."""
    found = verdict.interval
    judged = {} if found is None else {
        "verdict": found.verdict,
        "difference": 100 * found.difference,
        "interval": [100 * found.low, 100 * found.high],
        "level": 0.95,
    }  # fmt: skip
    sides = {"method": verdict.method, "baseline": verdict.baseline}
    scores = {
        name: {
            "miou": scored.miou,
            "iou": dict(zip(verdict.classes, scored.iou, strict=True)),
            "by_fold": list(scored.by_fold),
        }
        for name, scored in sides.items()
        if scored is not None
    }
    return {
        **judged,
        "chosen": verdict.chosen,
        "model": model,
        "images": list(verdict.method.names),
        "folds": len(verdict.method.by_fold) if len(verdict.method.by_fold) > 1 else 0,
        "absent_classes": verdict.absent,
        "unlearnt_classes": {name: list(folds) for name, folds in verdict.unlearnt.items()},
        **scores,
        "taken": taken(verdict),
        "words": sentences(verdict),
    }


def sentences(verdict: Verdict) -> list[str]:
    """The verdict in plain words: what came out, how sure it is, and which model is to be used."""
    images, folds = len(verdict.method.names), len(verdict.method.by_fold)
    on = f"{images} image{'s' * (images > 1)} that no model had learnt" + (f", in {folds} folds" * (folds > 1))
    absent = verdict.absent
    left_out = [f"No validation image shows {', '.join(absent)}: no score tells of it."] if absent else []
    left_out += unlearnt_in_words(verdict.unlearnt)
    found, theirs = verdict.interval, verdict.baseline
    if found is None or theirs is None:
        return [
            f"mIoU {verdict.method.miou:.1f} on {on}.",
            "Whether the unlabelled images helped is not known: no baseline was trained beside.",
            *left_out,
        ]
    low, high = 100 * found.low, 100 * found.high
    opening = {
        "helped": "The unlabelled images helped",
        "hurt": "The unlabelled images hurt",
        "no reliable difference": "The unlabelled images made no reliable difference",
    }[found.verdict]
    words = [
        f"{opening}: {100 * found.difference:+.1f} mIoU (95 % interval {low:+.1f} to {high:+.1f}), "
        f"{verdict.method.miou:.1f} with them and {theirs.miou:.1f} without, on {on}."
    ]
    if images < FEW:
        words.append(f"{images} images are few: another {images} could tell otherwise.")
    return [*words, taken(verdict), *left_out]


def unlearnt_in_words(unlearnt: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Which scores are of models that never saw the class, a sentence for classes of the same folds."""
    by_folds: dict[tuple[int, ...], list[str]] = {}
    for name, folds in unlearnt.items():
        by_folds.setdefault(folds, []).append(name)
    said = []
    for folds, names in by_folds.items():
        one, its, it = ", ".join(names), *(("its", "it") if len(names) == 1 else ("their", "them"))
        score = f"{its} score{' there' if folds else ''}"
        said.append(
            f"No labelled mask{where(folds)} shows {one}: {score} is of models that never saw {it}, and counts in the "
            "mean."
        )
    return said


def where(folds: Sequence[int]) -> str:
    """` of fold 2`, ` of folds 1, 3`; empty where there are no folds."""
    return f" of fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}" if folds else ""


def taken(verdict: Verdict) -> str:
    """Which model is to be used, and why; empty where there is no choice."""
    found = verdict.interval
    if found is None:
        return ""
    with_them = verdict.chosen == "method"
    which = "The model trained with unlabelled images" if with_them else "The model trained on the masks alone"
    why = "it is the better one" if found.verdict != "no reliable difference" else "its score is the higher one"
    if found.difference == 0:
        why = "the scores are the same, and it is the simpler one"
    return f"{which} is the one to use, and what predict takes: {why}."
