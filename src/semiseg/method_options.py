"""Each method's own options, and the names `--method` takes.

They stand apart from the methods' code because `semiseg train --help` lists them without importing torch. A test holds
the keys of METHOD_OPTIONS against those of `semiseg.methods.METHODS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semiseg.options import require

Mix = Literal["cutmix", "cutout", "classmix", "none"]
Denominator = Literal["all", "kept", "u2pl"]


@dataclass(frozen=True)
class SupervisedOptions:
    """Labelled images only: the floor every other method must beat."""


@dataclass(frozen=True)
class TeacherOptions:
    """What every method with an averaged teacher has."""

    ema_decay: float = 0.99
    """The teacher keeps this share of itself per step; early in a run less, 1 - 1/(step + 1)."""
    teacher_bn: Literal["average", "own"] = "average"
    """BatchNorm statistics of the teacher: averaged like its weights, or its own from train-mode forwards (U2PL)."""
    warmup: float = 0.0
    """Share of the steps that are supervised only, before the teacher starts."""
    teacher_start: Literal["copy", "average"] = "copy"
    """After warm-up the teacher is a copy of the student (U2PL), or its average over the warm-up's steps."""
    unlabeled_weight: float = 1.0
    """Weight of the losses on unlabelled images."""

    def __post_init__(self) -> None:
        require(0 <= self.ema_decay < 1, f"method.ema_decay is {self.ema_decay}; expected 0 <= decay < 1")
        require(0 <= self.warmup < 1, f"method.warmup is {self.warmup}; it is a share of the steps: 0 <= warmup < 1")
        require(self.unlabeled_weight >= 0, "method.unlabeled_weight cannot be negative")
        require(
            self.teacher_start == "copy" or self.teacher_bn == "average",
            "method.teacher_start average needs method.teacher_bn average: in the warm-up the teacher sees no image "
            "from which to gather statistics of its own",
        )

    @property
    def needs_partner(self) -> bool:
        """Whether an unlabelled image is mixed with another one of its batch."""
        return False


@dataclass(frozen=True)
class MeanTeacherOptions(TeacherOptions):
    """Mean Teacher (Tarvainen & Valpola 2017), as applied to segmentation."""

    unlabeled_weight: float = 100.0
    """Weight of the mean squared difference of the two softmaxes, after its ramp."""
    ramp: float = 0.1
    """Share of the steps after warm-up over which the weight rises as exp(-5 (1 - t)^2)."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the student's normalised image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ramp <= 1, "method.ramp is a share of the steps: between 0 and 1")
        require(self.noise >= 0, "method.noise cannot be negative")


@dataclass(frozen=True)
class CutMixOptions(TeacherOptions):
    """CutMix-Seg (French et al. 2020)."""

    threshold: float = 0.97
    """The batch's loss is scaled by the share of its pixels at or above this confidence."""
    confidence: Literal["batch", "pixel"] = "batch"
    """Average that indicator over the batch as the original does, or mask pixel by pixel."""
    strong: bool = True
    """Jitter and blur the student's copy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.threshold <= 1, "method.threshold is a probability: between 0 and 1")

    @property
    def needs_partner(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class PrototypeOptions(TeacherOptions):
    """Prototype-based consistency regularization (Xu et al., NeurIPS 2022)."""

    warmup: float = 0.0125
    """Share of the steps that are supervised only, so that K-means finds features that mean something. The default is
    the releases' one epoch of 80."""
    linear: bool = True
    """The linear predictor's losses after warm-up, on labelled images too. Off: labels come from the teacher's
    prototypes (Table 4, row 2)."""
    prototype: bool = True
    """The prototype predictor and its losses (Table 4, row 1: off)."""
    update: bool = True
    """Prototypes follow the features (Table 4, row 3: off)."""
    update_rule: Literal["mean", "per_pixel"] = "mean"
    """Eq. 11 once per step with the mean of the assigned features, or its closed form over single pixels."""
    prototypes: int = 4
    """Prototypes per class, K (Fig. 3)."""
    temperature: float = 0.1
    """T of Eq. 2."""
    momentum: float = 0.99
    """Alpha of Eq. 11."""
    threshold: float = 0.8
    """Confidence from which a pseudo-label teaches, tau (Table 7)."""
    denominator: Denominator = "all"
    """Divides the losses on unlabelled pixels: all pixels of the image, the kept ones, or as U2PL (N / kept x mean)."""
    mix: Mix = "cutmix"
    """Strong augmentation (Table 6)."""
    mix_probability: float = 0.5
    """Probability that a batch, or with train.accumulate a part of one, is mixed."""
    strong: bool = False
    """Jitter and blur the student's unlabelled copy too; the paper does not."""
    grid: int | None = 32
    """One random point per cell of a grid x grid enters the prototype losses and updates. None: every pixel."""
    prototype_weight: float = 1.0
    """Weight of both prototype losses (Eq. 6 and 10)."""
    init_pixels: int = 20_000
    """At most so many labelled pixels per class go into the K-means start (Algorithm 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.linear or self.prototype, "method: turn on linear or prototype, or both; neither leaves no loss")
        require(self.prototypes >= 1, "method.prototypes must be at least 1")
        require(self.temperature > 0, "method.temperature must be positive")
        require(0 <= self.momentum <= 1, "method.momentum: between 0 and 1")
        require(0 <= self.threshold <= 1, "method.threshold is a probability: between 0 and 1")
        require(0 <= self.mix_probability <= 1, "method.mix_probability: between 0 and 1")
        require(self.grid is None or self.grid >= 1, "method.grid must be at least 1, or none for every pixel")
        require(self.init_pixels >= self.prototypes, "method.init_pixels must be at least method.prototypes")

    @property
    def needs_partner(self) -> bool:
        """With CutMix and ClassMix."""
        return self.mix in ("cutmix", "classmix")


METHOD_OPTIONS: dict[str, type] = {
    "supervised": SupervisedOptions,
    "mean_teacher": MeanTeacherOptions,
    "cutmix": CutMixOptions,
    "prototype": PrototypeOptions,
}
