"""From the finished runs of a study to its result."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from semiseg.config.recipe import config_to_dict
from semiseg.data.splits import PUBLISHED
from semiseg.evaluation.statistics import paired_interval, spread
from semiseg.report.texts import distinct, merged
from semiseg.studies.folders import is_finished, read_counts, read_entries, read_result
from semiseg.studies.notes import headline, notes
from semiseg.studies.published import Published, meaning, published
from semiseg.studies.reached import reached
from semiseg.studies.result import NOT_YET, Difference, Missing, Result, RowResult, Runs, Scores, Section
from semiseg.studies.study import Cell, Key, Row, Study


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    cell: Cell
    result: dict[str, Any]
    predictor: str  # whose scores these are
    names: np.ndarray  # (N,) of the validation images
    counts: np.ndarray  # (N, C, C) of the predictor, after the last step

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """Its record."""
        return read_entries(self.cell)

    def miou(self, which: str) -> float:
        """The predictor's, per cent, of the `last` or the `best` checkpoint."""
        return self.result[which]["val"][self.predictor]["miou"]


Outcomes = Mapping[Key, Outcome]
BySeed = Mapping[int, Outcome]


def build_result(study: Study, failures: Mapping[str, str], places: int) -> Result:
    """The table of the finished runs. `failures` says why runs failed, by name; `places` how many ran at a time.

    Raises ValueError where finished runs of one set of labels were trained or scored on different images.
    """
    outcomes: dict[Key, Outcome] = {}
    predictors = {row.key: row.predictor for row in study.rows}
    for key, cell in study.runs.items():
        if is_finished(cell):
            result, predictor = read_result(cell), predictors[key[0]]
            if predictor == "headline":
                predictor = result["last"]["val"]["headline"]
            outcomes[key] = Outcome(cell, result, predictor, *read_counts(cell, predictor))
    _check_same_images(list(outcomes.values()))
    results = list({outcome.cell.name: outcome.result for outcome in outcomes.values()}.values())
    config, dates = study.config, [result["date"] for result in results]
    options = {cell.method: config_to_dict(cell.config) for cell in study.cells}
    sections = [_section(study, labels, outcomes, failures) for labels in study.labels]
    return Result(
        table=study.table.name,
        title=study.table.title,
        headline=study.table.headline or headline(study.table, sections),
        warning=study.warning,
        recipe=config.recipe,
        dataset=study.dataset,
        scale=study.scale,
        preset=config.preset,
        steps=config.train.steps,
        batch={"labeled": config.train.batch_labeled, "unlabeled": config.train.batch_unlabeled},
        network=f"{config.network.name}, {config.network.encoder}",
        evaluation=f"{config.evaluation.label}, images at {config.data.scale:g} of their size",
        seeds=list(study.seeds),
        methods=list(dict.fromkeys(row.method for row in study.rows)),
        reference=study.table.reference,
        columns=study.table.columns,
        axis=study.table.axis,
        runs=Runs(len(results), len(study.cells), places),
        labeled=sections,
        differences=list(study.departures),
        notes=notes(study, sections),
        command=study.command,
        config=config_to_dict(config),
        method_options={
            method: each["method"] | {key: value for key, value in each.items() if key == "prototypes"}
            for method, each in options.items()
        },
        versions=distinct(results, "versions"),
        hardware=distinct(results, "hardware"),
        commit=merged(result["commit"] for result in results),
        date={"first": min(dates, default=None), "last": max(dates, default=None)},
    )


def _check_same_images(outcomes: Sequence[Outcome]) -> None:
    """Runs of one set of labels have the same lists, and all runs the same validation images in the same order."""
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


def _section(study: Study, labels: str, outcomes: Outcomes, failures: Mapping[str, str]) -> Section:
    split, beside = study.split(labels), study.published_splits[labels]
    first = next((outcome for key, outcome in outcomes.items() if key[1] == labels), None)
    header = "published"
    if study.warning is not None and beside is not None:  # not of this very setting
        header = f"published ({study.table.paper}, {PUBLISHED[beside].labeled.count} labels)"
    return Section(
        name=labels,
        published_split=split,
        meaning=meaning(split) if split in PUBLISHED else None,
        published_header=header,
        split=None if first is None else first.result["split"],
        rows=[_row(study, row, labels, outcomes, failures) for row in study.rows],
    )


def _row(study: Study, row: Row, labels: str, outcomes: Outcomes, failures: Mapping[str, str]) -> RowResult:
    reference = study.reference(row)
    cells = {seed: study.runs[row.key, labels, seed] for seed in study.seeds}
    ours, theirs = (
        {seed: outcomes[key, labels, seed] for seed in study.seeds if (key, labels, seed) in outcomes}
        for key in (row.key, reference or "")
    )
    runs = list(ours.values())
    both = [seed for seed in ours if seed in theirs]
    iou, reference_iou = (_iou(found[seed] for seed in both) for found in (ours, theirs))
    iou_difference = {name: _less(value, reference_iou[name]) for name, value in iou.items()}
    known, held = (_published(study, key, labels) for key in (row.key, reference))
    costs = {
        key: _mean([run.result[key] for run in runs if run.result[key] is not None])
        for key in ("seconds", "images_per_second", "peak_bytes")
    }
    return RowResult(
        key=row.key,
        title=row.title,
        method=row.method,
        options=dict(row.options),
        predictor=runs[0].predictor if runs else None,
        runs=[cell.name for cell in cells.values()],
        folders={seed: run.cell.name for seed, run in ours.items()},
        steps=cells[study.seeds[0]].config.train.steps,
        last=_scores(ours, "last"),
        best=_scores(ours, "best"),
        iou=_iou(runs),
        reference=reference,
        difference=_difference(ours, theirs, both, study.table.verdicts) if both else None,
        iou_difference=None if reference is None else iou_difference,
        published=known,
        published_difference=_less(known and known.miou, held and held.miou),
        **costs,
        parameters=runs[0].result["parameters"] if runs else None,
        hardware=distinct([run.result for run in runs], "hardware"),
        missing=[
            Missing(seed, cell.name, failures.get(cell.name, NOT_YET))
            for seed, cell in cells.items()
            if seed not in ours
        ],
        reached=reached(ours, ours if reference is None else theirs) if "costs" in study.table.columns else None,
    )


def _published(study: Study, key: str | None, labels: str) -> Published | None:
    """The figure of a row for the published split that stands beside a set of labels."""
    row = next((row for row in study.table.rows if row.key == key), None)
    split = study.published_splits[labels]
    if row is None or split is None:
        return None
    if row.options or row.published:
        return row.published.get(split)
    return published(row.method, split)


def _scores(runs: BySeed, which: str) -> Scores:
    by_seed = {seed: run.miou(which) for seed, run in runs.items()}
    values = list(by_seed.values())
    return Scores(_mean(values), spread(values), by_seed)


def _iou(runs: Iterable[Outcome]) -> dict[str, float | None]:
    """Of each class, mean over the runs whose validation images show it."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.result["last"]["val"][run.predictor]["iou"].items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return {name: _mean(values) for name, values in found.items()}


def _less(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _difference(ours: BySeed, theirs: BySeed, seeds: list[int], verdicts: tuple[str, str]) -> Difference:
    """Ours less theirs, over the `seeds` that both have finished."""
    mine, reference = (np.stack([runs[seed].counts for seed in seeds]) for runs in (ours, theirs))  # (S, N, C, C)
    found = paired_interval(mine, reference)
    words = {"helped": verdicts[0], "hurt": verdicts[1]}
    return Difference(
        miou=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        verdict=words.get(found.verdict, found.verdict),
        seeds=seeds,
        by_seed={seed: ours[seed].miou("last") - theirs[seed].miou("last") for seed in seeds},
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
