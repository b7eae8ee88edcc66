"""The paper's decoder: DeepLabv3+ (Chen et al., ECCV 2018) in the form of U2PL (Wang et al., CVPR 2022).

It differs from the original in three ways: the low-level features keep all their channels (not 48), the ASPP has no
projection of its own but a 3x3 head over the concatenation, and the classifier is three convolutions. The features F
are the concatenation (low-level, ASPP) that the classifier reads; the prototypes live in that space (Eq. 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg.parts.segmentor import resize


def conv_norm_act(inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = False) -> list[nn.Module]:
    """Convolution that keeps the size, BatchNorm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=bias)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class ImagePooling(nn.Module):
    """The image's mean feature, transformed and spread over the map: (B, X, h, w) -> (B, D', h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm_act(inputs, outputs, kernel=1))

    def forward(self, maps: Tensor) -> Tensor:
        """Raises ValueError for a single image in train mode: BatchNorm would see one value per channel."""
        if self.training and len(maps) == 1 and not any(isinstance(layer, nn.SyncBatchNorm) for layer in self.layers):
            raise ValueError(
                "the decoder got a batch of 1 image in training; its image pooling normalises over the batch and needs "
                "at least 2: raise train.batch_labeled and train.batch_unlabeled, or lower train.accumulate"
            )
        return resize(self.layers(maps), (maps.shape[-2], maps.shape[-1]))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: pooled, 1x1 and dilated 3x3 views of a map, concatenated in that order."""

    def __init__(self, inputs: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ImagePooling(inputs, channels),
                nn.Sequential(*conv_norm_act(inputs, channels, kernel=1)),
                *(nn.Sequential(*conv_norm_act(inputs, channels, kernel=3, dilation=rate)) for rate in rates),
            ]
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, X, h, w) -> (B, branches * channels, h, w)."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)


class DeepLabV3Plus(nn.Module):
    """Decoder over a pyramid whose maps have `encoder_channels`, shallow to deep; only the ends are read.

    With 256 channels, rates (12, 24, 36) and dropout 0.1 it is the paper's: 19,999,253 parameters for 21 classes
    behind a ResNet-101. The convolutions keep PyTorch's default start.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        num_classes: int,
        channels: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.feature_channels = 2 * channels
        self.low_conv = nn.Sequential(*conv_norm_act(encoder_channels[0], channels, kernel=1, bias=True))
        self.aspp = ASPP(encoder_channels[-1], channels, rates)
        self.head = nn.Sequential(
            *conv_norm_act((2 + len(rates)) * channels, channels, kernel=3), nn.Dropout2d(dropout)
        )
        self.classifier = nn.Sequential(
            *conv_norm_act(self.feature_channels, channels, kernel=3, bias=True),
            nn.Dropout2d(dropout),
            *conv_norm_act(channels, channels, kernel=3, bias=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, num_classes, kernel_size=1),
        )

    def blocks(self) -> list[nn.Module]:
        """The parts in which nearly all of the decoder's activations arise; each is called once in a forward pass."""
        return [self.low_conv, *self.aspp.branches, self.head, self.classifier]

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps, shallow to deep -> logits (B, C, h, w) and features (B, D, h, w) >= 0, at the shallowest map's size."""
        low = self.low_conv(pyramid[0])  # (B, D/2, h, w)
        deep = self.head(self.aspp(pyramid[-1]))  # (B, D/2, h', w')
        features = torch.cat([low, resize(deep, (low.shape[-2], low.shape[-1]))], dim=1)  # (B, D, h, w)
        return self.classifier(features), features


class AuxHead(nn.Sequential):
    """The auxiliary classifier U2PL puts on the third stage: maps (B, X, h, w) -> logits (B, C, h, w)."""

    def __init__(self, inputs: int, num_classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        super().__init__(
            *conv_norm_act(inputs, channels, kernel=3, bias=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, num_classes, kernel_size=1),
        )
