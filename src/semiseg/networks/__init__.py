"""Networks by name, and the expressions that compose them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from timm.layers import convert_sync_batchnorm

from semiseg.config.options import NetworkOptions
from semiseg.networks.checkpointing import encoder_blocks, recompute
from semiseg.networks.deeplabv3plus import AuxHead, DeepLabV3Plus
from semiseg.networks.dpt import DPT
from semiseg.networks.encoders import build_encoder
from semiseg.networks.smp import SmpSegmentor, smp_parts
from semiseg.networks.vit import ViTEncoder, build_vit
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import world_size

Part = TypeVar("Part", bound=torch.nn.Module)


def _deeplabv3plus(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, widths = build_encoder(options)
    decoder = DeepLabV3Plus(widths, num_classes, options.channels, options.aspp_rates, options.dropout)
    return Segmentor(encoder, decoder, _aux_head(options, widths[-2], num_classes), num_classes)


def _dpt(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, width = build_vit(options)
    decoder = DPT(width, num_classes, options.channels, options.dropout)
    return Segmentor(encoder, decoder, _aux_head(options, width, num_classes), num_classes)


def _smp(options: NetworkOptions, num_classes: int) -> Segmentor:
    encoder, decoder = smp_parts(options, num_classes)
    return SmpSegmentor(encoder, decoder, _aux_head(options, encoder.widths[-2], num_classes), num_classes)


NETWORKS = {
    "deeplabv3plus": _deeplabv3plus,
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
}
"""What makes a segmentor of options and a number of classes, by `network.name`."""


def build(options: NetworkOptions, num_classes: int) -> Segmentor:
    """The segmentor that `options` describe. Raises ValueError for an encoder or weights that cannot be had."""
    segmentor = NETWORKS[options.name](options, num_classes)
    if options.checkpoint:
        decoder: Any = segmentor.decoder
        heads = [] if segmentor.aux_head is None else [segmentor.aux_head]
        for block in (*encoder_blocks(segmentor.encoder), *decoder.blocks(), *heads):
            recompute(block)
    return segmentor


def _aux_head(options: NetworkOptions, inputs: int, num_classes: int) -> AuxHead | None:
    """For the map before the deepest, which has `inputs` channels."""
    return AuxHead(inputs, num_classes, options.channels, options.dropout) if options.aux else None


def with_shared_statistics(module: Part, device: torch.device) -> Part:
    """`module` with BatchNorm over the images of all processes, where there are several and each has a GPU.

    SyncBatchNorm does not run on a CPU. Weights and their names stay.
    """
    if world_size() == 1 or device.type != "cuda":
        return module
    # timm's: torch's own would lose the activations inside timm's layers.
    return convert_sync_batchnorm(module)  # pyright: ignore[reportReturnType]  # the module itself


__all__ = ["NETWORKS", "ViTEncoder", "build", "with_shared_statistics"]
