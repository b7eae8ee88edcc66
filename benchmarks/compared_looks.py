"""Runs of a comparison or a reproduction on nuclei, by look of the image: python benchmarks/compared_looks.py FOLDER

IoU of "nucleus" and the share of its pixels that are found, per cent, means over seeds, from the counts of each
validation image that the runs left behind; nothing is predicted anew.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from nuclei_looks import look

from semiseg.config.recipe import load_config
from semiseg.data import open_dataset
from semiseg.report.runs import read_run
from semiseg.training.record import CONFIG, CONFUSIONS

LOOKS = ("fluorescence", "stained", "bright field")


def looks(run: Path) -> np.ndarray:
    """The look of each validation image, (N,)."""
    images = open_dataset(load_config(run / CONFIG).data, need_unlabeled=False).val
    return np.array([look(images.image(index)) for index in range(len(images))])


def scores(run: Path, seen: np.ndarray, headline: str) -> list[tuple[float, float]]:
    """(IoU, found) of each of LOOKS, per cent."""
    with np.load(run / CONFUSIONS) as arrays:
        counts = arrays[headline]  # (N, 2, 2), truth by prediction
    sums = [counts[seen == name].sum(0) for name in LOOKS]
    return [(100 * s[1, 1] / (s[1].sum() + s[0, 1]), 100 * s[1, 1] / s[1].sum()) for s in sums]


def row(run: Path) -> str:
    """The run's name without its labels and its seed: those of one name are averaged."""
    return re.sub(r"^[^-]+-|-seed\d+$", "", run.name)


def main() -> None:
    runs = [read_run(path.parent) for path in sorted(Path(sys.argv[1]).glob(f"*/{CONFUSIONS}"))]
    seen = looks(runs[0].folder)
    found = defaultdict(list)
    for run in runs:
        assert run.last is not None
        found[row(run.folder)].append(scores(run.folder, seen, run.last["headline"]))
    print("| runs | " + " | ".join(f"{name} ({(seen == name).sum()} images)" for name in LOOKS) + " |")
    print("| --- |" + " ---: |" * len(LOOKS))
    for name, values in found.items():
        means = np.mean(values, axis=0)  # (3, 2)
        print(f"| {name} | " + " | ".join(f"{iou:.1f} / {recall:.1f}" for iou, recall in means) + " |")


if __name__ == "__main__":
    main()
