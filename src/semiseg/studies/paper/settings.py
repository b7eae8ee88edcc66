"""The options of the runs of a dataset at a scale: a shipped recipe, and overrides on top of it.

    full   the paper's: its network, crops, epochs and batch
    half   images and crops of half the size, ResNet-50, half the epochs
    cpu    the recipe `folder` (camvid: its own): a network of half a million parameters, crops of 128 pixels, few steps

An epoch is one pass over the unlabelled images by 8 processes of 2 + 2 images, as in U2PL's code, whose remainder of a
process is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semiseg.config.fields import ConfigError
from semiseg.config.layers import Flat

Scale = Literal["full", "half", "cpu"]
SCALES: tuple[Scale, ...] = ("full", "half", "cpu")

PROCESSES, BATCH = 8, 16  # U2PL's on which an epoch's length rests; BATCH labelled and BATCH unlabelled images


@dataclass(frozen=True)
class Schedule:
    """How long a published dataset is trained."""

    images: int
    """Labelled and unlabelled ones together."""
    epochs: int

    def iterations(self, labeled: int) -> int:
        """Steps of an epoch with so many labelled images."""
        return -(-(self.images - labeled) // PROCESSES) // (BATCH // PROCESSES)

    def short_steps(self, labeled: int) -> int:
        """All steps of U2PL's supervised baseline: its epochs pass over the labelled images, once each."""
        return self.epochs * -(-labeled // BATCH)


SCHEDULES = {"voc": Schedule(10_582, 80), "cityscapes": Schedule(2975, 200)}

_CPU_STEPS = {"camvid": 3000}  # as in its recipe; others:
_FEW_STEPS = 600
_CPU_EVALUATIONS, _SHORT_EVALUATIONS = 3, 8


def _half(crop: int, stride: int) -> Flat:
    """Images and crops of half the size, and a network to match."""
    crops: Flat = {"augment.crop_height": crop, "augment.crop_width": crop}
    windows: Flat = {"evaluation.window": crop, "evaluation.stride": stride}
    return {"network.encoder": "resnet50s", "data.scale": 0.5, **crops, **windows}


_HALF: dict[str, Flat] = {
    "voc": _half(257, 257) | {"loss.ohem_min_kept": 200_000},
    "cityscapes": _half(385, 257) | {"loss.ohem_min_kept": 200_000},
    "folder": _half(257, 192) | {"train.steps": 10_000},
}
_CPU_DATA: dict[str, Flat] = {
    "voc": {"data.dataset": "voc", "data.scale": 0.5},
    "cityscapes": {"data.dataset": "cityscapes", "data.scale": 0.25},
}
# The paper's; the recipe `folder` has others, because runs are short there.
_CPU_PAPER: Flat = {"method.mix": "cutmix", "prototypes.momentum": 0.99, "prototypes.weight": 1}
# The recipe `folder` weighs means over its two classes; these have 21 and 19.
_CPU_WEIGHTS: dict[str, Flat] = {
    "mean_teacher": {"method.unlabeled_weight": 10},
    "cct": {"method.unlabeled_weight": 30},
    "gct": {"method.unlabeled_weight": 100},
    "pseudoseg": {"method.presence_weight": 1},
}


def check_scale(dataset: str, scale: Scale, preset: str | None) -> None:
    """Raise ConfigError for a scale or a preset that a dataset does not have."""
    if dataset == "camvid" and scale != "cpu":
        raise ConfigError(f"--scale {scale}: the recipe camvid is for a CPU; use --scale cpu")
    if preset is not None and (dataset not in SCHEDULES or scale == "cpu"):
        raise ConfigError(
            f"--preset {preset}: it is of voc and cityscapes at full or half scale, not of {dataset} at {scale}; leave "
            "it out"
        )


def recipe_of(recipe: str, scale: Scale) -> str:
    """The recipe that a table's own becomes at a scale."""
    return "folder" if scale == "cpu" and recipe != "camvid" else recipe


def overrides(dataset: str, scale: Scale, preset: str | None, method: str) -> Flat:
    """Options over the recipe for all runs of a method, before the set of labels and the row."""
    if scale == "cpu":
        steps = _CPU_STEPS.get(dataset, _FEW_STEPS)
        every = steps // _CPU_EVALUATIONS
        flat: Flat = {"train.steps": steps, "train.evaluate_every": every, "train.checkpoint_every": every}
        flat |= _CPU_PAPER if method == "prototype" else {}
        return flat | _CPU_DATA[dataset] | _CPU_WEIGHTS.get(method, {}) if dataset in _CPU_DATA else flat
    flat = {"preset": "gpu" if dataset == "folder" else preset or "release"}
    flat |= _HALF[dataset] if scale == "half" else {}
    if dataset == "voc" and method != "prototype":  # its configuration alone has OHEM there
        flat["loss.kind"] = "ce"
    return flat


def schedule_overrides(dataset: str, scale: Scale, labeled: int, short: bool) -> Flat:
    """The steps of a published dataset with so many labelled images; evaluated and saved once per epoch."""
    schedule = SCHEDULES[dataset]
    epoch = schedule.iterations(labeled)
    steps = schedule.epochs * epoch // (2 if scale == "half" else 1)
    if short:
        steps = schedule.short_steps(labeled)
        epoch = steps // _SHORT_EVALUATIONS
    return {"train.steps": steps, "train.evaluate_every": epoch, "train.checkpoint_every": epoch}
