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
        """The head of an analysis' JSON file: command, runs, images, versions."""
        steps = [run.last_step if self.checkpoint == "last" else (run.best or (None,))[0] for run in self.runs]
        given = {"out": out, "data.root": self.root, "set": self.subset, "checkpoint": self.checkpoint, **options}
        words = ["semiseg", "analyse", task, *(str(run.folder) for run in self.runs)]
        for key, value in [*(("label", label) for label in self.labels), *given.items()]:
            words += [] if value is None else [f"--{key}", str(value)]
        return {
            "command": shlex.join(words),
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
    """The runs in `folders`.

    Args:
        folders: run folders.
        labels: names of the runs. None: their methods, or their folders where methods repeat.
        root: where the data are now. None: where they were.
        subset: `val` or `test`.
        checkpoint: `last` or `best`.

    Raises ValueError where a folder is no run, labels are too few, repeated or too many, the data are not there, or
    the runs differ in their classes or in the images of the subset.
    """
    require(len(folders) > 0, "there is no run to look at: name at least one run folder")
    runs = read_runs([Path(folder) for folder in folders])
    names = [run.label for run in runs] if labels is None else list(labels)
    words = f"labels are {', '.join(names)}; expected {len(runs)} different ones, one for each run"
    require(len(names) == len(runs) == len(set(names)), words)
    datasets = []
    for run in runs:  # without their networks, nothing decoded
        data = replace(run.config.data, cache="off", root=root or run.config.data.root)
        datasets.append(open_dataset(data, need_unlabeled=False))
    check_comparable({name: dataset.classes for name, dataset in zip(names, datasets, strict=True)}, {})
    for name, dataset in zip(names, datasets, strict=True):
        require(
            subset in ("val", "test") and subset in dataset.image_sets,
            f"{name} has no {subset} images to look at; choose another --set, val or test",
        )
    check_comparable({}, {name: each.split[subset] for name, each in zip(names, datasets, strict=True)}, subset)
    return Subjects(runs, names, datasets[0], subset, checkpoint, root)
