"""What is known of an encoder's first weights: the mean and deviation of their images, and their licence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import timm
import torch

from semiseg.config.network import SHIPPED, Colour
from semiseg.config.options import NetworkOptions, require
from semiseg.networks.encoders import fetch, require_known
from semiseg.networks.packaged import LICENCE
from semiseg.networks.smp import TIMM, hub_source, require_encoder
from semiseg.parts.augment import MEAN, STD


def with_normalisation(options: NetworkOptions) -> NetworkOptions:
    """`options` with the encoder's `mean` and `std`, where they are not given.

    timm states them for each of its models. segmentation-models-pytorch keeps its own encoders' figures on the hub
    beside the weights; without these weights they are ImageNet's. A network of a user's own keeps what its maker gave.
    Raises ValueError for an encoder that does not exist.
    """
    if options.mean is not None or options.name not in SHIPPED:
        return options
    name = options.encoder
    if options.name.startswith("smp:"):
        require_encoder(name)
        if name.startswith(TIMM):
            mean, std = _of_timm(name.removeprefix(TIMM))
        else:
            mean, std = _of_library(name) if options.weights == "hub" else (MEAN, STD)
    else:
        require_known(name)
        mean, std = _of_timm(name)
    return replace(options, mean=mean, std=std)


def licence(options: NetworkOptions) -> str | None:
    """Licence of the encoder's first weights as their package or timm states it; None where nobody does."""
    if options.weights == "package":
        return LICENCE
    timms = options.name in ("deeplabv3plus", "fpn", "dpt") or options.encoder.startswith(TIMM)
    if options.weights != "hub" or not timms:
        return None
    stated = timm.get_pretrained_cfg(options.encoder.removeprefix(TIMM))
    return None if stated is None else stated.license


def _of_timm(name: str) -> tuple[Colour, Colour]:
    known = timm.get_pretrained_cfg(name)
    if known is not None:
        stated: Any = known.to_dict()
    else:  # an old name
        with torch.device("meta"):
            stated = timm.create_model(name).pretrained_cfg
    return tuple(stated["mean"]), tuple(stated["std"])


def _of_library(name: str) -> tuple[Colour, Colour]:
    repo, revision = hub_source(name)
    stated = json.loads(fetch(name, repo, "config.json", revision).read_text("utf-8"))
    asked = (stated.get("input_space", "RGB"), stated.get("input_range", [0, 1]))
    require(
        asked == ("RGB", [0, 1]),
        f"network.encoder {name} wants images in {asked[0]} with values in {asked[1]}; this package gives RGB in "
        "[0, 1]. Take another encoder",
    )
    return tuple(stated["mean"]), tuple(stated["std"])
