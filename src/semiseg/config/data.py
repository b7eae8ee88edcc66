"""Options of the data: which images, which masks, which split."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from semiseg.config.bands import BandOptions
from semiseg.config.checks import FREE_ON_RESUME, Count, Options, Range, Seed, require
from semiseg.config.registry import check_name

Side = Annotated[int, Range(32, 2**15)]
"""Pixels of a side that a network can look at."""

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
    cache: Literal["auto", "memory", "disk", "off"] = field(default="auto", metadata=FREE_ON_RESUME)
    """Where decoded pictures are kept: in `memory`, all of them from the start; on `disk`, in the user's cache, for all
    runs; `off`, nowhere. `auto` measures: `off` where decoding is cheap, `memory` where it is done at once, or `disk`.
    The batches are the same. SEMISEG_CACHE names another folder."""
    cache_gb: Annotated[float, Range(0, 1e6, above=True)] = field(default=10.0, metadata=FREE_ON_RESUME)
    """Most that the cache on disk holds, of all runs together; what was not used for the longest time makes room."""
    draft: bool = False
    """Decode JPEGs at a half, a quarter or an eighth where `scale` allows: quicker, other pixels (docs/speed.md)."""
    on_error: Literal["stop", "skip"] = field(default="stop", metadata=FREE_ON_RESUME)
    """Files that cannot be read, looked for before the first step: `stop`, or `skip` labelled and unlabelled images
    that are damaged or have a wrong mask, counted and named. Damage in validation and test images always stops."""
    pad_label: Literal[255, 0] = 255
    """Label of the frame around a crop that leaves the image: 255 ignores it, 0 trains it as class 0 as U2PL did."""
    bands: BandOptions = field(default_factory=BandOptions)
    scenes: SceneOptions = field(default_factory=SceneOptions)

    def __post_init__(self) -> None:
        if isinstance(self.cache, bool):  # as older configs have it
            object.__setattr__(self, "cache", "memory" if self.cache else "off")
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
