"""Every option that is not a method's own, one frozen dataclass per part; the docstrings are the command line's help.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from semiseg.config.checks import (
    COUNTED,
    FREE_ON_RESUME,
    NOT_COUNTED,
    Count,
    CountFrom0,
    Options,
    Positive,
    Range,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
)
from semiseg.config.checks import require as require
from semiseg.config.network import NetworkOptions as NetworkOptions
from semiseg.config.registry import check_name

Side = Annotated[int, Range(32, 2**15)]
"""Pixels of a side that a network can look at."""
MOST_VISITS = 16  # windows over a pixel, along each side
Spread = Annotated[float, Range(0, 10)]
"""Of a colour factor about 1; above 1 the lowest factor is 0."""

DATASETS = ["folder", "voc", "cityscapes", "scenes"]
"""The datasets by name, shipped and added to `semiseg.DATASETS`."""


@dataclass(frozen=True)
class SceneOptions(Options):
    """How many scenes the `scenes` dataset draws, and how large."""

    section: ClassVar[str] = "data.scenes"

    labeled: Count = 12
    """Labelled scenes; they show only some of each class's looks."""
    unlabeled: Count = 200
    """Unlabelled scenes; they show every look."""
    val: Count = 60
    """Validation scenes; they show every look."""
    height: Side = 128
    """Pixels."""
    width: Side = 160
    """Pixels."""
    seed: Seed = 0
    """What is drawn; independent of the training seed."""


@dataclass(frozen=True)
class DataOptions(Options):
    """Which images, which masks, which split."""

    section: ClassVar[str] = "data"

    dataset: str = "folder"
    """Layout of the data: your own `folder`; `voc`, PASCAL VOC 2012; `cityscapes`; `scenes`, drawn, no files at all; or
    a name that was added to semiseg.DATASETS."""
    root: Path = field(default=Path("."), metadata=FREE_ON_RESUME)
    """Folder of the dataset."""
    labeled: str | None = None
    """List file of the labelled images, one per line, relative to `root` (or to the current folder)."""
    unlabeled: str | None = None
    """List file of the unlabelled images. None: every image that is in no other list."""
    unlabeled_shards: Path | None = field(default=None, metadata=FREE_ON_RESUME)
    """Folder of tar shards with the unlabelled images instead (`semiseg data shard`), less images of other lists."""
    val: str | None = None
    """List file of the validation images. None: a seeded part of the images with masks."""
    test: str | None = None
    """List file of the test images, scored once at the end. None: no test set."""
    split: str | None = None
    """A published split by name, such as `u2pl/pascal/92`; instead of `labeled` and `unlabeled`."""
    split_folder: Path | None = field(default=None, metadata=FREE_ON_RESUME)
    """Folder that holds the published lists. None: a cache, filled from their source on first use."""
    split_seed: Seed = 0
    """Seed of an automatic split."""
    val_fraction: Annotated[float, Range(0, 1, above=True, below=True)] = 0.2
    """Share of the images with masks that an automatic split keeps for validation."""
    val_trains: bool = False
    """Images may be in the lists of both labelled and validation images: for a last training on every mask, whose score
    was measured before, in folds. Its own validation score says nothing."""
    labeled_count: Count | None = None
    """Use only so many labelled images in an automatic split; the others become unlabelled. None: all."""
    scale: Annotated[float, Range(0, 4, above=True)] = 1.0
    """Work on images resized by this factor; predictions come back at native size."""
    cache: bool = field(default=False, metadata=FREE_ON_RESUME)
    """Keep decoded images in memory; for sets that fit there."""
    on_error: Literal["stop", "skip"] = field(default="stop", metadata=FREE_ON_RESUME)
    """Files that cannot be read, looked for before the first step: `stop`, or `skip` labelled and unlabelled images
    that are damaged or have a wrong mask, counted and named. Damage in validation and test images always stops."""
    pad_label: Literal[255, 0] = 255
    """Label of the frame around a crop that leaves the image: 255 ignores it, 0 trains it as class 0 as U2PL did."""
    scenes: SceneOptions = field(default_factory=SceneOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("data.dataset", self.dataset, DATASETS, "DATASETS")
        require(
            self.unlabeled_shards is None or (self.unlabeled is None and self.dataset != "scenes"),
            "data.unlabeled_shards holds the unlabelled images of files: leave data.unlabeled out, or choose another "
            "data.dataset than `scenes`",
        )
        require(
            self.split is None or (self.labeled is None and self.unlabeled is None),
            "data.split names both lists: leave data.labeled and data.unlabeled out, or leave data.split out",
        )


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
class LossOptions(Options):
    """The supervised loss, and in how many parts losses of full size are taken."""

    section: ClassVar[str] = "loss"

    kind: Literal["ce", "ohem"] = "ce"
    """Plain cross-entropy (Eq. 5), or over hard pixels only (OHEM)."""
    ohem_threshold: Annotated[float, Range(0, 1, above=True)] = field(default=0.7, metadata=NOT_COUNTED)
    """OHEM keeps pixels whose true class has at most this probability..."""
    ohem_min_kept: Count = field(default=100_000, metadata=NOT_COUNTED)
    """...and at least so many of the batch's pixels; scale it with the batch (100,000 was for 2 crops of 513 x 513)."""
    aux_weight: Weight = 0.4
    """Weight of the auxiliary head's loss, where there is one."""


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
        sizes = {"whole": (), "crop": (self.window,), "slide": (self.window, self.stride)}[self.protocol]
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
