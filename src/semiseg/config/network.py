"""The options of the network, and what they say of the crops it is trained on.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from semiseg.config.bands import MOST_BANDS
from semiseg.config.checks import FREE_ON_RESUME, NOT_COUNTED, Options, Range, ShareBelowOne, require
from semiseg.config.registry import check_name

SHIPPED = (
    *("deeplabv3plus", "fpn", "dpt"),
    *("smp:Unet", "smp:UnetPlusPlus", "smp:MAnet", "smp:Linknet", "smp:FPN", "smp:PSPNet"),
    *("smp:DeepLabV3", "smp:DeepLabV3Plus", "smp:UPerNet", "smp:Segformer"),
)
"""The networks that come with semiseg; `smp:` is followed by a name of segmentation-models-pytorch."""

NAMES = list(SHIPPED)
"""These and what is added to NETWORKS."""

_Value = Annotated[float, Range(0, 255)]  # figures of values up to 255 are refused below, with the repair
Colour = tuple[_Value, _Value, _Value]
"""One value per channel, RGB."""

_Rate = Annotated[int, Range(1, 2**15)]
_Block = Annotated[int, Range(0, 999)]


@dataclass(frozen=True)
class NetworkOptions(Options):
    """The segmentor: encoder, decoder, and where its first weights come from."""

    section: ClassVar[str] = "network"

    name: str = "deeplabv3plus"
    """`deeplabv3plus`, the paper's decoder on any CNN of timm; `fpn`, a lean one; `dpt`, for plain ViTs; or a network
    of segmentation-models-pytorch at its own settings: `smp:Unet`, `smp:UnetPlusPlus`, `smp:MAnet`, `smp:Linknet`,
    `smp:FPN`, `smp:PSPNet`, `smp:DeepLabV3`, `smp:DeepLabV3Plus`, `smp:UPerNet`, `smp:Segformer`."""
    encoder: str = "resnet101s"
    """A timm model that gives a pyramid of features; `resnet101s` is the paper's deep-stem ResNet-101. For `dpt` a ViT
    of timm such as `vit_small_patch14_dinov2`; for `smp:` networks an encoder of that library, or `tu-` and a timm
    model."""
    output_stride: Literal[8, 16, 32] = 8
    """Input size over the size of the deepest features; 32 leaves the encoder undilated. Of `deeplabv3plus`."""
    multi_grid: bool = True
    """Dilations 4, 8, 16 in the last stage at output stride 8 (ResNets only), as in U2PL and the paper."""
    channels: Annotated[int, Range(8, 2**15)] = 256
    """Width of the decoder. Features of `deeplabv3plus` have twice as many channels, and 256 is the paper's; `dpt`'s
    have so many, and 64, 128, 256 go with ViT-S, B, L. `smp:` networks have their own."""
    aspp_rates: tuple[_Rate, _Rate, _Rate] = (12, 24, 36)
    """Dilations of the three atrous branches. Of `deeplabv3plus`."""
    layers: tuple[_Block, _Block, _Block, _Block] | None = None
    """Blocks of the ViT whose tokens `dpt` reads, counted from 0. None: 2 5 8 11 of 12, 4 11 17 23 of 24, else evenly
    spread."""
    dropout: ShareBelowOne = 0.1
    """Channel dropout in the decoder's head and classifier; `smp:` networks have their own."""
    aux: bool = False
    """An auxiliary head on the map before the deepest, as U2PL has on Cityscapes."""
    weights: str = field(default="hub", metadata=NOT_COUNTED)
    """First weights of the encoder: `package` (ImageNet, installed with semiseg; of tf_efficientnet_lite0, and 1 and 2
    with semiseg[lite]), `hub` (ImageNet, or as its name says; downloaded once), `none` (random), or a file."""
    mean: Colour | None = field(default=None, metadata=NOT_COUNTED)
    """Mean of the images that the encoder's first weights were trained on, by channel, RGB in [0, 1]. None: the
    encoder's own, as timm states it. The weights of a run or a model keep the figures."""
    std: Colour | None = field(default=None, metadata=NOT_COUNTED)
    """Deviation of these images, likewise."""
    bands: Annotated[int, Range(1, MOST_BANDS)] = field(default=3, metadata=NOT_COUNTED)
    """Bands of the images. It follows the data; the first convolution's weights for RGB are spread over them."""
    checkpoint: bool = field(default=False, metadata=FREE_ON_RESUME)
    """Give the activations inside blocks back and compute them again in the backward pass: a fraction of the memory, a
    third more time, the same numbers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("network.name", self.name, NAMES, "NETWORKS")
        require((self.mean is None) == (self.std is None), "give both network.mean and network.std, or neither")
        if self.mean is not None and self.std is not None:
            check_normalisation("network.mean and network.std", self.mean, self.std)
        require(
            self.layers is None or sorted(set(self.layers)) == list(self.layers),
            f"network.layers are {self.layers}; expected four blocks counted from 0, from shallow to deep",
        )

    def check_crop(self, height: int, width: int) -> None:
        """Raises ValueError where the encoder's name tells its patch and crops of this size are no multiple of it."""
        named = re.search(r"patch(\d+)", self.encoder)
        if self.name == "dpt" and named:
            require_multiple(int(named[1]), int(named[1]), height, width)


def check_normalisation(name: str, mean: Sequence[float], std: Sequence[float], bands: int = 3) -> None:
    """Raises ValueError unless these are a mean and a deviation of values in [0, 1] for each of the bands."""
    complete = all(isinstance(each, Sequence) and len(each) == bands for each in (mean, std))
    fits = complete and all(0 <= each <= 1 for each in mean) and all(0 < each <= 1 for each in std)
    require(
        fits,
        f"{name} are {mean} and {std}; expected {'three values each, RGB' if bands == 3 else f'{bands} values each,'} "
        "in [0, 1], deviations above 0. Divide "
        "figures of values up to 255 by 255",
    )


def require_multiple(patch_height: int, patch_width: int, height: int, width: int) -> None:
    """Raises ValueError with the nearest sizes for crops that are no multiple of a ViT's patch."""
    for side, patch, length in (("height", patch_height, height), ("width", patch_width, width)):
        below = length // patch * patch
        nearest = " or ".join(str(size) for size in (below, below + patch) if size >= 32)
        require(
            length % patch == 0,
            f"augment.crop_{side} is {length}, and this network.encoder cuts images into patches of {patch} pixels: "
            f"make it a multiple, {nearest}",
        )
