"""Networks by name, and the one expression that composes them."""

from __future__ import annotations

from typing import TypeVar

import torch
from timm.layers import convert_sync_batchnorm

from semiseg.distributed import world_size
from semiseg.networks.checkpointing import encoder_blocks, recompute
from semiseg.networks.deeplabv3plus import AuxHead, DeepLabV3Plus
from semiseg.networks.encoders import build_encoder
from semiseg.networks.segmentor import Segmentor
from semiseg.options import NetworkOptions

Part = TypeVar("Part", bound=torch.nn.Module)

NETWORKS = {"deeplabv3plus": DeepLabV3Plus}
"""The decoders; each is made from (encoder channels, classes, width, ASPP rates, dropout)."""


def build(options: NetworkOptions, num_classes: int) -> Segmentor:
    """The segmentor that `options` describe. Raises ValueError for an encoder or weights that cannot be had."""
    encoder, widths = build_encoder(options)
    decoder = NETWORKS[options.name](widths, num_classes, options.channels, options.aspp_rates, options.dropout)
    aux_head = AuxHead(widths[-2], num_classes, options.channels, options.dropout) if options.aux else None
    if options.checkpoint:
        for block in (*encoder_blocks(encoder), *decoder.blocks(), *([aux_head] if aux_head else [])):
            recompute(block)
    return Segmentor(encoder, decoder, aux_head, num_classes)


def with_shared_statistics(module: Part, device: torch.device) -> Part:
    """`module` with BatchNorm over the images of all processes, where there are several and each has a GPU.

    SyncBatchNorm does not run on a CPU. Weights and their names stay.
    """
    if world_size() == 1 or device.type != "cuda":
        return module
    # timm's: torch's own would lose the activations inside timm's layers.
    return convert_sync_batchnorm(module)  # pyright: ignore[reportReturnType]  # the module itself


__all__ = ["NETWORKS", "Segmentor", "build", "with_shared_statistics"]
