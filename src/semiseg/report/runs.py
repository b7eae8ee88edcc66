"""The record in a run folder, finished or not: its config, metrics.jsonl and, once finished, result.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.config.recipe import Config, load_config
from semiseg.training.reading import read_entries, read_result
from semiseg.training.record import CONFIG, METRICS, RESULT

Points = list[tuple[float, float]]  # (step, value)
PREDICTORS = {
    "prototype": "prototypes",
    "left": "the left network",
    "right": "the right network",
    "mean": "both networks' mean",
}
"""Predictors that a run may have besides its headline, in words."""


@dataclass(frozen=True)
class Run:
    """The record of one run. Every score is read from a file here, none is computed again."""

    folder: Path
    label: str  # how the report calls it
    config: Config
    entries: list[dict[str, Any]]  # of metrics.jsonl
    result: dict[str, Any] | None  # None: not finished

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations during training, in order."""
        return [entry for entry in self.entries if entry["kind"] == "evaluation"]

    @property
    def last_evaluation(self) -> dict[str, Any]:
        """The last of `evaluations`, or nothing."""
        return self.evaluations[-1] if self.evaluations else {}

    @property
    def warnings(self) -> list[str]:
        """Of the last evaluation."""
        return self.last_evaluation.get("warnings") or []

    @property
    def alarms(self) -> list[str]:
        """What the monitor warned of while the run trained, and what the guard did, each with its step."""
        found = [entry for entry in self.entries if entry["kind"] in ("warning", "guard")]
        own = set(self.warnings)
        return [f"at step {each['step']}: {each.get('words')}" for each in found if each.get("words") not in own]

    @property
    def step(self) -> int:
        """Steps done, as far as the record knows."""
        return max((entry["step"] for entry in self.entries), default=0)

    @property
    def last(self) -> dict[str, Any] | None:
        """Scores on the validation images at the last step, or at the last evaluation of an unfinished run."""
        return self.last_evaluation or None if self.result is None else self.result["last"]["val"]

    @property
    def last_step(self) -> int | None:
        """The step of `last`."""
        return self.last_evaluation.get("step") if self.result is None else self.result["last"]["step"]

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, mIoU) of the best evaluation during training."""
        scored = [(entry["step"], entry["miou"]) for entry in self.evaluations if entry["miou"] is not None]
        return max(scored, key=lambda found: found[1], default=None)

    @property
    def miou(self) -> float:
        """The headline's mIoU of `last`, per cent; NaN before the first evaluation."""
        return math.nan if self.last is None else number(self.last["miou"])

    @property
    def iou(self) -> dict[str, float]:
        """The headline's IoU of `last` by class, per cent."""
        if self.last is None:
            return {}
        return {name: number(value) for name, value in self.last[self.last["headline"]].get("iou", {}).items()}

    @property
    def seconds(self) -> float:
        """Seconds of training and its evaluations, interruptions left out."""
        logged = [entry["seconds"] for entry in self.entries if "seconds" in entry]
        return self.result["seconds"] if self.result is not None else max(logged, default=0.0)

    def series(self, kind: str, *keys: str) -> Points:
        """Values under nested `keys` of the entries of one kind over the steps; entries without it are left out."""
        entries = [entry for entry in self.entries if entry["kind"] == kind]
        return [(entry["step"], value) for entry in entries if (value := under(entry, *keys)) is not None]

    def losses(self) -> list[str]:
        """Names of the losses, in the order in which they appear."""
        keys = dict.fromkeys(key for entry in self.entries if entry["kind"] == "train" for key in entry)
        return [key for key in keys if key not in ("kind", "step", "lr", "seconds", "kept")]


def read_run(folder: Path, label: str | None = None) -> Run:
    """The run in `folder`, called `label` (None: its method). Raises ValueError for none or a damaged one."""
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is not a run folder: it has no {CONFIG}; `semiseg train` makes one")
    config = load_config(folder / CONFIG)
    result = folder / RESULT
    document = read_result(result) if result.exists() else None
    return Run(folder, label or config.method, config, read_entries(folder / METRICS), document)


def read_runs(folders: list[Path]) -> list[Run]:
    """The runs in `folders`, each called by its method or, where methods repeat, by its folder."""
    runs = [read_run(folder) for folder in folders]
    if len({run.label for run in runs}) == len(runs):
        return runs
    return [read_run(folder, folder.name) for folder in folders]


def check_comparable(
    classes: Mapping[str, Sequence[str]], lists: Mapping[str, Mapping[str, Any]], subset: str = "val"
) -> None:
    """Raise ValueError where the runs' classes or their images differ.

    Both by the runs' labels: `classes` their names, `lists` the `subset` list as `Dataset.split` has it.
    """
    if len({tuple(names) for names in classes.values()}) > 1:
        raise ValueError("the runs have different classes and cannot be compared: give runs of one dataset")
    if len({found["sha256"] for found in lists.values()}) > 1:
        counts = ", ".join(f"{label} on {found['count']} ({found['name']})" for label, found in lists.items())
        images = {"val": "validation", "test": "test"}[subset]
        raise ValueError(f"the runs were scored on different {images} images: {counts}. Give runs of one {subset} list")


def under(document: Any, *keys: str) -> Any:
    """The value under nested `keys`; None where one is missing."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def number(value: float | None) -> float:
    """A number of a JSON file, where NaN is null."""
    return math.nan if value is None else value
