"""Flaw maps of GCT (Ke et al., ECCV 2020): where a prediction is wrong, as a detector sees it and as labels tell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.parts.losses import pixel_count
from semiseg.parts.segmentor import resize
from semiseg.runtime.precision import full_precision
from semiseg.types import IGNORE

FLAWLESS = 0.1  # a map without a greater value than this has no flaw
STRIDES = (2, 2, 1, 2, 1, 2, 1)  # of the detector's layers before the last
WIDTHS = (1, 2, 2, 4, 4, 8, 8)  # likewise, channels as multiples of the first layer's


class FlawDetector(nn.Module):
    """Eight convolutions, at stride 32, that see an image and what was predicted for it."""

    def __init__(self, num_classes: int, channels: int = 64, bands: int = 3) -> None:
        super().__init__()
        widths = [bands + num_classes, *(channels * factor for factor in WIDTHS)]
        self.layers = nn.Sequential()
        for before, after, stride in zip(widths[:-1], widths[1:], STRIDES, strict=True):
            convolution = _Convolution(before, after, stride, bias=False)
            self.layers.append(nn.Sequential(convolution, HalfBatchNorm(after), nn.LeakyReLU(0.2)))
        self.last = _Convolution(widths[-1], 1, 2, bias=True)

    def forward(self, image: Tensor, probability: Tensor) -> Tensor:
        """Flaw of (B, N, H, W) under class probabilities (B, C, H, W): 0 where right, about 1 where not. (B, H, W)"""
        flaw = self.last(self.layers(torch.cat([image, probability], 1)))  # (B, 1, h, w)
        return resize(flaw.float(), (image.shape[-2], image.shape[-1])).squeeze(1)


class _Convolution(nn.Conv2d):
    """4 x 4, with as much padding as leaves one n-th of every side, rounded up, at stride n: no image is too small."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, bias: bool) -> None:
        super().__init__(channels_in, channels_out, 4, stride, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (1, 2, 1, 2)))


class HalfBatchNorm(nn.Module):
    """BatchNorm for the first half of the channels, without running statistics; InstanceNorm for the others.

    GroupNorm with a group for each channel is InstanceNorm that takes maps of one pixel too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = (channels + 1) // 2
        self.batch = nn.BatchNorm2d(self.first, track_running_stats=False)
        self.instance = nn.GroupNorm(channels - self.first, channels - self.first, affine=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, X, h, w) -> the same shape."""
        return torch.cat([self.batch(maps[:, : self.first]), self.instance(maps[:, self.first :])], 1)


@torch.no_grad()
def flaw_target(probability: Tensor, label: Tensor) -> Tensor:
    """The detector's target: where labels are missed, spread and stretched to [0, 1]. (B, H, W)

    probability (B, C, H, W), label (B, H, W). The flaw of a pixel is half the distance, summed over classes, between
    its probabilities and its label, which is 1 - the probability of its class; 0 without a label. It is blurred,
    dilated and blurred again (the map C of the paper, with one repetition): blobs are learnt more easily than specks.
    """
    with full_precision(probability.device):
        known = label != IGNORE
        true = probability.float().gather(1, label.masked_fill(~known, 0)[:, None]).squeeze(1)
        flaw = blurred((1 - true).masked_fill(~known, 0.0), 8)
        return stretched(blurred(F.max_pool2d(flaw[:, None], 3, 1, 1).squeeze(1), 4))


@torch.no_grad()
def flaw_map(flaw: Tensor) -> Tensor:
    """The detector's answer (B, H, W), to be compared: blurred and stretched to [0, 1]; 0 without a flaw."""
    with full_precision(flaw.device):
        smooth = blurred(flaw.float().relu(), 16)
        flawless = smooth.amax((1, 2), keepdim=True) <= FLAWLESS
        return stretched(smooth).masked_fill(flawless, 0.0)


def blurred(maps: Tensor, part: int) -> Tensor:
    """Each of (B, H, W) under a Gaussian as wide as one `part`-th of the shorter side; mirrored at the border.

    The width is made odd; the standard deviation follows from it as in OpenCV.
    """
    size = min(maps.shape[-2:]) // part // 2 * 2 + 1
    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    offsets = torch.arange(size, device=maps.device) - size // 2
    kernel = torch.softmax(-0.5 * (offsets / sigma) ** 2, 0)
    padded = F.pad(maps[:, None], [size // 2] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).squeeze(1)


def stretched(maps: Tensor) -> Tensor:
    """Each of (B, H, W) from 0, its least value, to 1, its greatest; 0 where it has but one."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-9)


@torch.no_grad()
def consistency_targets(
    probability: tuple[Tensor, Tensor], flaw: tuple[Tensor, Tensor], threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of two predictions each pixel's less flawed one, for both to agree on; and where both are flawed.

    probability: of left and right, (B, C, H, W); flaw: their maps (B, H, W). A pixel keeps its own prediction, which
    asks nothing of it, unless the other's flaw is smaller; flaws above `threshold` are alike. Returns the targets of
    left and right (B, C, H, W) and the mask (B, H, W).
    """
    flawed = [maps > threshold for maps in flaw]
    left_flaw, right_flaw = (maps.masked_fill(bad, 1.0) for maps, bad in zip(flaw, flawed, strict=True))
    left, right = probability
    from_left, from_right = (right_flaw > left_flaw)[:, None], (left_flaw > right_flaw)[:, None]
    return torch.where(from_right, right, left), torch.where(from_left, left, right), flawed[0] & flawed[1]


def flaw_correction(flaw: Tensor, where: Tensor, valid: Tensor) -> Tensor:
    """Squared flaw of the pixels in `where`, over the number of valid pixels. Scalar

    flaw (B, H, W), where and valid (B, H, W) bool. Without a valid pixel: 0.
    """
    return (flaw.float().square() * (where & valid)).sum() / pixel_count(valid)


def detection_loss(flaw: Tensor, target: Tensor, label: Tensor, count: Tensor | None = None) -> Tensor:
    """Squared difference, mean over the pixels with a label. Scalar

    flaw, target and label (B, H, W). Without such a pixel: 0. count: what the sum is divided by, where it is not their
    number (`LabeledBatch.pixels`).
    """
    known = label != IGNORE
    total = ((flaw.float() - target).square() * known).sum()
    return total / (pixel_count(known) if count is None else count)
