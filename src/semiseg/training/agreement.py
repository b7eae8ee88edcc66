"""What is looked at before a training: the folder by one process, and whether all processes see the same."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.methods.shared import UnlabeledOptions
from semiseg.config.options import require
from semiseg.config.recipe import Config
from semiseg.data.dataset import Dataset
from semiseg.data.doctor.examine import check_before_training
from semiseg.runtime.distributed import gathered, rank


def check_folder(config: Config, console: Console | None) -> None:
    """Look into a folder of one's own; the first process does, and all stop with its words (ValueError)."""
    if config.data.dataset != "folder":
        return
    refused = None
    if rank() == 0:
        try:
            check_before_training(config.data, console, issubclass(METHOD_OPTIONS[config.method], UnlabeledOptions))
        except ValueError as error:
            refused = str(error)
    words = gathered(refused)[0]
    require(words is None, str(words))


def check_agreement(dataset: Dataset, step: int, folder: Path) -> None:
    """Processes on machines that do not see the same files would train on something that nobody meant.

    Raises ValueError where the checkpoint's `step` or the images differ.
    """
    images = {name: record["sha256"] for name, record in dataset.split.items()}
    first, *others = gathered({"checkpoint": step, "images": images})
    for number, other in enumerate(others, 1):
        for what, seen in other.items():
            if seen != first[what]:
                raise ValueError(
                    f"process {number} does not see the {what} that process 0 sees: put the run folder ({folder}) and "
                    "the data where all machines see them, under one path"
                )
