"""The trainings of a plan, and how many steps of them fit into the time; no clock here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semiseg.config.methods import UnlabeledOptions
from semiseg.config.recipe import Config
from semiseg.studies.own.facts import Facts

ENOUGH = 20
"""Masks that validate, below which every mask validates once, in folds."""
FOLDS = (5, 4, 3)
MOST_STEPS = 20_000
SPARE = 0.92  # of the minutes are planned with: other work on the machine, and the report
EVALUATIONS = 3  # on the way, the last step's among them
SAVING, REPORT = 1.5, 5.0  # seconds: of a training's files, and of the page
SCORINGS = EVALUATIONS + 2  # of every validation image: these, and the last and the best checkpoint at the end


@dataclass(frozen=True)
class Speed:
    """Seconds, measured on this machine with these data."""

    supervised: float
    """A step on labelled images."""
    unlabeled: float
    """A step on labelled and unlabelled images."""
    image: float
    """To score an image."""
    start: float
    """From the call to the first step."""


@dataclass(frozen=True)
class Schedule:
    """How long every training is, and what validates."""

    steps: int
    folds: int
    """0: the split's validation images."""
    baseline: bool
    seconds: float | None
    """What it is expected to take; None: it was not measured."""
    reason: str
    short: bool = False
    """Far fewer steps than the recipe has."""


def by_folds(facts: Facts) -> bool:
    """Whether the masks validate in folds: few would validate, and the user did not name them."""
    return len(facts.val) < ENOUGH and not facts.val_named


def schedule(
    config: Config,
    facts: Facts,
    *,
    speed: Speed | None,
    minutes: float,
    spent: float = 0.0,
    baseline: bool,
    steps: int | None = None,
) -> Schedule:
    """Steps and folds for `minutes`, of which so many seconds are `spent`.

    `steps` are given by the user, and need no `speed`.
    """
    seconds = 60 * minutes - spent
    baseline = baseline and config.method != "supervised"
    choices = [k for k in FOLDS if k <= len(facts.masks)] or [len(facts.masks)]
    choices = choices if by_folds(facts) else [0]
    if steps is not None or speed is None:
        count, folds = steps or config.train.steps, choices[-1]
        expected = None if speed is None else duration(config, facts, speed, count, folds, baseline)
        return Schedule(count, folds, baseline, expected, "as asked")

    def fitting(folds: int) -> int:
        fixed, step = (duration(config, facts, speed, count, folds, baseline) for count in (0, 1))
        return min(MOST_STEPS, max(1, int((SPARE * seconds - fixed) / (step - fixed))))

    folds = next((k for k in choices if fitting(k) >= config.train.steps), choices[-1])
    count = fitting(folds)
    expected = duration(config, facts, speed, count, folds, baseline)
    reason, short = f"what {minutes:g} minutes have room for", count < config.train.steps / 2
    if count == MOST_STEPS:
        reason = "more would hardly help"
    elif short:
        needed = spent + duration(config, facts, speed, config.train.steps, folds, baseline) / SPARE
        reason += f", and few; --minutes {math.ceil(needed / 60 + 0.2)} has room for {config.train.steps}"
    return Schedule(count, folds, baseline, expected, reason, short)


def duration(config: Config, facts: Facts, speed: Speed, steps: int, folds: int, baseline: bool) -> float:
    """Seconds of all trainings together, with `steps` each."""
    warmup = config.method_options.warmup if isinstance(config.method_options, UnlabeledOptions) else 1.0
    method = steps * (warmup * speed.supervised + (1 - warmup) * speed.unlabeled)
    one = method + baseline * steps * speed.supervised
    trainings = (1 + baseline) * max(1, folds) + (folds > 0)
    scored = SCORINGS * (1 + baseline) * (len(facts.masks) if folds else len(facts.val)) + 2 * (folds > 0)
    fixed = trainings * (speed.start + SAVING) + scored * speed.image + REPORT
    return max(1, folds) * one + (folds > 0) * method + fixed


def in_words(made: Schedule, config: Config, facts: Facts) -> list[tuple[str, str]]:
    """The plan's last lines: how the verdict comes about, and how long it takes."""
    count, val = len(facts.masks), len(facts.val)
    if made.folds:
        judged = f"{made.folds} folds: each of the {count} masks validates once, as {val} would decide little"
    else:
        few = ", which is few, but they were named" if val < ENOUGH else ""
        judged = f"the {val} masks that no training sees{few}"
    judged += f"; beside {config.method} the masks alone are trained on" if made.baseline else ""
    judged += f"; at the end the better of both on all {count}" if made.folds and made.baseline else ""
    trainings = (1 + made.baseline) * max(1, made.folds) + (made.folds > 0)
    each = f"{trainings} trainings of {made.steps:,} steps" if trainings > 1 else f"{made.steps:,} steps"
    about = "" if made.seconds is None else f", about {minutes_of(made.seconds)}"
    return [("judged by", judged), ("time", f"{each}{about}: {made.reason}")]


def minutes_of(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, or `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
