"""The run that is disturbed: drawn scenes as files, a small network, every part of a real run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from semiseg.config.options import SceneOptions
from semiseg.data.sets.scenes import CLASSES, Scenes

COUNTS = {"labeled": 4, "unlabeled": 8, "val": 3}
STEPS = (20, 30, 40)
_TEACHER = {"warmup": 0.3, "threshold": 0.18, "ema_decay": 0.8}
METHODS: dict[str, dict[str, Any]] = {
    "prototype": {**_TEACHER, "strong": True, "mix_probability": 1.0, "prototypes": {"per_class": 2, "grid": 8}},
    "cutmix": {**_TEACHER, "confidence": "pixel"},
    "ael": {**_TEACHER, "strong": True, "paste_probability": 1.0, "bank_area": 0.01, "box_area": 0.01},
    "cps": {"warmup": 0.3},
    "supervised": {},
}
"""Methods with options under which each does all it can do in some twenty steps."""

RECIPE: dict[str, Any] = {
    "methods": METHODS,
    "seed": 3,
    "data": {"dataset": "folder", "labeled": "labeled.txt", "val": "val.txt"},
    "augment": {"crop_height": 32, "crop_width": 32},
    "network": {
        "encoder": "test_resnet",
        "output_stride": 32,
        "multi_grid": False,
        "channels": 8,
        "aspp_rates": [1, 2, 3],
        "weights": "none",
    },
    "optim": {"lr": 0.02, "head_lr_factor": 2},
    "train": {
        "batch_labeled": 4,
        "batch_unlabeled": 4,
        "precision": "fp32",
        "threads": 1,
        "device": "cpu",
        "log_every": 4,
        "evaluate_every": 12,
        "checkpoint_every": 5,
    },
}
"""One thread and float32: the same bits every time."""


@dataclass(frozen=True)
class Subject:
    """Which run it is; equal subjects end with the same bits."""

    method: str
    steps: int
    devices: int = 1

    @classmethod
    def draw(cls, rng: random.Random, devices: int = 1) -> Subject:
        """One at random; of several processes a short one, as they cost more."""
        if devices > 1:
            return cls(rng.choice(("prototype", "cutmix")), STEPS[0], devices)
        return cls(rng.choice(list(METHODS)), rng.choice(STEPS))

    def __str__(self) -> str:
        return f"{self.method}, {self.steps} steps" + (f", {self.devices} processes" if self.devices > 1 else "")

    def command(self, recipe: Path, root: Path, run: Path, workers: int) -> list[str]:
        """The words after `semiseg` that train it, or go on with it."""
        options = {
            "method": self.method,
            "data.root": root,
            "run": run,
            "train.steps": self.steps,
            "train.devices": self.devices,
            "train.workers": workers,
        }
        return ["train", str(recipe), "--resume", *(f"--{key}={value}" for key, value in options.items())]


def write_recipe(path: Path) -> None:
    """The recipe of all subjects, as YAML."""
    path.write_text(yaml.safe_dump(RECIPE, sort_keys=False), "utf-8")


def write_data(root: Path) -> None:
    """Draw the scenes into images/, masks/ and lists, as a user's own folder has them."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n", "utf-8")
    for name, count in COUNTS.items():
        scenes = Scenes(name, count, SceneOptions(**COUNTS, height=32, width=40))
        for index, stem in enumerate(scenes.names):
            Image.fromarray(scenes.image(index)).save(root / "images" / f"{stem}.png")
            if scenes.has_masks:
                Image.fromarray(scenes.mask(index)).save(root / "masks" / f"{stem}.png")
        if scenes.has_masks:
            (root / f"{name}.txt").write_text("\n".join(scenes.names) + "\n", "utf-8")
