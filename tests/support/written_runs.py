"""Run folders written by hand, for the pages."""

import json

import numpy as np

from semiseg.config.recipe import load_config, save_config
from semiseg.data.sets.scenes import CLASSES

STEPS = 100


COUNTS = np.arange(36).reshape(6, 6) ** 2 * np.array([[1], [1], [1], [0], [1], [1]])  # (C, C); no pixel of class 3


def scores(miou, headline="linear"):
    """An evaluation's figures; class c of C has mIoU - C + 2 c + 1 per cent, whose mean is `miou`."""
    iou = {name: miou - len(CLASSES) + 2 * at + 1 for at, name in enumerate(CLASSES)}
    bins = {"pixels": [0] * 13 + [100, 300], "right": [0] * 13 + [60, 297], "confidence": [None] * 13 + [90.0, 98.0]}
    return {
        "headline": headline,
        "miou": miou,
        headline: {"miou": miou, "accuracy": 90.0, "iou": iou},
        "calibration_error": 8.25,
        "calibration": bins,
    }


def write_run(folder, method="supervised", mious=(40.0, 52.5, 50.25), finished=True):
    """A run folder with a record as training writes it, without the training."""
    folder.mkdir(parents=True)
    save_config(load_config("demo", {"method": method, "run": folder, "train.steps": STEPS}), folder / "config.yaml")
    entries = []
    for at, miou in enumerate(mious, 1):
        entries.append({"kind": "train", "step": 25 * at, "supervised": 1 / at, "lr": 0.05, "seconds": 30.0 * at})
        if method == "prototype":
            entries[-1] |= {"kept": 0.25 * at, "prototype": 2 / at}
        entries.append({"kind": "evaluation", "step": 25 * at, **scores(miou), "warnings": []})
        if method == "prototype":
            entries[-1] |= {
                "pseudo_labels": {"threshold": 0.8, "share": 80.0, "accuracy": 91.0 + at},
                "prototype": {"miou": miou - 1},
                "prototype_usage": [[0.9, 0.1], [0.6, 0.4]],
                "prototype_closest": [0.3, None, 0.2, 0.1, 0.4, 0.5],
                "prototype_distance": [0.6, None, 0.5, 0.7, 0.8, 0.9],
                "hidden_labels": {
                    "images": 16,
                    "threshold": 0.8,
                    "share": 70.0 + at,
                    "accuracy": 80.0 + at,
                    "precision_by_class": {name: 10.0 * number + at for number, name in enumerate(CLASSES)},
                },
                "warnings": ["2 of 4 prototypes of class 'star' are dead"],
            }
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    if finished:
        split = {"val": {"name": "scenes, seed 0", "sha256": "ab" * 32, "count": 60, "source": None}}
        result = {
            "last": {"step": STEPS, "val": scores(mious[-1])},
            "best": {"step": 50, "val": scores(max(mious))},
            "split": split,
            "seconds": 95.4,
            "versions": {"torch": "2.9.9"},
            "hardware": {"device": "A <slow> CPU", "threads": 2, "cores": 2},
            "commit": "c0ffee",
            "date": "2025-01-02T03:04:05+00:00",
        }
        (folder / "result.json").write_text(json.dumps(result), "utf-8")
        np.savez_compressed(folder / "confusions.npz", names=["a", "b"], linear=np.stack([COUNTS, 2 * COUNTS]))
    return folder
