"""Networks by name, and the expressions that compose them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from semiseg.config.network import NAMES
from semiseg.config.options import NetworkOptions, require
from semiseg.config.registry import CUSTOM, Registry
from semiseg.networks.checkpointing import encoder_blocks, recompute
from semiseg.networks.deeplabv3plus import AuxHead, DeepLabV3Plus
from semiseg.networks.dpt import DPT
from semiseg.networks.encoders import build_encoder
from semiseg.networks.first_weights import figures, for_bands, source
from semiseg.networks.fpn import FPN
from semiseg.networks.smp import SmpSegmentor, smp_parts
from semiseg.networks.vit import ViTEncoder, build_vit
from semiseg.networks.wrap import Wrapped, wrap
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import world_size

Part = TypeVar("Part", bound=torch.nn.Module)


def _deeplabv3plus(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, widths = build_encoder(options)
    decoder = DeepLabV3Plus(widths, num_classes, options.channels, options.aspp_rates, options.dropout)
    return Segmentor(encoder, decoder, _aux_head(options, widths[-2], num_classes), num_classes, options.bands)


def _fpn(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, widths = build_encoder(options)
    decoder = FPN(widths, num_classes, options.channels, options.dropout)
    return Segmentor(encoder, decoder, _aux_head(options, widths[-2], num_classes), num_classes, options.bands)


def _dpt(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, width = build_vit(options)
    decoder = DPT(width, num_classes, options.channels, options.dropout)
    return Segmentor(encoder, decoder, _aux_head(options, width, num_classes), num_classes, options.bands)


def _smp(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, decoder = smp_parts(options, num_classes)
    return SmpSegmentor(
        encoder, decoder, _aux_head(options, encoder.widths[-2], num_classes), num_classes, options.bands
    )


NETWORKS: Registry[Callable[[NetworkOptions, int], Segmentor]] = Registry(
    NAMES,
    {
        "deeplabv3plus": _deeplabv3plus,
        "fpn": _fpn,
        "dpt": _dpt,
        "smp:Unet": _smp,
        "smp:UnetPlusPlus": _smp,
        "smp:MAnet": _smp,
        "smp:Linknet": _smp,
        "smp:FPN": _smp,
        "smp:PSPNet": _smp,
        "smp:DeepLabV3": _smp,
        "smp:DeepLabV3Plus": _smp,
        "smp:UPerNet": _smp,
        "smp:Segformer": _smp,
    },
)
"""What makes a segmentor of options and a number of classes, by `network.name`; open to more."""


def build(options: NetworkOptions, num_classes: int) -> Segmentor:
    """The segmentor that `options` describe. Raises ValueError for an encoder or weights that cannot be had."""
    require(options.name != CUSTOM, _GIVEN)
    require(options.name in NETWORKS, f"this process has no semiseg.NETWORKS[{options.name!r}]: add it there first")
    segmentor = check_segmentor(NETWORKS[options.name](options, num_classes), num_classes, options.bands)
    if (normalisation := figures(options)) is not None:
        mean, std = (for_bands(each, options.bands) for each in normalisation)
        segmentor.normalise_by(mean, std)
        if options.mean is not None:  # weights that do not say were trained under the options beside them
            segmentor.figures_before = (mean, std)
    if options.checkpoint:
        require(
            not isinstance(segmentor, Wrapped), "network.checkpoint knows no blocks of a wrapped network: leave it off"
        )
        decoder: Any = segmentor.decoder
        heads = [] if segmentor.aux_head is None else [segmentor.aux_head]
        for block in (*encoder_blocks(segmentor.encoder), *decoder.blocks(), *heads):
            recompute(block)
    return segmentor


_GIVEN = (
    "network.name is custom: this network was given as an object and cannot be built from options. Give it again as "
    "`network=`, or add what builds it to semiseg.NETWORKS and train under its name"
)


def check_segmentor(network: object, num_classes: int, bands: int | None = None) -> Segmentor:
    """`network` if it is a Segmentor for so many classes, and bands. Raises ValueError with the repair."""
    if not isinstance(network, Segmentor):
        raise ValueError(
            f"the network is a {type(network).__name__}; expected a semiseg.Segmentor: any module becomes one by "
            "semiseg.wrap(module, features=NAME)"
        )
    require(
        network.num_classes == num_classes,
        f"the network has {network.num_classes} classes and the dataset {num_classes}: give its last layer "
        f"{num_classes} channels",
    )
    require(
        bands in (None, network.bands),
        f"the network takes images of {network.bands} band(s), and these have {bands}: make it for them and say so, "
        f"semiseg.wrap(..., bands={bands}) or semiseg.Segmentor(..., bands={bands})",
    )
    return network


def _aux_head(options: NetworkOptions, inputs: int, num_classes: int) -> AuxHead | None:
    """For the map before the deepest, which has `inputs` channels."""
    return AuxHead(inputs, num_classes, options.channels, options.dropout) if options.aux else None


def with_shared_statistics(module: Part, device: torch.device) -> Part:
    """`module` with BatchNorm over the images of all processes, where there are several and each has a GPU.

    SyncBatchNorm does not run on a CPU. Weights and their names stay.
    """
    if world_size() == 1 or device.type != "cuda":
        return module
    from timm.layers import convert_sync_batchnorm  # timm is imported by who builds with it: half a second

    # timm's: torch's own would lose the activations inside timm's layers.
    return convert_sync_batchnorm(module)  # pyright: ignore[reportReturnType]  # the module itself


__all__ = [
    "NETWORKS",
    "ViTEncoder",
    "build",
    "check_segmentor",
    "source",
    "with_shared_statistics",
    "wrap",
]
