"""A lean decoder for pyramids of CNNs: Semantic FPN (Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019).

It differs from the paper in four ways: one 3x3 convolution a level, at the level's own size, in place of one for every
doubling up to stride 4; BatchNorm in place of GroupNorm; any width, 256 and 128 there; `dropout` before the classifier.
With 64 channels it takes a tenth of the paper's operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from semiseg.networks.deeplabv3plus import conv_norm_act
from semiseg.parts.segmentor import resize


class FPN(nn.Module):
    """Decoder over a pyramid whose maps have `encoder_channels`, shallow to deep; all of them are read."""

    def __init__(
        self, encoder_channels: Sequence[int], num_classes: int, channels: int = 64, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.feature_channels = channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, kernel_size=1) for width in encoder_channels)
        self.levels = nn.ModuleList(nn.Sequential(*conv_norm_act(channels, channels, kernel=3)) for _ in self.laterals)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, kernel_size=1))

    def blocks(self) -> list[nn.Module]:
        """The parts in which nearly all of the decoder's activations arise; each is called once in a forward pass."""
        return [*self.laterals, *self.levels, self.classifier]

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps, shallow to deep -> logits (B, C, h, w) and features (B, D, h, w) >= 0, at the shallowest map's size."""
        size = (pyramid[0].shape[-2], pyramid[0].shape[-1])
        merged = self.laterals[-1](pyramid[-1])  # (B, D, h', w'), the deepest
        features = resize(self.levels[-1](merged), size)  # (B, D, h, w)
        for level in range(len(pyramid) - 2, -1, -1):
            own = self.laterals[level](pyramid[level])
            merged = own + resize(merged, (own.shape[-2], own.shape[-1]))
            features = features + resize(self.levels[level](merged), size)
        return self.classifier(features), features
