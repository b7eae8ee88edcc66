"""What is known of an encoder's first weights: the mean and deviation of their images, and their licence."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import torch

from semiseg.config.network import SHIPPED, Colour
from semiseg.config.options import NetworkOptions, require
from semiseg.networks.encoders import fetch, require_known
from semiseg.networks.packaged import LICENCE
from semiseg.networks.smp import TIMM, hub_source, require_encoder
from semiseg.parts.augment import MEAN, STD

log = logging.getLogger(__name__)


def figures(options: NetworkOptions) -> tuple[Colour, Colour] | None:
    """Mean and deviation of the encoder's images: the given ones, else the encoder's own.

    timm states them for each of its models. segmentation-models-pytorch keeps its own encoders' figures on the hub
    beside the weights; without these weights they are taken to be ImageNet's. None for a network of a user's own, whose
    maker knows. Raises ValueError for an encoder that does not exist.
    """
    if options.mean is not None and options.std is not None:
        return options.mean, options.std
    if options.name not in SHIPPED:
        return None
    name = options.encoder
    (require_encoder if options.name.startswith("smp:") else require_known)(name)
    if (timms := _timm_name(options)) is not None:
        stated = _stated(timms)
        return tuple(stated["mean"]), tuple(stated["std"])
    if options.weights == "hub":
        return _of_library(name)
    if options.weights != "none":
        log.warning(
            "network.encoder %s: the file of weights does not say how its images were normalised: by ImageNet's mean "
            "and deviation. If by others, give --network.mean and --network.std",
            name,
        )
    return MEAN, STD


def for_bands(figures: Sequence[float], bands: int) -> tuple[float, ...]:
    """Figures of RGB for so many bands: themselves for three, else their average for each."""
    return tuple(figures) if bands == 3 else (round(sum(figures) / len(figures), 6),) * bands


def source(options: NetworkOptions) -> dict[str, str | None] | None:
    """Where the encoder's first weights are `from`, and their `licence` as their package or timm states it, else None.

    None for a network of a user's own.
    """
    if options.name not in SHIPPED:
        return None
    stated = None
    if options.weights == "package":
        stated = LICENCE
    elif options.weights == "hub" and (name := _timm_name(options)) is not None:
        stated = _stated(name).get("license")
    return {"from": options.weights, "licence": stated}


def _timm_name(options: NetworkOptions) -> str | None:
    """timm's name of the encoder; None for the own encoders of segmentation-models-pytorch."""
    if options.name.startswith("smp:") and not options.encoder.startswith(TIMM):
        return None
    return options.encoder.removeprefix(TIMM)


def _stated(name: str) -> dict[str, Any]:
    """timm's own description of a model's weights."""
    import timm

    known = timm.get_pretrained_cfg(name)
    if known is not None:
        return known.to_dict()
    with torch.device("meta"):  # an old name, which timm resolves when it makes the model
        return timm.create_model(name).pretrained_cfg  # pyright: ignore[reportReturnType]


def _of_library(name: str) -> tuple[Colour, Colour]:
    repo, revision = hub_source(name)
    fetch(name, repo, "model.safetensors", revision)  # first: where it cannot be had, its message tells what to do
    stated = json.loads(fetch(name, repo, "config.json", revision).read_text("utf-8"))
    asked = (stated.get("input_space", "RGB"), stated.get("input_range", [0, 1]))
    require(
        asked == ("RGB", [0, 1]),
        f"network.encoder {name} wants images in {asked[0]} with values in {asked[1]}; this package gives RGB in "
        "[0, 1]. Take another encoder",
    )
    return tuple(stated["mean"]), tuple(stated["std"])
