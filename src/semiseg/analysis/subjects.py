"""The runs that are looked at together: checked against each other first, then loaded one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from semiseg.config.checks import require
from semiseg.data import open_dataset
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.report.runs import Run, check_comparable, read_runs
from semiseg.runtime.provenance import provenance
from semiseg.training.experiment import Experiment
from semiseg.training.finished import load_run


@dataclass(frozen=True)
class Subjects:
    """Runs of the same classes, and the images on which all of them are looked at."""

    runs: list[Run]
    labels: list[str]  # how the runs are called, one each
    dataset: Dataset  # the first run's
    subset: str  # "val" or "test"
    checkpoint: str  # "last" or "best"
    root: Path | None  # where the data are now; None: where they were

    @property
    def images(self) -> ImageSet:
        """The images of the subset, at native size."""
        return self.dataset.image_sets[self.subset]

    def experiments(self) -> Iterator[tuple[str, Experiment]]:
        """Label and loaded run, one at a time, so that only one network is in memory."""
        for run, label in zip(self.runs, self.labels, strict=True):
            yield label, load_run(run.folder, self.checkpoint, root=self.root)

    def document(self, task: str, out: Path, device: torch.device, **options: Any) -> dict[str, Any]:
        """What identifies an analysis: command, runs, images, versions; the head of its JSON file."""
        steps = [run.last_step if self.checkpoint == "last" else (run.best or (None,))[0] for run in self.runs]
        named = [("label", label) for label in self.labels]
        given = {"out": out, "data.root": self.root, "set": self.subset, "checkpoint": self.checkpoint, **options}
        words = [(f"--{key}", str(value)) for key, value in [*named, *given.items()] if value is not None]
        folders = [str(run.folder) for run in self.runs]
        return {
            "command": shlex.join(["semiseg", "analyse", task, *folders, *(word for pair in words for word in pair)]),
            "runs": [
                {"label": label, "folder": str(run.folder), "method": run.config.method, "step": step}
                for run, label, step in zip(self.runs, self.labels, steps, strict=True)
            ],
            "checkpoint": self.checkpoint,
            "set": self.subset,
            "split": self.dataset.split[self.subset],
            "classes": list(self.dataset.classes),
            **provenance(device),
        }


def read_subjects(
    folders: Sequence[Path],
    labels: Sequence[str] | None = None,
    *,
    root: Path | None = None,
    subset: str = "val",
    checkpoint: str = "last",
) -> Subjects:
    """The runs in `folders`, called by `labels` (None: by method, or by folder where methods repeat).

    Raises ValueError where a folder is no run, labels are too few, repeated or too many, the data are not there, or
    the runs differ in their classes or in the images of the subset.
    """
    require(len(folders) > 0, "there is no run to look at: name at least one run folder")
    runs = read_runs([Path(folder) for folder in folders])
    names = [run.label for run in runs] if labels is None else list(labels)
    require(
        len(names) == len(runs) and len(set(names)) == len(names),
        f"labels are {', '.join(names)}; expected {len(runs)} different ones, one for each run",
    )
    datasets = [_opened(run, root) for run in runs]
    check_comparable({name: dataset.classes for name, dataset in zip(names, datasets, strict=True)}, {})
    for name, dataset in zip(names, datasets, strict=True):
        require(
            subset in ("val", "test") and subset in dataset.image_sets,
            f"{name} has no {subset} images to look at; choose another --set, val or test",
        )
    check_comparable({}, {name: each.split[subset] for name, each in zip(names, datasets, strict=True)}, subset)
    return Subjects(runs, names, datasets[0], subset, checkpoint, root)


def _opened(run: Run, root: Path | None) -> Dataset:
    """A run's dataset without its network, nothing of it decoded."""
    data = replace(run.config.data, cache=False)
    return open_dataset(data if root is None else replace(data, root=root), need_unlabeled=False)
