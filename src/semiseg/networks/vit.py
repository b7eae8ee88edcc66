"""timm's plain vision transformers as encoders: the tokens of four blocks as maps of one size.

DINOv2, DINOv3 and every other ViT of timm that takes images of any size. State-dict keys are timm's after `model.`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semiseg.config.options import NetworkOptions, require
from semiseg.networks.encoders import load_tensors, read_tensors, require_known, spread_stem, weights_file
from semiseg.parts.segmentor import resize

PUBLISHED_LAYERS = {24: (4, 11, 17, 23)}
"""DINOv2's choice where it is not even, by depth."""

PROBE_GRID = (3, 5)
"""Patches of the image on which an encoder is tried out: no square, and not what its position embedding has."""

_STEM = "patch_embed.proj.weight"

_REPAIR = (
    "--network.name dpt takes ViTs of timm such as vit_small_patch14_dinov2 or vit_base_patch14_dinov2; "
    "CNNs such as resnet101s go with --network.name deeplabv3plus"
)


class ViTEncoder(nn.Module):
    """Image (B, N, H, W) of any size -> four maps (B, D, h, w), one value per patch and channel, shallow to deep.

    Sides that are no multiple of the patch are resized to the nearest one, at least one patch; position embeddings are
    resampled to the grid. Each map went through the model's last norm. Blocks after the deepest map are dropped.

    model: timm's ViT, made with dynamic_img_size. layers: the blocks whose tokens are taken, counted from 0.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        self.model: Any = model
        self.layers = list(layers)
        self.patch: tuple[int, int] = tuple(self.model.patch_embed.patch_size)
        self.width = int(self.model.embed_dim)
        # The head goes too: what no loss reaches must not wait for a gradient.
        self.model.prune_intermediate_layers(self.layers, prune_head=True)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The four maps."""
        fitted = image if (size := self.fitted(image)) == tuple(image.shape[-2:]) else resize(image, size)
        return self.model.forward_intermediates(fitted, self.layers, norm=True, intermediates_only=True)

    def fitted(self, image: Tensor) -> tuple[int, int]:
        """Height and width of the nearest image of whole patches; halves count up."""
        sides = zip(image.shape[-2:], self.patch, strict=True)
        height, width = (max(int(length / patch + 0.5), 1) * patch for length, patch in sides)
        return height, width


def spread_layers(depth: int) -> tuple[int, int, int, int]:
    """The last blocks of four equal parts of `depth` blocks, rounded up; of 24, DINOv2's choice."""
    require(depth >= 4, f"network.encoder has {depth} blocks; the decoder reads four, so take a deeper one")
    first, second, third, last = (math.ceil(depth * part / 4) - 1 for part in (1, 2, 3, 4))
    return PUBLISHED_LAYERS.get(depth, (first, second, third, last))


def build_vit(options: NetworkOptions) -> tuple[ViTEncoder, int]:
    """The encoder and the width of its maps.

    Raises ValueError if timm has no such model, if it is no plain ViT for images of any size, or if its weights cannot
    be had.
    """
    name = options.encoder
    require_known(name)
    layers = _try_out(name, options.layers, options.bands)
    model = _create(name, options.bands)
    encoder = ViTEncoder(model, layers)
    if options.weights != "none":
        _load(encoder.model, weights_file(options, name, model.pretrained_cfg))
    return encoder, encoder.width


def _create(name: str, bands: int) -> Any:
    import timm

    return timm.create_model(name, num_classes=0, dynamic_img_size=True, in_chans=bands)


def _try_out(name: str, layers: Sequence[int] | None, bands: int) -> Sequence[int]:
    """The layers to take, once the model was tried out without memory or arithmetic."""
    try:
        with torch.device("meta"):
            model = _create(name, bands).eval()
            depth = len(model.blocks)
            size = [side * patch for side, patch in zip(PROBE_GRID, model.patch_embed.patch_size, strict=True)]
            (last,) = model.forward_intermediates(torch.empty(1, bands, *size), [depth - 1], intermediates_only=True)
            shapes_fit = tuple(last.shape) == (1, model.embed_dim, *PROBE_GRID)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"network.encoder {name} is no plain ViT for images of any size (timm: {type(error).__name__}: "
            f"{str(error).strip() or 'no reason given'}). {_REPAIR}"
        ) from error
    require(shapes_fit, f"network.encoder {name} has maps of shape {tuple(last.shape)}, not one per patch. {_REPAIR}")
    chosen = spread_layers(depth) if layers is None else layers
    require(
        max(chosen) < depth,
        f"network.layers are {tuple(chosen)}, but network.encoder {name} has blocks 0 to {depth - 1}",
    )
    return chosen


def _load(model: Any, path: Path) -> None:
    from timm.models import eva, vision_transformer

    state: Any = spread_stem(read_tensors(path), {_STEM: model.patch_embed.proj.weight})
    same_patch = state.get(_STEM, torch.empty(0)).shape == model.patch_embed.proj.weight.shape
    # timm's own reading: names of the makers' files, and position embeddings of another grid. It would also bend
    # weights of another patch into shape; those are left as they are, to be refused.
    if same_patch and isinstance(model, vision_transformer.VisionTransformer):
        state = vision_transformer.checkpoint_filter_fn(state, model)
    elif same_patch and isinstance(model, eva.Eva):
        state = eva.checkpoint_filter_fn(state, model)
    load_tensors(model, state, path)
