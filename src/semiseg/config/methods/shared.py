"""What the options of several methods have in common."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from semiseg.config.checks import NOT_COUNTED, Options, Range, Share, ShareBelowOne, Weight, require
from semiseg.config.prototypes import PrototypesOptions

Mix = Literal["cutmix", "cutout", "classmix", "none"]
Denominator = Literal["all", "kept", "u2pl"]
Width = Annotated[int, Range(1, 2**15)]
"""Channels of a layer."""


def is_background(first: str, wanted: bool | None) -> bool:
    """Whether class 0, of the name `first`, is a background: what is left between the objects.

    wanted: what the option `background` says; None: it is if its name is `background`.
    """
    return first.lower() == "background" if wanted is None else wanted


@dataclass(frozen=True)
class UnlabeledOptions(Options):
    """What every method that learns from unlabelled images has."""

    warmup: ShareBelowOne = field(default=0.0, metadata=NOT_COUNTED)
    """Share of the steps that are supervised only."""
    unlabeled_weight: Weight = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of the losses on unlabelled images."""

    def __post_init__(self) -> None:
        prototypes = getattr(self, "prototypes", None)
        require(
            prototypes is None or isinstance(prototypes, PrototypesOptions),
            f"prototypes is {prototypes!r}; expected semiseg.config.prototypes.PrototypesOptions(...), or None for off",
        )
        super().__post_init__()

    always_partner: ClassVar[bool] = False

    @property
    def needs_partner(self) -> bool:
        """Whether an unlabelled image is mixed with another one of its batch, or needs the others otherwise."""
        return self.always_partner


@dataclass(frozen=True)
class PrototypesBeside(Options):
    """What a method has that the paper's prototypes can be added to."""

    prototypes: PrototypesOptions | None = None
    """The paper's prototype predictor beside this method's own, with the same pseudo-labels; on where any
    `prototypes.*` is given."""


@dataclass(frozen=True)
class AdaptOptions(Options):
    """What a method has whose pseudo-labels can make up for rare classes; the papers' methods do not."""

    adapt: Literal["none", "distribution", "thresholds"] = field(default="none", metadata=NOT_COUNTED)
    """`distribution`: the teacher's probabilities are scaled so that their mean becomes the classes' shares of labelled
    pixels (ReMixMatch); `thresholds`: a class with few confident pixels has a lower threshold (FlexMatch)."""
    adapt_momentum: ShareBelowOne = field(default=0.99, metadata=NOT_COUNTED)
    """What `adapt` has seen of each class keeps this share of itself per step."""

    @property
    def reads_class_pixels(self) -> bool:
        """With `adapt`."""
        return self.adapt != "none"


@dataclass(frozen=True)
class TeacherOptions(UnlabeledOptions):
    """What every method with an averaged teacher has."""

    ema_decay: ShareBelowOne = field(default=0.99, metadata=NOT_COUNTED)
    """The teacher keeps this share of itself per step; early in a run less, 1 - 1/(step + 1)."""
    teacher_bn: Literal["average", "own"] = "average"
    """BatchNorm statistics of the teacher: averaged like its weights, or its own from train-mode forwards (U2PL)."""
    teacher_start: Literal["copy", "average"] = field(default="copy", metadata=NOT_COUNTED)
    """After warm-up the teacher is a copy of the student (U2PL), or its average over the warm-up's steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.teacher_start == "copy" or self.teacher_bn == "average",
            "method.teacher_start average needs method.teacher_bn average: in the warm-up the teacher sees no image "
            "from which to gather statistics of its own",
        )


@dataclass(frozen=True)
class MixOptions(TeacherOptions):
    """What a method has whose student sees mixes of unlabelled images and of the teacher's pseudo-labels."""

    mix: Mix = "cutmix"
    """Strong augmentation (Table 6)."""
    mix_probability: Share = 0.5
    """Probability that a batch, or with train.accumulate a part of one, is mixed."""
    strong: bool = False
    """Jitter and blur the student's unlabelled copy too; the paper, and U2PL, do not."""

    @property
    def needs_partner(self) -> bool:
        """With CutMix and ClassMix."""
        return self.mix in ("cutmix", "classmix")


@dataclass(frozen=True)
class PairOptions(UnlabeledOptions):
    """What every method has that trains two networks, `left` and `right`."""

    report: Literal["left", "right", "mean"] = "left"
    """Which network is evaluated first and used afterwards, or the mean of both; each is evaluated by its name too."""
