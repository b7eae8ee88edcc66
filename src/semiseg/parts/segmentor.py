"""The contract every network keeps: encode an image to a pyramid, decode the pyramid to logits and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config.network import check_normalisation
from semiseg.parts.augment import figures_of
from semiseg.types import SegmentationOutput

TRIAL = 224  # pixels: a multiple of every stride and every patch in use


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, X, h, w) to (B, X, *size) with corners aligned, the paper's choice throughout."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


class Segmentor(nn.Module):
    """An encoder, a decoder and, if wanted, an auxiliary head.

    bands: N, of the images that it takes.
    encoder: image (B, N, H, W) -> list of maps, shallow to deep.
    decoder: that list -> (logits (B, C, h, w), features (B, D, h, w)); has the int attribute `feature_channels` (D).
    aux_head: the map before the deepest -> logits (B, C, h', w'); runs in train mode only.
    """

    bands: int = 3
    pixel_mean: Tensor  # (N,), of the images that the encoder sees, in [0, 1]
    pixel_std: Tensor  # (N,)
    figures_before: tuple[Sequence[float], Sequence[float]]
    _scale: Tensor
    _shift: Tensor

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, aux_head: nn.Module | None, num_classes: int, bands: int = 3
    ) -> None:
        super().__init__()
        self.bands = bands
        self.encoder, self.decoder, self.aux_head = encoder, decoder, aux_head
        self.num_classes = num_classes
        self.figures_before = figures_of(bands)  # of weights that were saved before the figures were
        self.feature_channels = int(decoder.feature_channels)  # pyright: ignore[reportArgumentType]
        self.normalise_by(*figures_of(bands))

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Let the encoder see images minus `mean`, over `std`, per band, in [0, 1].

        All batches are normalised by ImageNet's figures, whatever the network: views, mixes and methods need not know
        the encoder's. The figures are saved with the weights. Raises ValueError for figures that are none.
        """
        check_normalisation("mean and std of the network's images", mean, std, self.bands)
        self.register_buffer("pixel_mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("pixel_std", torch.tensor(std, dtype=torch.float32))
        self._follow_figures(mean, std)

    def _follow_figures(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """From the batches' figures to these it is linear: image * STD / std + (MEAN - mean) / std."""
        of_batches = figures_of(self.bands)
        self.as_in_batches = (tuple(mean), tuple(std)) == of_batches
        from_mean, from_std = map(self.pixel_mean.new_tensor, of_batches)
        self.register_buffer("_scale", (from_std / self.pixel_std)[:, None, None], persistent=False)  # (N, 1, 1)
        self.register_buffer(
            "_shift", ((from_mean - self.pixel_mean) / self.pixel_std)[:, None, None], persistent=False
        )

    def normalised(self, image: Tensor) -> Tensor:
        """`image` (B, N, H, W) of a batch as the encoder sees it. A subclass with another `encode` begins with this."""
        return image if self.as_in_batches else torch.addcmul(self._shift, image, self._scale)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, figures in zip(("pixel_mean", "pixel_std"), self.figures_before, strict=True):
            state_dict.setdefault(prefix + name, self.pixel_mean.new_tensor(figures))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        mean, std = ([round(value, 6) for value in each.tolist()] for each in (self.pixel_mean, self.pixel_std))
        self._follow_figures(mean, std)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Pyramid of an image of a batch (B, N, H, W): maps (B, X, h, w), from stride 4 to the deepest."""
        return self.encoder(self.normalised(image))

    def decode(self, pyramid: list[Tensor], size: tuple[int, int]) -> SegmentationOutput:
        """The pyramid of `encode` -> output whose logits, and aux logits, have `size` (height, width) pixels."""
        logits, features = self.decoder(pyramid)  # (B, C, h, w), (B, D, h, w)
        aux = None
        if self.aux_head is not None and self.training:
            aux = _upsample(self.aux_head(pyramid[-2]), size)  # (B, C, H, W)
        return SegmentationOutput(_upsample(logits, size), features, aux)

    def forward(
        self, image: Tensor, perturb: Callable[[list[Tensor]], list[Tensor]] | None = None
    ) -> SegmentationOutput:
        """Logits of a normalised image (B, N, H, W), of any height and width, at its own size.

        perturb: pyramid -> the pyramid to decode; it may hold more images than came.
        """
        height, width = image.shape[-2:]
        pyramid = self.encode(image)
        output = self.decode(pyramid if perturb is None else perturb(pyramid), (height, width))
        deepest = pyramid[-1] if torch.is_grad_enabled() else None  # else it may be let go
        return SegmentationOutput(output.logits, output.features, output.aux, deepest)

    @torch.no_grad()
    def scales(self) -> list[tuple[int, int]]:
        """Channels and stride (pixels) of every map of the pyramid, tried out on an image of TRIAL x TRIAL pixels."""
        training, device = self.training, next(self.parameters()).device
        maps = self.eval().encode(torch.zeros(1, self.bands, TRIAL, TRIAL, device=device))
        self.train(training)
        return [(each.shape[1], round(TRIAL / each.shape[-1])) for each in maps]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The parameters that start from ImageNet and take the plain learning rate."""
        return list(self.encoder.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """All others, which start from nothing: decoder and auxiliary head."""
        heads = [self.decoder] if self.aux_head is None else [self.decoder, self.aux_head]
        return [parameter for head in heads for parameter in head.parameters()]


def _upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    # In float32 even under bf16 autocast: interpolating 8-bit mantissas would put steps into every confidence.
    return resize(logits.float(), size)
