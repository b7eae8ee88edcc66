"""The first screen of a page, for a person who has not read the paper: words and figures of an `Answer`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semiseg.config.methods import UnlabeledOptions
from semiseg.report.answer import Answer
from semiseg.report.confusion import headline_counts
from semiseg.report.overlay import background_of
from semiseg.report.runs import Run, read_run
from semiseg.report.texts import figure

GRADES = ((75.0, "found well"), (50.0, "mostly found"), (25.0, "found in part"), (1.0, "hardly found"))
"""IoU from which a class is called so, per cent; below the last it is not found."""
NOT_FOUND, UNSEEN = "not found", "not to be judged"
FEW = 10  # validation pictures below which the figures rest on little
NAMED = 6  # classes that a sentence names


@dataclass(frozen=True)
class Found:
    """How well one class is found."""

    name: str
    words: str  # one of the grades
    iou: float  # per cent; NaN for a class that no validation picture shows
    found: float  # share of its pixels that are found, per cent; NaN where it is not known
    right: float  # share of the pixels that are called so and are, per cent; likewise
    pictures: int | None  # validation pictures that show it; None: not known
    without: float  # IoU of the baseline; NaN without one
    background: bool = False  # whether it is what lies around the objects, of which no sentence speaks


@dataclass(frozen=True)
class Opening:
    """The values of the page's first screen."""

    headline: str
    found: str  # are the objects found, in a sentence
    classes: list[Found]
    scored: str  # on what, in words
    helped: str  # did the unlabelled images help
    sure: str  # how sure is that
    command: str  # the next command, or nothing
    folds: list[list[str]]  # a row for each fold: name, pictures, without, with, difference
    plan: tuple[str, ...]
    compared: bool  # whether there are figures of a baseline


def opening(answer: Answer, runs: Sequence[Run], baselines: Sequence[Run]) -> Opening:
    """Of the `answer` and what was read of its runs."""
    counts = _counts(runs)
    images = None if counts is None else len(counts)
    classes = _classes(runs, baselines, counts)
    bare = background_of([each.name for each in classes], False)
    classes = [replace(each, background=at in bare) for at, each in enumerate(classes)]
    found = sentence(classes)
    helped, sure, command = _help(answer, runs)
    scored = f"{'pictures' if images is None else count_of(images)} that no training saw the masks of"
    if len(runs) > 1:
        scored += f", each by the one of {len(runs)} trainings that had not learnt it"
    if images is not None and images < FEW:
        scored += "; so few say little"
    return Opening(
        headline=helped if answer.verdict is not None else found,
        found=found,
        classes=classes,
        scored=scored,
        helped=helped,
        sure=sure,
        command=command,
        folds=_folds(runs, baselines),
        plan=answer.plan,
        compared=bool(baselines),
    )


def count_of(pictures: int) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{pictures} picture{'s' if pictures != 1 else ''}"


def _counts(runs: Sequence[Run]) -> np.ndarray | None:
    """Counts (N, C, C) of every validation picture of the runs; None where a run has none."""
    found = [headline_counts(run) for run in runs]
    known = [each[1] for each in found if each is not None]
    return np.concatenate(known) if len(known) == len(runs) else None


def _classes(runs: Sequence[Run], baselines: Sequence[Run], counts: np.ndarray | None) -> list[Found]:
    """Of all runs' pictures together or, of one that is not finished, of its last evaluation."""
    names = list(next((run.iou for run in runs if run.iou), {}))
    theirs = _iou(baselines, names)
    if counts is None:
        iou = next((run.iou for run in runs if run.iou), {})
        return [
            Found(name, grade(iou[name]), iou[name], math.nan, math.nan, None, before)
            for name, before in zip(names, theirs, strict=True)
        ]
    total = counts.sum(0, dtype=np.float64)  # (C, C)
    hits, true, said = np.diagonal(total), total.sum(1), total.sum(0)
    shown = (counts.sum(2) > 0).sum(0)  # (C,)
    values = [_share(hits, true), _share(hits, said), _union(hits, true, said)]
    return [
        Found(name, grade(iou), iou, found, right, int(shown[at]), theirs[at])
        for at, (name, found, right, iou) in enumerate(zip(names, *values, strict=True))
    ]


def _iou(runs: Sequence[Run], names: Sequence[str]) -> list[float]:
    """IoU of each class over all pictures of the runs together, per cent; of one unfinished run, of its last scores."""
    counts = _counts(runs) if runs else None
    if counts is None:
        found = runs[0].iou if len(runs) == 1 else {}
        return [found.get(name, math.nan) for name in names]
    total = counts.sum(0, dtype=np.float64)
    return _union(np.diagonal(total), total.sum(1), total.sum(0))


def _share(part: np.ndarray, whole: np.ndarray) -> list[float]:
    return (100 * np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)).tolist()


def _union(hits: np.ndarray, true: np.ndarray, said: np.ndarray) -> list[float]:
    """IoU, per cent; NaN for a class that no mask shows."""
    iou = np.array(_share(hits, true + said - hits))
    return np.where(true > 0, iou, np.nan).tolist()


def grade(iou: float) -> str:
    """An IoU, per cent, in words."""
    if math.isnan(iou):
        return UNSEEN
    return next((words for least, words in GRADES if iou >= least), NOT_FOUND)


def sentence(classes: Sequence[Found]) -> str:
    """Whether the objects are found: how many classes well, and which not."""
    if not classes:
        return "There is no score yet"
    objects = [each for each in classes if not each.background] or list(classes)
    seen = [each for each in objects if each.words != UNSEEN]
    if not seen:
        return "No validation picture shows an object"
    if len(seen) == 1:
        return f"{seen[0].name}: {seen[0].words}, {seen[0].iou:.0f} of 100"
    weak = sorted((each for each in seen if each.iou < GRADES[1][0]), key=lambda each: each.iou)
    if not weak:
        return f"All {len(seen)} classes are found"
    if len(weak) == len(seen):
        return f"No class is mostly found; least of {_names(weak)}"
    return f"{len(seen) - len(weak)} of {len(seen)} classes are found; too little is found of {_names(weak)}"


def _names(classes: Sequence[Found]) -> str:
    named = [each.name for each in classes[:NAMED]]
    more = len(classes) - len(named)
    last = f"{more} more" if more else named.pop() if len(named) > 1 else ""
    return ", ".join(named) + (f" and {last}" if last else "")


def _help(answer: Answer, runs: Sequence[Run]) -> tuple[str, str, str]:
    """Did the unlabelled images help, how sure is that, and the next command."""
    verdict, command = answer.verdict, answer.command
    if verdict is not None:
        words = {
            "helped": "The unlabelled pictures helped",
            "hurt": "The unlabelled pictures hurt",
            "no reliable difference": "The unlabelled pictures made no reliable difference",
        }.get(verdict.words, verdict.words)
        low, high = f"{verdict.low:+.1f}", f"{verdict.high:+.1f}"
        between = f"; with other pictures drawn it lies between {low} and {high}, 95 times of 100"
        known = math.isfinite(verdict.low) and math.isfinite(verdict.high)
        few = "So few pictures decide little. " if verdict.images < FEW else ""
        difference = f"{verdict.difference:+.1f} points of mIoU over {count_of(verdict.images)}"
        sure = f"The difference is {difference}{between if known else ''}. {few}{verdict.taken}"
        return words, sure.strip(), command
    run = runs[-1]
    if not any(isinstance(each.config.method_options, UnlabeledOptions) for each in runs):
        return (
            "This run learnt from the pictures with masks alone",
            "So there is nothing to say of the others.",
            command,
        )
    baseline = run.folder.with_name(f"{run.folder.name}-supervised")
    words = "This page cannot say: no training without the unlabelled pictures stands beside this one"
    train = f"semiseg train {_quoted(run.folder / 'config.yaml')} --method supervised --run {_quoted(baseline)}"
    sure = "Train one, and hold this run against it:"
    return words, sure, command or f"{train}\nsemiseg report {_quoted(baseline)} {_quoted(run.folder)}"


def _quoted(path: object) -> str:
    return shlex.quote(str(path))


def _folds(runs: Sequence[Run], baselines: Sequence[Run]) -> list[list[str]]:
    """A row for each of several folds: name, pictures, mIoU without and with unlabelled images, and the difference."""
    if len(runs) < 2:
        return []
    rows = []
    for number, run in enumerate(runs, 1):
        counts = headline_counts(run)
        pictures = "–" if counts is None else str(len(counts[0]))
        theirs = baselines[number - 1].miou if len(baselines) == len(runs) else math.nan
        rows.append([f"fold {number}", pictures, figure(theirs), figure(run.miou), figure(run.miou - theirs, "+.1f")])
    return rows


def closing(folder: Path) -> list[str]:
    """The last words of a finished training: whether the objects are found, and the next command."""
    run = read_run(folder)
    found = sentence(opening(Answer("", (folder,)), [run], []).classes)
    words = f"{found[:1].upper()}{found[1:]} (found: an IoU of 50 or more)"
    return [words, f"Next: semiseg predict {_quoted(folder)} PICTURES --out FOLDER"]
