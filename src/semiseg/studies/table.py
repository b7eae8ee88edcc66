"""What the finished runs of a comparison say, as one document of plain types: the source of all its views."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semiseg.config.recipe import config_to_dict
from semiseg.data.splits import PUBLISHED
from semiseg.studies.folders import is_finished, read_counts, read_result
from semiseg.studies.grid import REFERENCE, Cell, Grid
from semiseg.studies.published import is_blender, meaning, published
from semiseg.studies.statistics import DRAWS, HELD, paired_interval, spread

Document = dict[str, Any]

NOT_YET = "not finished yet"
"""Why a run is missing that did not fail."""

_ENDS = {"first": min, "last": max}


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    cell: Cell
    result: dict[str, Any]
    predictor: str  # whose scores these are
    names: np.ndarray  # (N,) of the validation images
    counts: np.ndarray  # (N, C, C) of the predictor, after the last step

    def miou(self, which: str) -> float:
        """The predictor's, per cent, of the `last` or the `best` checkpoint."""
        return self.result[which]["val"][self.predictor]["miou"]

    @property
    def iou(self) -> dict[str, float | None]:
        """The predictor's by class after the last step, per cent."""
        return self.result["last"]["val"][self.predictor]["iou"]


def build_document(grid: Grid, failures: Mapping[str, str], places: int) -> Document:
    """The table of what is finished. `failures` says why runs failed, by name; `places` how many ran at a time.

    Raises ValueError where finished runs of one set of labels were trained or scored on different images.
    """
    found = [read_outcome(cell) for cell in grid.cells if is_finished(cell)]
    check_same_images(found)
    config, results = grid.config, [outcome.result for outcome in found]
    return {
        "recipe": grid.recipe,
        "preset": config.preset,
        "steps": config.train.steps,
        "batch": {"labeled": config.train.batch_labeled, "unlabeled": config.train.batch_unlabeled},
        "network": f"{config.network.name}, {config.network.encoder}",
        "evaluation": config.evaluation.label,
        "scale": config.data.scale,
        "seeds": list(grid.seeds),
        "methods": list(grid.methods),
        "reference": REFERENCE,
        "runs": {"finished": len(found), "of": len(grid.cells), "at_a_time": places},
        "labeled": [_section(grid, labels, found, failures) for labels in grid.labels],
        "notes": _notes(grid, found),
        "command": grid.command,
        "config": config_to_dict(config),
        "method_options": {cell.method: config_to_dict(cell.config)["method"] for cell in grid.cells},
        "versions": distinct(results, "versions"),
        "hardware": distinct(results, "hardware"),
        "commit": merged(result["commit"] for result in results),
        "date": {name: pick((r["date"] for r in results), default=None) for name, pick in _ENDS.items()},
    }


def read_outcome(cell: Cell, predictor: str | None = None) -> Outcome:
    """A finished run by one of its predictors; None: its headline."""
    result = read_result(cell)
    chosen = predictor or result["last"]["val"]["headline"]
    return Outcome(cell, result, chosen, *read_counts(cell, chosen))


def check_same_images(outcomes: Sequence[Outcome]) -> None:
    """Runs of one set of labels have the same lists, and all runs the same validation images in the same order.

    Raises ValueError where they do not.
    """
    firsts: dict[str, Outcome] = {}
    for outcome in outcomes:
        first = firsts.setdefault(outcome.cell.labels, outcome)
        ours, theirs = outcome.result["split"], first.result["split"]
        other = [name for name in theirs if name in ours and ours[name]["sha256"] != theirs[name]["sha256"]]
        if other or outcome.names.tolist() != outcomes[0].names.tolist():
            raise ValueError(
                f"{outcome.cell.config.run_folder} was trained or scored on other images than "
                f"{first.cell.config.run_folder}: {', '.join(other) or 'val'}. Delete one of them, and compare again"
            )


# One set of labels ----------------------------------------------------------------------------------------------------


def _section(grid: Grid, labels: str, outcomes: Sequence[Outcome], failures: Mapping[str, str]) -> Document:
    """The rows of one set of labels."""
    own = [outcome for outcome in outcomes if outcome.cell.labels == labels]
    split = next(cell.config.data.split for cell in grid.cells if cell.labels == labels)
    by_method = {method: {o.cell.seed: o for o in own if o.cell.method == method} for method in grid.methods}
    missing = {
        method: [
            {"seed": cell.seed, "why": failures.get(cell.name, NOT_YET)}
            for cell in grid.cells
            if (cell.labels, cell.method) == (labels, method) and cell.seed not in by_method[method]
        ]
        for method in grid.methods
    }
    return {
        "name": labels,
        "published_split": split,
        "meaning": meaning(split) if split in PUBLISHED else None,
        "split": own[0].result["split"] if own else None,
        "rows": [
            {**_row(method, by_method[method], by_method[REFERENCE], split), "missing": missing[method]}
            for method in grid.methods
        ],
    }


def _row(method: str, ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome], split: str | None) -> Document:
    runs = list(ours.values())
    known = published(method, split)
    row: Document = {
        "method": method,
        "predictor": runs[0].predictor if runs else None,
        "last": scores_of(ours, "last"),
        "best": scores_of(ours, "best"),
        "iou": _iou(runs),
        "iou_difference": None if method == REFERENCE else _iou_difference(ours, theirs),
        "folders": {str(seed): run.cell.name for seed, run in ours.items()},
        "difference": None if method == REFERENCE else difference_of(ours, theirs),
        "published": None if known is None else {"miou": known.miou, "source": known.source},
    }
    for key in ("seconds", "images_per_second", "peak_bytes"):
        row[key] = mean_of([run.result[key] for run in runs if run.result[key] is not None])
    row["parameters"] = runs[0].result["parameters"] if runs else None
    row["hardware"] = distinct([run.result for run in runs], "hardware")
    return row


def scores_of(runs: Mapping[int, Outcome], which: str) -> Document:
    """mIoU of the `last` or `best` checkpoint: mean and standard deviation over seeds, and each seed's."""
    values = [run.miou(which) for run in runs.values()]
    by_seed = {str(seed): run.miou(which) for seed, run in runs.items()}
    return {"mean": mean_of(values), "deviation": spread(values), "by_seed": by_seed}


def _iou(runs: Iterable[Outcome]) -> dict[str, float | None]:
    """Of each class after the last step, per cent, mean over the runs in which it was shown or predicted."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.iou.items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return {name: mean_of(values) for name, values in found.items()}


def _iou_difference(ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome]) -> dict[str, float | None]:
    """Ours less theirs, of each class, over the seeds that both have finished."""
    seeds = [seed for seed in ours if seed in theirs]
    mine, reference = (_iou(runs[seed] for seed in seeds) for runs in (ours, theirs))
    return {name: _less(value, reference[name]) for name, value in mine.items()}


def _less(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def difference_of(ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome]) -> Document | None:
    """To the reference, over the seeds that both have finished; mIoU in per cent."""
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    mine, reference = (np.stack([runs[seed].counts for seed in seeds]) for runs in (ours, theirs))  # (S, N, C, C)
    found = paired_interval(mine, reference)
    return {
        "miou": 100 * found.difference,
        "low": 100 * found.low,
        "high": 100 * found.high,
        "verdict": found.verdict,
        "seeds": seeds,
        "by_seed": {str(seed): ours[seed].miou("last") - theirs[seed].miou("last") for seed in seeds},
    }


# What is said beside the rows -----------------------------------------------------------------------------------------


def _notes(grid: Grid, outcomes: Sequence[Outcome]) -> list[str]:
    """How to read the table."""
    splits = {cell.config.data.split for cell in grid.cells}
    blenders = {is_blender(split) for split in splits if split is not None} - {None}
    known = any(published(method, split) for method in grid.methods for split in splits)
    said = {
        _SCORES: True,
        _SAME: True,
        f"{REFERENCE} was added: it is what the others are held against.": grid.reference_added,
        how_sure(len(grid.seeds)): True,
        _BLENDERS: len(blenders) > 1,
        _PUBLISHED: known,
        _COSTS: bool(outcomes),
    }
    return [note for note, holds in said.items() if holds]


_SCORES = (
    "mIoU in per cent of the headline predictor on the validation images. Last: after the last step, which no score "
    "chose. Best: of the evaluation with the highest score on these same images, so it flatters."
)
_SAME = "Every method had the same network, schedule, steps and evaluation and, for a seed, the same labelled batches."
_BLENDERS = (
    "This table holds both meanings of `blender`, that of U2PL's lists and that of CPS's, ST++'s and UniMatch's. Their "
    "rows do not compare, even where the number of labels is the same."
)
_PUBLISHED = (
    "Published: what the source says of this method and split, with its own code, network and steps, of its best epoch "
    "on the validation images; on ResNet-101 unless the source says otherwise."
)
_COSTS = (
    "Seconds are of training with its evaluations, images/s of training alone (labelled and unlabelled images), memory "
    "is the most a run held; means over seeds. Parameters: trained / in the predictor that is scored."
)


def how_sure(seeds: int, reference: str = REFERENCE, verdicts: str = "Helped or hurt") -> str:
    """What the differences to `reference`, their intervals and verdicts mean with so many seeds."""
    drawn = "images and the seeds" if seeds > 1 else "images"
    words = (
        f"Difference: to {reference}, last against last, with a 95 % interval from {DRAWS:,} draws of the validation "
        f"{drawn} with replacement, the same draws for both (paired bootstrap). {verdicts}: the interval lies "
        "wholly above or below 0."
    )
    if seeds == 1:
        return f"{words} There is one seed: the interval is over images alone, and another seed may lie outside of it."
    held = HELD[max(known for known in HELD if known <= seeds)]
    return (
        f"{words} With {seeds} seeds it is too narrow where seeds decide more than images do: in the worst case it "
        f"holds the truth in about {held} of 100 cases, not in 95."
    )


def mean_of(values: Sequence[float]) -> float | None:
    """None without any."""
    return statistics.fmean(values) if values else None


def distinct(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, str | None]:
    """Each thing that the runs' results say under `key`, all of it where they differ."""
    names = dict.fromkeys(name for result in results for name in result[key])
    return {name: merged(result[key].get(name) for result in results) for name in names}


def merged(values: Iterable[Any]) -> str | None:
    """Each of the values once; None without any."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or None
