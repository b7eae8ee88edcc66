"""Every option that is not a method's own, one frozen dataclass per part; the docstrings are the command line's help.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from semiseg.config.bands import BandOptions as BandOptions
from semiseg.config.checks import (
    COUNTED,
    FREE_ON_RESUME,
    Count,
    CountFrom0,
    Options,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    Weight,
)
from semiseg.config.checks import require as require
from semiseg.config.data import DATASETS as DATASETS
from semiseg.config.data import DataOptions as DataOptions
from semiseg.config.data import SceneOptions as SceneOptions
from semiseg.config.data import Side
from semiseg.config.loss import LossOptions as LossOptions
from semiseg.config.network import NetworkOptions as NetworkOptions

MOST_VISITS = 16  # windows over a pixel, along each side
Spread = Annotated[float, Range(0, 10)]
"""Of a colour factor about 1; above 1 the lowest factor is 0."""


@dataclass(frozen=True)
class AugmentOptions(Options):
    """The weak view (geometry), and the colour part of the strong view."""

    section: ClassVar[str] = "augment"

    crop_height: Side = field(default=513, metadata=COUNTED)
    """Height of a training crop, pixels (after `data.scale`)."""
    crop_width: Side = field(default=513, metadata=COUNTED)
    """Width of a training crop, pixels."""
    scale_min: Annotated[float, Range(0, 1, above=True)] = 0.5
    """Smallest random resize factor."""
    scale_max: Annotated[float, Range(1, 100)] = 2.0
    """Largest random resize factor; below and above 1 are equally likely, as in U2PL."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    flip_vertical: Share = 0.0
    """Probability of a vertical flip; for images without an up, as under a microscope."""
    turn: Share = 0.0
    """Probability of a quarter turn, to either side; for images without an up. With both flips at 0.5 and this at 0.5,
    an image's eight positions are equally likely."""
    focus: Share = 0.0
    """Share of labelled crops that are drawn around a pixel of a class other than the mask's most common one; each
    such class is equally likely. For rare classes and small objects; nnU-Net's is 0.33."""
    labeled_colors: Share = 0.0
    """Share of labelled crops whose colours and sharpness change as a strong view's do. Of few masks, a network with
    first weights learns the colours by heart."""
    jitter_probability: Share = 0.8
    """Share of strong views whose colours are jittered."""
    brightness: Spread = 0.5
    """Strong view: brightness factor in 1 +- this."""
    contrast: Spread = 0.5
    """Strong view: contrast factor in 1 +- this."""
    saturation: Spread = 0.5
    """Strong view: saturation factor in 1 +- this."""
    hue: Annotated[float, Range(0, 0.5)] = 0.25
    """Strong view: hue rotation in +- this, in turns of the colour circle."""
    gray_probability: Share = 0.2
    """Share of strong views without colour."""
    blur_probability: Share = 0.5
    """Share of strong views that are blurred, sigma 0.1 to 2 pixels."""


@dataclass(frozen=True)
class OptimOptions(Options):
    """The optimizer and its schedule."""

    section: ClassVar[str] = "optim"

    kind: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum (no Nesterov), or AdamW."""
    lr: Positive = 1e-3
    """Learning rate of the encoder, for the batch size of the recipe."""
    head_lr_factor: Weight = 10.0
    """The decoder's learning rate over the encoder's (10 on VOC, 1 on Cityscapes)."""
    momentum: ShareBelowOne = 0.9
    """Of SGD."""
    weight_decay: Weight = 1e-4
    """On every parameter, biases and BatchNorm included."""
    power: Annotated[float, Range(0, 100)] = 0.9
    """Of the poly schedule: lr x (1 - step / steps) ^ power, per step."""
    warmup_steps: CountFrom0 = 0
    """Steps in which the learning rate rises linearly from 0."""


@dataclass(frozen=True)
class TrainOptions(Options):
    """The loop."""

    section: ClassVar[str] = "train"

    steps: Count = 40_000
    """Optimizer steps."""
    batch_labeled: Count = field(default=16, metadata=COUNTED)
    """Labelled images per step."""
    batch_unlabeled: Count = field(default=16, metadata=COUNTED)
    """Unlabelled images per step."""
    accumulate: Count = field(default=1, metadata=COUNTED)
    """Micro-batches per optimizer step; the batch sizes above are of the whole step. BatchNorm, the choice of hard
    pixels (OHEM), mixes, points and means over unlabelled pixels are each part's own."""
    precision: Literal["fp32", "bf16"] = field(default="bf16", metadata=COUNTED)
    """bf16 runs the networks under autocast; losses and prototypes stay in float32."""
    channels_last: bool = True
    """Memory layout of images and convolutions; off, a step on two CPU cores took 1.15 of the time."""
    compile: bool = False
    """Student and teacher under torch.compile in the steps, not where whole images are predicted. Measured: 5 % less
    time per step of a ResNet-18 on a CPU (`semiseg bench options`), after a minute or two of compiling; no GPU yet."""
    workers: Annotated[int, Range(0, 1024)] = field(default=2, metadata=FREE_ON_RESUME)
    """Processes that load images; 0 loads in the training process."""
    threads: Annotated[int, Range(1, 4096)] | None = None
    """CPU threads of the training process. None: all cores."""
    devices: Annotated[int, Range(1, 4096)] = field(default=1, metadata=COUNTED)
    """Processes that train together, each with its own GPU or its part of the cores; the batch sizes above are of all
    of them. `--devices N` starts them on this machine; under torchrun, which starts its own, leave it out."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, or `cuda:N`."""
    log_every: Count = field(default=20, metadata=FREE_ON_RESUME)
    """Steps between two lines in metrics.jsonl."""
    evaluate_every: Count = 1000
    """Steps between two evaluations; the last step is always evaluated."""
    checkpoint_every: Count = field(default=500, metadata=FREE_ON_RESUME)
    """Steps between two checkpoints; the last step always has one."""
    checkpoint_minutes: Positive = field(default=5.0, metadata=FREE_ON_RESUME)
    """Minutes after which a checkpoint is written in any case; a signal to stop writes one, too."""
    on_nonfinite: Literal["stop", "retreat"] = field(default="stop", metadata=FREE_ON_RESUME)
    """Where a loss or a weight is NaN or infinite: `stop` names it; `retreat` goes back to the last checkpoint and on
    at half the rate, three times at most."""
    guard: Literal["off", "warn", "lower"] = field(default="warn", metadata=FREE_ON_RESUME)
    """Look at the pseudo-labels while the run trains: `warn` says, by class, what goes wrong; `lower` also halves the
    weight of the losses on unlabelled images where a collapse lasts, four times at most."""
    baseline: Path | None = field(default=None, metadata=FREE_ON_RESUME)
    """Run folder of a training from the labelled images alone; the guard holds this run against it at equal step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        accumulate, shares = self.accumulate, self.accumulate * self.devices
        for name, size in (("batch_labeled", self.batch_labeled), ("batch_unlabeled", self.batch_unlabeled)):
            whole = size % accumulate == 0
            require(whole, f"train.{name} ({size}) must be a multiple of train.accumulate ({accumulate})")
            parts = f"{shares} (train.accumulate {accumulate} x {self.devices} devices)"
            require(
                size % shares == 0,
                f"train.{name} ({size}) is of all devices together and must be a multiple of {parts}: make it "
                f"{-(-size // shares) * shares}, or use other --devices",
            )


@dataclass(frozen=True)
class EvaluationOptions(Options):
    """How predictions are scored."""

    section: ClassVar[str] = "evaluation"

    protocol: Literal["whole", "crop", "slide"] = "whole"
    """`whole` image at native size; centre `crop`, its frame scored as class 0, as U2PL on VOC; `slide`: windows."""
    window: Annotated[int, Range(1, 2**15)] = 769
    """Side of a window, or of the centre crop, pixels."""
    stride: Annotated[int, Range(1, 2**15)] = 513
    """Pixels between two windows."""
    blend: Literal["mean", "smooth"] = "mean"
    """Where windows overlap: the plain `mean` of their logits, as published; `smooth` weights, which leave no seams."""
    windows_at_once: Annotated[int, Range(1, 256)] = 4
    """Windows of an image that are predicted as one batch."""
    images: Count | None = None
    """Score only the first so many validation images during training; the final scores take all. None: all."""
    hidden: CountFrom0 = field(default=16, metadata=FREE_ON_RESUME)
    """Measure pseudo-labels, at evaluations, on so many unlabelled images that have masks; nothing learns. 0: none."""
    instruments: bool = field(default=True, metadata=FREE_ON_RESUME)
    """Measure, at evaluations, each loss's gradient and how student and teacher see the labels; nothing learns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.stride <= self.window,
            f"evaluation: the stride is {self.stride} and the window {self.window}; expected 0 < stride <= window",
        )
        require(
            self.protocol != "slide" or self.window <= MOST_VISITS * self.stride,
            f"evaluation.stride is {self.stride} for windows of {self.window} pixels; expected at least a "
            f"{MOST_VISITS}th of the window",
        )

    @property
    def label(self) -> str:
        """The protocol and what matters to it, as in `slide-769-513`."""
        blend = ("smooth",) if self.blend == "smooth" else ()
        sizes = {"whole": (), "crop": (self.window,), "slide": (self.window, self.stride, *blend)}[self.protocol]
        return "-".join(map(str, (self.protocol, *sizes)))


SECTIONS: dict[str, type] = {
    "data": DataOptions,
    "augment": AugmentOptions,
    "network": NetworkOptions,
    "loss": LossOptions,
    "optim": OptimOptions,
    "train": TrainOptions,
    "evaluation": EvaluationOptions,
}
"""Section of a config -> its options, in the order of the help; `method` and `prototypes` come before."""
