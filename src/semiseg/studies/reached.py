"""What runs had spent when they first scored as the reference does after its last step."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from semiseg.config.methods.shared import UnlabeledOptions
from semiseg.config.recipe import Config
from semiseg.report.runs import under
from semiseg.studies.result import Reached, Spent

if TYPE_CHECKING:
    from semiseg.studies.table import Outcome

_counted: dict[tuple[str, tuple[str, ...], bool], int | None] = {}


def reached(ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome]) -> Reached | None:
    """What each of `ours` had spent, over the seeds that `theirs`, the reference, has too.

    None where there is no such seed, or a record that does not lead up to the last step.
    """
    by_seed: dict[int, Spent | None] = {}
    for seed in (seed for seed in ours if seed in theirs):
        scores, target = _scores(ours[seed]), _scores(theirs[seed])
        last = theirs[seed].result["last"]["step"]
        if target.get(last) is None or ours[seed].result["last"]["step"] not in scores:
            return None
        steps = [step for step, score in scores.items() if score is not None and score >= target[last]]
        by_seed[seed] = _spent(ours[seed], steps[0]) if steps else None
    if not by_seed:
        return None
    return Reached(by_seed, _mean(by_seed, "seconds"), _mean(by_seed, "operations"))


def _scores(run: Outcome) -> dict[int, Any]:
    """mIoU by step. Of evaluations alone: the final scores may be of more images (`evaluation.images`)."""
    found = [entry for entry in run.entries if entry["kind"] == "evaluation"]
    return {entry["step"]: under(entry, run.predictor, "miou") for entry in found}


def _spent(run: Outcome, step: int) -> Spent:
    """Until the end of `step`, whose line of the record stands before its evaluation."""
    lines = [entry for entry in run.entries if entry["step"] <= step]
    seconds = [entry.get("seconds") for entry in lines if entry["kind"] == "train" and entry["step"] == step]
    retreated = any(entry["kind"] == "retreat" for entry in lines)  # to a step that it did more than once
    return Spent(step, seconds[0] if seconds else None, None if retreated else _operations(run, step))


def _operations(run: Outcome, steps: int) -> int | None:
    """Of the first `steps` on all devices."""
    config, classes = run.cell.config, tuple(run.result.get("classes") or ())
    options = config.method_options
    warm_up = round(options.warmup * config.train.steps) if isinstance(options, UnlabeledOptions) else 0
    parts = {True: min(steps, warm_up), False: max(steps - warm_up, 0)}
    found = [(count, _of_step(config, classes, warm_up)) for warm_up, count in parts.items() if count]
    known = [count * each for count, each in found if each is not None]
    return config.train.devices * sum(known) if classes and len(known) == len(found) else None


def _of_step(config: Config, classes: tuple[str, ...], warm_up: bool) -> int | None:
    """Of one step, counted once for all runs whose steps cost the same; None where it cannot be."""
    from semiseg.costs.estimate import count_step
    from semiseg.studies.paper.costs import key_of

    key = (key_of(config), classes, warm_up)
    if key not in _counted:
        try:
            _counted[key] = count_step(config, classes, warm_up=warm_up).flops
        except Exception:  # a network or a method of one's own may do what needs values; the table goes on without
            _counted[key] = None
    return _counted[key]


def _mean(by_seed: Mapping[int, Spent | None], what: Literal["seconds", "operations"]) -> float | None:
    values = [None if spent is None else getattr(spent, what) for spent in by_seed.values()]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None
