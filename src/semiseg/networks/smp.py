"""Networks of segmentation-models-pytorch behind the segmentor's contract.

Their encoders, decoders and heads are used as they are, with that library's own settings. It is imported when such a
network is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config.options import NetworkOptions
from semiseg.networks.encoders import fetch, load_first_weights, read_tensors, spread_stem
from semiseg.networks.packaged import packaged_file
from semiseg.parts.segmentor import Segmentor
from semiseg.types import SegmentationOutput

MULTIPLE = 32
"""Of pixels: sides that every encoder and decoder of that library takes."""

PROBE_SIZE = (64, 96)
"""No square: an encoder that takes one size only is refused at once and not by some image later."""

_REFUSALS = (AssertionError, AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
TIMM = "tu-"
"""Stands before the names of timm's models in that library."""


class SmpEncoder(nn.Module):
    """Image (B, N, H, W) -> maps, shallow to deep, of the image padded to multiples of MULTIPLE.

    The right and lower border is repeated. Left out are the image itself, which the library has in front, and maps
    without channels, which it has where a transformer has no map at stride 2.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.stride = int(self.encoder.output_stride)  # of the deepest map
        self.channels = list(self.encoder.out_channels)  # of all maps

    @property
    def widths(self) -> list[int]:
        """Channels of the maps that are given out."""
        return [width for width in self.channels[1:] if width > 0]

    def forward(self, image: Tensor) -> list[Tensor]:
        """The maps."""
        height, width = image.shape[-2:]
        bottom, right = -height % MULTIPLE, -width % MULTIPLE
        padded = F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
        return [each for each in self.encoder(padded)[1:] if each.shape[1] > 0]


class SmpDecoder(nn.Module):
    """Those maps -> logits (B, C, h, w) and features (B, D, h, w), what the library's segmentation head reads."""

    def __init__(self, decoder: nn.Module, head: nn.Module, encoder: SmpEncoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.classifier: Any = head.get_submodule("0")  # the others only upsample, as `Segmentor.decode` does
        self.feature_channels = int(self.classifier.in_channels)
        self._channels, self._stride = encoder.channels, encoder.stride

    def blocks(self) -> list[nn.Module]:
        """The decoder as one part."""
        return [self.decoder, self.classifier]

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps, shallow to deep -> logits and features at the library's size, mostly a quarter of the padded image."""
        features = self.decoder(self._with_fillers(pyramid))
        return self.classifier(features), features

    def _with_fillers(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """The library's own list: decoders ask what `SmpEncoder` left out for its size, and for nothing else."""
        deep, given = pyramid[-1], iter(pyramid)
        height, width = (side * self._stride for side in deep.shape[-2:])
        image = deep.new_empty(len(deep), 0, height, width)
        return [image, *(next(given) if each else image[..., ::2, ::2] for each in self._channels[1:])]


class SmpSegmentor(Segmentor):
    """A segmentor whose maps go beyond the image, to multiples of MULTIPLE pixels."""

    def decode(self, pyramid: list[Tensor], size: tuple[int, int]) -> SegmentationOutput:
        """As the base class, with the padding cut off again; `size` must be the size of the image `encode` got."""
        stride: int = self.encoder.stride  # pyright: ignore[reportAssignmentType]
        height, width = (side * stride for side in pyramid[-1].shape[-2:])
        fits = all(padded - MULTIPLE < side <= padded for side, padded in zip(size, (height, width), strict=True))
        assert fits, f"decode was asked for {size}, but the maps are of an image of {(height, width)} with its padding"
        output = super().decode(pyramid, (height, width))
        rows, columns = (
            -(-side * length // padded)  # the part of the map that shows the image, rounded up
            for side, length, padded in zip(size, output.features.shape[-2:], (height, width), strict=True)
        )
        return SegmentationOutput(
            output.logits[..., : size[0], : size[1]],
            output.features[..., :rows, :columns],
            None if output.aux is None else output.aux[..., : size[0], : size[1]],
        )


def smp_parts(options: NetworkOptions, num_classes: int) -> tuple[SmpEncoder, SmpDecoder]:
    """Encoder and decoder of the network that `options` name.

    Raises ValueError if the library has no such encoder, if the network cannot be built on it, or if its weights cannot
    be had.
    """
    import segmentation_models_pytorch as library

    name, kind = options.encoder, options.name.removeprefix("smp:")
    require_encoder(name)
    try:
        model: Any = library.create_model(
            kind, name, encoder_weights=None, in_channels=options.bands, classes=num_classes
        )
        with torch.no_grad():
            model.eval()(torch.zeros(1, options.bands, *PROBE_SIZE))
    except _REFUSALS as error:
        raise ValueError(
            f"network.name {options.name} cannot be built on network.encoder {name} (segmentation-models-pytorch: "
            f"{type(error).__name__}: {error}); resnet34 and mobilenet_v2 go with all, mit_b0 with smp:Segformer"
        ) from error
    if options.weights != "none":
        _load(model.encoder, options)
    encoder = SmpEncoder(model.train().encoder)
    return encoder, SmpDecoder(model.decoder, model.segmentation_head, encoder)


def require_encoder(name: str) -> None:
    """Raises ValueError with the nearest names where the library has no encoder `name`."""
    import segmentation_models_pytorch as library
    import timm

    known, timms = library.encoders.get_encoder_names(), name.removeprefix(TIMM)
    if name in known or (name.startswith(TIMM) and timm.is_model(timms)):
        return
    names = [*known, *(TIMM + model for model in timm.list_models())]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5) or ["resnet34", "mit_b0", "tu-resnet101s"]
    near = [TIMM + name, *near] if timm.is_model(name) else near
    raise ValueError(
        f"network.encoder is {name!r}, which segmentation-models-pytorch does not have; "
        f"nearest names: {', '.join(dict.fromkeys(near))}"
    )


def hub_source(name: str) -> tuple[str, str]:
    """Repository and revision on the hub of the ImageNet weights of the library's own encoder `name`."""
    import segmentation_models_pytorch as library

    settings: dict[str, Any] = library.encoders.encoders[name]["pretrained_settings"]
    source = settings["imagenet"] if "imagenet" in settings else next(iter(settings.values()))
    return source["repo_id"], source["revision"]


def _load(encoder: Any, options: NetworkOptions) -> None:
    name = options.encoder
    if name.startswith(TIMM):
        load_first_weights(encoder.model, options, name, encoder.model.pretrained_cfg)
        return
    if options.weights == "package":
        packaged_file(name)  # refuses it
    path = Path(options.weights).expanduser()
    if options.weights == "hub":
        repo, revision = hub_source(name)
        path = fetch(name, repo, "model.safetensors", revision)
    try:
        encoder.load_state_dict(
            spread_stem(read_tensors(path), encoder.state_dict())
        )  # the library's own, which leaves classifiers out
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit network.encoder {name}: {' '.join(str(error).split())[:300]}. Expected the tensors "
            "of segmentation-models-pytorch's encoder of that name"
        ) from error
