"""Which class was taken for which: the confusion matrix of a run as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semiseg.report.runs import Run
from semiseg.training.reading import read_counts
from semiseg.training.record import CONFUSIONS

FEW = 11  # classes up to which a cell has a decimal


@dataclass(frozen=True)
class Cell:
    """Pixels of one class that were called another, or the same."""

    share: float  # of the row, per cent
    text: str
    title: str  # the counts, in words


@dataclass(frozen=True)
class Confusion:
    """Rows are the true classes."""

    label: str  # of the run
    classes: list[str]
    rows: list[list[Cell]]


def headline_counts(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Names (N,) of the validation images and the headline's counts (N, C, C) after the last step; None: not kept."""
    path = run.folder / CONFUSIONS
    if run.result is None or not path.is_file():
        return None
    return read_counts(path, run.result["last"]["val"]["headline"], len(run.iou))


def confusion(run: Run) -> Confusion | None:
    """The headline's on the validation images after the last step; None for a run that did not keep the counts."""
    found = headline_counts(run)
    if found is None:
        return None
    classes, counts = list(run.iou), found[1].sum(0)  # (C, C) int64
    return Confusion(run.label, classes, [_row(name, row, classes) for name, row in zip(classes, counts, strict=True)])


def _row(true: str, counts: np.ndarray, classes: list[str]) -> list[Cell]:
    total, cells = int(counts.sum()), []
    for said, count in zip(classes, counts.tolist(), strict=True):
        words = f"{true} called {said}" if said != true else f"{true} rightly called so"
        if total == 0:
            cells.append(Cell(0.0, "–", f"{words}: no pixel of this class"))
            continue
        share = 100 * count / total
        text = "" if count == 0 else f"{share:.1f}" if len(classes) <= FEW else f"{share:.0f}"
        cells.append(Cell(share, text, f"{words}: {count:,} of {total:,} pixels"))
    return cells
