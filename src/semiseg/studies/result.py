"""The result of a study: a table of figures for each set of labels. Its JSON file has the same names.

mIoU and IoU are in per cent; a figure of a row without a finished run is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semiseg.studies.published import Published
from semiseg.studies.study import Column, Departure

NOT_YET = "not finished yet"
"""Why a run is missing that did not fail."""


@dataclass(frozen=True)
class Scores:
    """mIoU of one checkpoint over seeds."""

    mean: float | None
    deviation: float | None
    """Standard deviation of the sample; None for fewer than two seeds."""
    by_seed: dict[int, float]


@dataclass(frozen=True)
class Difference:
    """A row's mIoU less its reference's after the last step, over the seeds that both have finished."""

    miou: float
    low: float
    """Ends of the 95 % interval (`semiseg.evaluation.statistics`)."""
    high: float
    verdict: str
    """One of the table's two words where the interval lies on one side of 0, or `no reliable difference`."""
    seeds: list[int]
    by_seed: dict[int, float]

    @property
    def reliable(self) -> str:
        """`gain` or `loss` where the interval lies on one side of 0; else empty."""
        return "gain" if self.low > 0 else "loss" if self.high < 0 else ""


@dataclass(frozen=True)
class Spent:
    """What a run had spent at an evaluation."""

    step: int
    seconds: float | None
    """Of training with the evaluations before this one; None where the record has none."""
    operations: int | None
    """Of the steps, as `semiseg.costs.estimate` counts them; None where they cannot be counted."""


@dataclass(frozen=True)
class Reached:
    """What was spent until the first evaluation with at least the reference's mIoU after its last step."""

    by_seed: dict[int, Spent | None]
    """Over the seeds that both have finished; None: not reached."""
    seconds: float | None
    """As `operations` mean over seeds; None where a seed did not reach it, or has no figure."""
    operations: float | None


@dataclass(frozen=True)
class Missing:
    """A run that is not there."""

    seed: int
    run: str
    why: str


@dataclass(frozen=True)
class RowResult:
    """A row on one set of labels."""

    key: str
    title: str
    method: str
    options: dict[str, object]
    predictor: str | None
    """Whose scores these are."""
    runs: list[str]
    """Folders of its runs, one for each seed."""
    folders: dict[int, str]
    """Folders of the finished runs, by seed."""
    steps: int
    last: Scores
    best: Scores
    iou: dict[str, float | None]
    """By class after the last step, mean over seeds."""
    reference: str | None
    """Key of the row that it is held against."""
    difference: Difference | None
    iou_difference: dict[str, float | None] | None
    published: Published | None
    published_difference: float | None
    """Between the published figures of the row and of its reference."""
    seconds: float | None
    """Of training, as the four below mean over seeds."""
    images_per_second: float | None
    peak_bytes: float | None
    parameters: dict[str, int] | None
    """`trained`, and `used` in the predictor."""
    hardware: dict[str, str | None]
    missing: list[Missing]
    reached: Reached | None = None
    """None where there is nothing to be held against, and in tables without costs."""

    @property
    def missing_words(self) -> list[str]:
        """Which runs are missing, and why."""
        return [f"{self.title}, seed {each.seed}, is missing: {each.why}" for each in self.missing]


@dataclass(frozen=True)
class Section:
    """The rows of one set of labels."""

    name: str
    published_split: str | None
    meaning: str | None
    """What the labelled images of a published split are."""
    published_header: str
    split: dict[str, Any] | None
    """Lists of images by name: `name`, `count`, `sha256`."""
    rows: list[RowResult]

    @property
    def title(self) -> str:
        """Its name, and how many images it has."""
        if self.split is None or str(self.split["labeled"]["count"]) == self.name:
            return f"{self.name} labels"
        return f"{self.name} ({self.split['labeled']['count']} labels)"


@dataclass(frozen=True)
class Runs:
    """How many there are."""

    finished: int
    of: int
    at_a_time: int


@dataclass(frozen=True)
class Analysed:
    """An analysis of the runs beside their scores: texts, and paths of pictures relative to the study's folder."""

    kind: str
    meaning: str
    head: list[str]
    rows: list[list[str]]
    pictures: list[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of the finished runs of a study, and where they come from."""

    table: str
    title: str
    headline: str
    warning: str | None
    """The differences that make it another setting than the paper's."""
    recipe: str
    dataset: str | None
    scale: str | None
    preset: str | None
    steps: int
    batch: dict[str, int]
    network: str
    evaluation: str
    seeds: list[int]
    methods: list[str]
    reference: str
    columns: tuple[Column, ...]
    axis: str | None
    runs: Runs
    labeled: list[Section]
    """One for each set of labels."""
    analysis: Analysed | None = None
    differences: list[Departure]
    """From the paper's setting."""
    notes: list[str]
    command: str
    config: dict[str, Any]
    """Of the first run."""
    method_options: dict[str, Any]
    versions: Mapping[str, str | None]
    hardware: Mapping[str, str | None]
    commit: str | None
    date: dict[str, str | None]
    """When the `first` and the `last` run were finished."""
