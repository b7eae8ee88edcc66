"""Every option that is not a method's own, one frozen dataclass per part; the docstrings are the command line's help.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from semiseg.config.checks import COUNTED, FREE_ON_RESUME, NOT_COUNTED
from semiseg.config.checks import require as require
from semiseg.config.network import NetworkOptions as NetworkOptions
from semiseg.config.registry import check_name

DATASETS = ["folder", "voc", "cityscapes", "scenes"]
"""The datasets by name, shipped and added to `semiseg.DATASETS`."""


@dataclass(frozen=True)
class SceneOptions:
    """How many scenes the `scenes` dataset draws, and how large."""

    labeled: int = 12
    """Labelled scenes; they show only some of each class's looks."""
    unlabeled: int = 200
    """Unlabelled scenes; they show every look."""
    val: int = 60
    """Validation scenes; they show every look."""
    height: int = 128
    """Pixels."""
    width: int = 160
    """Pixels."""
    seed: int = 0
    """What is drawn; independent of the training seed."""

    def __post_init__(self) -> None:
        require(min(self.labeled, self.unlabeled, self.val) >= 1, "data.scenes: labeled, unlabeled, val: each >= 1")
        require(min(self.height, self.width) >= 32, "data.scenes: height and width must be at least 32 pixels")


@dataclass(frozen=True)
class DataOptions:
    """Which images, which masks, which split."""

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
    split_seed: int = 0
    """Seed of an automatic split."""
    val_fraction: float = 0.2
    """Share of the images with masks that an automatic split keeps for validation."""
    labeled_count: int | None = None
    """Use only so many labelled images in an automatic split; the others become unlabelled. None: all."""
    scale: float = 1.0
    """Work on images resized by this factor; predictions come back at native size."""
    cache: bool = field(default=False, metadata=FREE_ON_RESUME)
    """Keep decoded images in memory; for sets that fit there."""
    pad_label: Literal[255, 0] = 255
    """Label of the frame around a crop that leaves the image: 255 ignores it, 0 trains it as class 0 as U2PL did."""
    scenes: SceneOptions = field(default_factory=SceneOptions)

    def __post_init__(self) -> None:
        check_name("data.dataset", self.dataset, DATASETS, "DATASETS")
        require(0 < self.scale <= 4, f"data.scale is {self.scale}; expected 0 < scale <= 4")
        require(0 < self.val_fraction < 1, f"data.val_fraction is {self.val_fraction}; expected 0 < fraction < 1")
        require(
            self.unlabeled_shards is None or (self.unlabeled is None and self.dataset != "scenes"),
            "data.unlabeled_shards holds the unlabelled images of files: leave data.unlabeled out, or choose another "
            "data.dataset than `scenes`",
        )
        require(self.labeled_count is None or self.labeled_count >= 1, "data.labeled_count must be at least 1")
        require(
            self.split is None or (self.labeled is None and self.unlabeled is None),
            "data.split names both lists: leave data.labeled and data.unlabeled out, or leave data.split out",
        )


@dataclass(frozen=True)
class AugmentOptions:
    """The weak view (geometry), and the colour part of the strong view."""

    crop_height: int = field(default=513, metadata=COUNTED)
    """Height of a training crop, pixels (after `data.scale`)."""
    crop_width: int = field(default=513, metadata=COUNTED)
    """Width of a training crop, pixels."""
    scale_min: float = 0.5
    """Smallest random resize factor."""
    scale_max: float = 2.0
    """Largest random resize factor; below and above 1 are equally likely, as in U2PL."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    flip_vertical: float = 0.0
    """Probability of a vertical flip; for images without an up, as under a microscope."""
    jitter_probability: float = 0.8
    """Share of strong views whose colours are jittered."""
    brightness: float = 0.5
    """Strong view: brightness factor in 1 +- this."""
    contrast: float = 0.5
    """Strong view: contrast factor in 1 +- this."""
    saturation: float = 0.5
    """Strong view: saturation factor in 1 +- this."""
    hue: float = 0.25
    """Strong view: hue rotation in +- this, in turns of the colour circle."""
    gray_probability: float = 0.2
    """Share of strong views without colour."""
    blur_probability: float = 0.5
    """Share of strong views that are blurred, sigma 0.1 to 2 pixels."""

    def __post_init__(self) -> None:
        require(min(self.crop_height, self.crop_width) >= 32, "augment: crops must be at least 32 pixels a side")
        require(
            0 < self.scale_min <= 1 <= self.scale_max,
            f"augment: expected 0 < scale_min <= 1 <= scale_max, got {self.scale_min} and {self.scale_max}",
        )
        for name in ("flip", "flip_vertical", "jitter_probability", "gray_probability", "blur_probability"):
            require(0 <= getattr(self, name) <= 1, f"augment.{name} is a probability: between 0 and 1")
        require(0 <= self.hue <= 0.5, "augment.hue is in turns: between 0 and 0.5")


@dataclass(frozen=True)
class LossOptions:
    """The supervised loss, and in how many parts losses of full size are taken."""

    kind: Literal["ce", "ohem"] = "ce"
    """Plain cross-entropy (Eq. 5), or over hard pixels only (OHEM)."""
    ohem_threshold: float = field(default=0.7, metadata=NOT_COUNTED)
    """OHEM keeps pixels whose true class has at most this probability..."""
    ohem_min_kept: int = field(default=100_000, metadata=NOT_COUNTED)
    """...and at least so many of the batch's pixels; scale it with the batch (100,000 was for 2 crops of 513 x 513)."""
    aux_weight: float = 0.4
    """Weight of the auxiliary head's loss, where there is one."""

    def __post_init__(self) -> None:
        require(0 < self.ohem_threshold <= 1, "loss.ohem_threshold: expected 0 < threshold <= 1")
        require(self.ohem_min_kept >= 1, "loss.ohem_min_kept must be at least 1")


@dataclass(frozen=True)
class OptimOptions:
    """The optimizer and its schedule."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum (no Nesterov), or AdamW."""
    lr: float = 1e-3
    """Learning rate of the encoder, for the batch size of the recipe."""
    head_lr_factor: float = 10.0
    """The decoder's learning rate over the encoder's (10 on VOC, 1 on Cityscapes)."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-4
    """On every parameter, biases and BatchNorm included."""
    power: float = 0.9
    """Of the poly schedule: lr x (1 - step / steps) ^ power, per step."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly from 0."""

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optim.lr is {self.lr}; expected a positive number")
        for name in ("head_lr_factor", "momentum", "weight_decay", "power"):
            require(getattr(self, name) >= 0, f"optim.{name} is {getattr(self, name)}; it cannot be negative")
        require(self.warmup_steps >= 0, "optim.warmup_steps cannot be negative")


@dataclass(frozen=True)
class TrainOptions:
    """The loop."""

    steps: int = 40_000
    """Optimizer steps."""
    batch_labeled: int = field(default=16, metadata=COUNTED)
    """Labelled images per step."""
    batch_unlabeled: int = field(default=16, metadata=COUNTED)
    """Unlabelled images per step."""
    accumulate: int = field(default=1, metadata=COUNTED)
    """Micro-batches per optimizer step; the batch sizes above are of the whole step. BatchNorm, the choice of hard
    pixels (OHEM), mixes, points and means over unlabelled pixels are each part's own."""
    precision: Literal["fp32", "bf16"] = field(default="bf16", metadata=COUNTED)
    """bf16 runs the networks under autocast; losses and prototypes stay in float32."""
    channels_last: bool = True
    """Memory layout of images and convolutions; off, a step on two CPU cores took 1.15 of the time."""
    compile: bool = False
    """Student and teacher under torch.compile in the steps, not where whole images are predicted. Measured: 5 % less
    time per step of a ResNet-18 on a CPU (`semiseg bench options`), after a minute or two of compiling; no GPU yet."""
    workers: int = field(default=2, metadata=FREE_ON_RESUME)
    """Processes that load images; 0 loads in the training process."""
    threads: int | None = None
    """CPU threads of the training process. None: all cores."""
    devices: int = field(default=1, metadata=COUNTED)
    """Processes that train together, each with its own GPU or its part of the cores; the batch sizes above are of all
    of them. `--devices N` starts them on this machine; under torchrun, which starts its own, leave it out."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, or `cuda:N`."""
    log_every: int = field(default=20, metadata=FREE_ON_RESUME)
    """Steps between two lines in metrics.jsonl."""
    evaluate_every: int = 1000
    """Steps between two evaluations; the last step is always evaluated."""
    checkpoint_every: int = field(default=500, metadata=FREE_ON_RESUME)
    """Steps between two checkpoints; the last step always has one."""
    checkpoint_minutes: float = field(default=5.0, metadata=FREE_ON_RESUME)
    """Minutes after which a checkpoint is written in any case; a signal to stop writes one, too."""
    on_nonfinite: Literal["stop", "retreat"] = field(default="stop", metadata=FREE_ON_RESUME)
    """Where a loss or a weight is NaN or infinite: `stop` names it; `retreat` goes back to the last checkpoint and on
    at half the rate, three times at most."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_labeled", "batch_unlabeled", "accumulate", "devices", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name} must be at least 1")
        require(min(self.evaluate_every, self.checkpoint_every) >= 1, "train: evaluate_every and checkpoint_every >= 1")
        minutes = self.checkpoint_minutes
        require(minutes > 0, f"train.checkpoint_minutes is {minutes}; expected more than 0")
        require(self.workers >= 0, f"train.workers is {self.workers}; expected 0 or more")
        require(self.threads is None or self.threads >= 1, f"train.threads is {self.threads}; expected 1 or more")
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
class EvaluationOptions:
    """How predictions are scored."""

    protocol: Literal["whole", "crop", "slide"] = "whole"
    """`whole` image at native size; centre `crop`, its frame scored as class 0, as U2PL on VOC; `slide`: windows."""
    window: int = 769
    """Side of a window, or of the centre crop, pixels."""
    stride: int = 513
    """Pixels between two windows."""
    windows_at_once: int = 4
    """Windows of an image that are predicted as one batch."""
    images: int | None = None
    """Score only the first so many validation images during training; the final scores take all. None: all."""
    hidden: int = field(default=16, metadata=FREE_ON_RESUME)
    """Measure pseudo-labels, at evaluations, on so many unlabelled images that have masks; nothing learns. 0: none."""
    instruments: bool = field(default=True, metadata=FREE_ON_RESUME)
    """Measure, at evaluations, each loss's gradient and how student and teacher see the labels; nothing learns."""

    def __post_init__(self) -> None:
        require(
            0 < self.stride <= self.window,
            f"evaluation: the stride is {self.stride} and the window {self.window}; expected 0 < stride <= window",
        )
        require(self.windows_at_once >= 1, "evaluation.windows_at_once must be at least 1")
        require(self.images is None or self.images >= 1, f"evaluation.images is {self.images}; expected 1 or more")
        require(self.hidden >= 0, f"evaluation.hidden is {self.hidden}; expected 0 or more")

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
