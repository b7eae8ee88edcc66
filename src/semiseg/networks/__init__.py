"""Networks by name, and the one expression that composes them."""

from __future__ import annotations

from semiseg.networks.deeplabv3plus import AuxHead, DeepLabV3Plus
from semiseg.networks.encoders import build_encoder
from semiseg.networks.segmentor import Segmentor
from semiseg.options import NetworkOptions

NETWORKS = {"deeplabv3plus": DeepLabV3Plus}
"""The decoders; each is made from (encoder channels, classes, width, ASPP rates, dropout)."""


def build(options: NetworkOptions, num_classes: int) -> Segmentor:
    """The segmentor that `options` describe. Raises ValueError for an encoder or weights that cannot be had."""
    encoder, widths = build_encoder(options)
    return Segmentor(
        encoder=encoder,
        decoder=NETWORKS[options.name](widths, num_classes, options.channels, options.aspp_rates, options.dropout),
        aux_head=AuxHead(widths[-2], num_classes, options.channels, options.dropout) if options.aux else None,
        num_classes=num_classes,
    )


__all__ = ["NETWORKS", "Segmentor", "build"]
