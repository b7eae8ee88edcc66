"""How well features tell classes apart: variance within classes and between them (Table 5 of Xu et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from semiseg.analysis.features import PixelChoice, choose_pixels, pixel_features
from semiseg.analysis.moments import Moments, at_length_1, traces
from semiseg.analysis.pages import write_page
from semiseg.analysis.subjects import Subjects, read_subjects
from semiseg.config.checks import Count, Seed, check_value
from semiseg.report.texts import figure, headed, markdown_table
from semiseg.training.experiment import Experiment

NAME = "discrimination"
PIXELS = 5000  # of each class

VERSIONS = {
    "raw": "Features as they are, each class weighted by its pixels",
    "balanced": "Features as they are, every class weighted alike",
    "unit": "Features at length 1, each class weighted by its pixels",
    "unit_balanced": "Features at length 1, every class weighted alike",
}
"""Key of a row -> its meaning."""


def discriminate(
    runs: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    subset: str = "val",
    checkpoint: str = "last",
    pixels: int | None = PIXELS,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Variance traces of the runs' features on labelled images; writes `out`/discrimination.json and .md.

    Args:
        runs: run folders.
        out: folder to write into.
        root, labels, subset, checkpoint: as for `read_subjects`.
        pixels: of each class at most so many, drawn with `seed`, the same for all runs. None: all.
        seed: of the draw.
        console: where progress goes.

    Returns the JSON file's content; `rows` has {run, label, raw, balanced, unit, unit_balanced, classes} for each run:
    the four of VERSIONS are each {intra, inter, ratio, total}. Of a sample, a class's weight is still the number of all
    its pixels. Raises ValueError where no pixel is labelled, and as `read_subjects`.
    """
    check_value("pixels", pixels, Count | None)
    check_value("seed", seed, Seed)
    subjects = read_subjects(runs, labels, root=root, subset=subset, checkpoint=checkpoint)
    choice = choose_pixels(subjects.images, len(subjects.dataset.classes), pixels, seed)
    rows, device = [], torch.device("cpu")
    for run, (label, experiment) in zip(subjects.runs, subjects.experiments(), strict=True):
        device = experiment.device
        rows.append({"run": str(run.folder), "label": label, **_row(experiment, subjects, choice, label, console)})
    asked = {"pixels": "all" if pixels is None else pixels, "seed": seed}
    document = {**subjects.document(NAME, out, device, **asked), **asked, "rows": rows}
    write_page(out, NAME, "Variance within and between classes", document, _markdown(document))
    return document


def _row(
    experiment: Experiment, subjects: Subjects, choice: PixelChoice, label: str, console: Console | None
) -> dict[str, Any]:
    """The traces of one run."""
    count = len(subjects.dataset.classes)
    raw = unit = Moments.empty(count)
    for features, classes in pixel_features(experiment, subjects.images, choice, label, console):
        values, own = features.double().numpy(), classes.numpy()
        raw += Moments.of(values, own, count)
        unit += Moments.of(at_length_1(values), own, count)
    pixels, alike = choice.total.astype(np.float64), np.ones(count)
    per_class = zip(subjects.dataset.classes, choice.chosen, choice.total, raw.variance(), unit.variance(), strict=True)
    return {
        "raw": traces(raw, pixels).to_dict(),
        "balanced": traces(raw, alike).to_dict(),
        "unit": traces(unit, pixels).to_dict(),
        "unit_balanced": traces(unit, alike).to_dict(),
        "classes": {
            name: {"pixels": int(chosen), "of": int(of), "intra": float(spread), "intra_unit": float(spread_unit)}
            for name, chosen, of, spread, spread_unit in per_class
        },
    }


def _markdown(document: dict[str, Any]) -> list[str]:
    lines, runs = [_ABOUT, ""], document["rows"]
    figures = ("intra", "inter", "ratio")
    for key, title in VERSIONS.items():
        rows = [[run["label"], *(figure(run[key][name], ".4g") for name in figures)] for run in runs]
        lines += headed(title, markdown_table(["run", *figures], rows))
    rows = []
    for name, pixels in runs[0]["classes"].items():
        spreads = [figure(run["classes"][name]["intra_unit"], ".4g") for run in runs]
        rows.append([name, f"{pixels['pixels']:,} of {pixels['of']:,}", *spreads])
    head = ["class", "pixels", *(run["label"] for run in runs)]
    return lines + headed("Variance within each class, features at length 1", markdown_table(head, rows))


_ABOUT = (
    "Traces of the variance within classes (intra) and between them (inter); the larger inter / intra, the better the "
    "features tell the classes apart. Longer features raise both; at length 1 there are none."
)
