"""CorrMatch's correlations (Sun et al., CVPR 2024): which places of an image belong together, and what follows from it.

f1, f2 = two 1x1 convolutions of a projection of the encoder's last map          (B, C, N), N = h' x w' places
A      = softmax(f1^T f2 / sqrt(C)) over the last dimension                      (B, N, N)
z      = logits A: every place hands its logits on to all, in shares that sum to 1
region = where a row of A, at image size, is above the middle between its least and its greatest value

A is never there as a whole: of N = 4,225 places (513 x 513 pixels, stride 8) it would take 71 MB per image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semiseg.parts.channel_dropout import drop_channels
from semiseg.parts.segmentor import resize
from semiseg.runtime.distributed import joined, own_rows, world_size
from semiseg.runtime.precision import full_precision
from semiseg.types import PseudoLabel

PLACES_AT_ONCE = 1024  # rows of A; more are taken in parts whose memory is given back until the backward pass
DROPPED = 0.1  # of the projection's channels


class Correlation(NamedTuple):
    """The result of `CorrelationHead`."""

    logits: Tensor  # (B, C, H, W), handed on by A
    giving: Tensor  # (B, C, N), f1
    taking: Tensor  # (B, C, N), f2
    grid: tuple[int, int]  # h', w'

    def behind(self, first: int) -> Correlation:
        """The part that belongs to the images from number `first` on."""
        return Correlation(self.logits[first:], self.giving[first:], self.taking[first:], self.grid)


class CorrelationHead(nn.Module):
    """f1 and f2 from the encoder's last map, whose width is `inputs`; `channels` is the projection's."""

    def __init__(self, inputs: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Conv2d(inputs, channels, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.giving = nn.Conv2d(channels, num_classes, kernel_size=1)
        self.taking = nn.Conv2d(channels, num_classes, kernel_size=1, bias=False)  # the softmax takes no notice of one

    def forward(
        self, deepest: Tensor, logits: Tensor, batches: Sequence[int], generator: torch.Generator
    ) -> Correlation:
        """deepest (B, X, h', w'), logits (B, C, H, W); these are handed on, and learn nothing from it.

        batches: how many of the images are of one batch, how many of the next; channels are dropped for each apart.
        """
        height, width = logits.shape[-2:]
        grid = (deepest.shape[-2], deepest.shape[-1])
        parts = self.project(deepest).split(list(batches))  # bf16 under autocast
        projected = torch.cat([drop_channels(part, DROPPED, generator) for part in parts]).float()
        with full_precision(deepest.device):
            giving, taking = (f(projected).flatten(2) for f in (self.giving, self.taking))
            handed = hand_on(resize(logits.detach().float(), grid).flatten(2), giving, taking)
            return Correlation(resize(handed.unflatten(2, grid), (height, width)), giving, taking, grid)


def shares(giving: Tensor, taking: Tensor) -> Tensor:
    """Rows of A. giving (B, C, n), taking (B, C, N) -> (B, n, N), each row with the sum 1"""
    return (giving.mT @ taking / math.sqrt(giving.shape[1])).softmax(2)


def hand_on(logits: Tensor, giving: Tensor, taking: Tensor) -> Tensor:
    """logits A, all (B, C, N); in parts where N is large."""
    parts = list(zip(logits.split(PLACES_AT_ONCE, 2), giving.split(PLACES_AT_ONCE, 2), strict=True))
    if len(parts) == 1:
        return _handed_on(logits, giving, taking)
    found = [checkpoint(_handed_on, *part, taking, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(found).sum(0)  # pyright: ignore


def _handed_on(logits: Tensor, giving: Tensor, taking: Tensor) -> Tensor:
    return logits @ shares(giving, taking)


@torch.no_grad()
def propagate(
    pseudo: PseudoLabel, correlation: Correlation, threshold: Tensor, count: int, generator: torch.Generator
) -> PseudoLabel:
    """Pseudo-labels spread over regions that are of one class, and are certain there.

    `count` rows of A are drawn for each image, with repetition. One image at a time: `count` full-size maps in float32.
    """
    if count == 0:
        return pseudo
    places = correlation.giving.shape[2]
    every = torch.randint(places, (len(pseudo.label) * world_size(), count), generator=generator)
    drawn = own_rows(every).to(pseudo.label.device, non_blocking=True)  # (B, n)
    kept, num_classes = pseudo.kept(threshold), correlation.giving.shape[1]
    size = (pseudo.label.shape[-2], pseudo.label.shape[-1])
    images = []
    for number, rows in enumerate(drawn):
        giving, taking = correlation.giving[number][:, rows], correlation.taking[number]
        region = regions(giving, taking, correlation.grid, size) & pseudo.valid[number]  # (n, H, W)
        images.append(spread(pseudo.label[number], kept[number], region, threshold, num_classes))
    label, certain = (torch.stack(maps) for maps in zip(*images, strict=True))
    return PseudoLabel(label, pseudo.confidence.masked_fill(certain, 1.0), pseudo.valid)


def regions(giving: Tensor, taking: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Where rows of one image's A, brought to `size`, are above their middle. giving (C, n), taking (C, N) -> (n, H, W)

    A row that is the same everywhere has no region, whatever rounding makes of it.
    """
    with full_precision(giving.device):
        rows = shares(giving[None], taking[None])  # (1, n, N)
        full = resize(rows.unflatten(2, grid), size)[0]  # (n, H, W)
    least, most = full.aminmax(dim=2)
    middle = (least.amin(1) + most.amax(1)) / 2
    return full > (1 + 1e-6) * middle[:, None, None]


def spread(
    label: Tensor, certain: Tensor, region: Tensor, threshold: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The class of a region's certain pixels for all of the region, where they are enough and agree; one image.

    label (H, W) uint8, certain (H, W) bool, region (n, H, W) bool. Enough: their share of the region is at least
    `threshold`. They agree: more than that share of them has one class. All regions are judged by what came; where two
    overlap, the later one's class holds.

    Returns the labels (H, W), and where regions gave them (H, W).
    """
    classes = torch.arange(num_classes, device=label.device)
    seen = (label == classes[:, None, None]) & certain  # (C, H, W)
    with full_precision(label.device):
        counts = region.flatten(1).float() @ seen.flatten(1).float().T  # (n, C), whole numbers
    (most, majority), sure = counts.max(1), counts.sum(1)
    enough, agree = sure >= threshold * region.flatten(1).sum(1), most > threshold * sure
    order = torch.arange(1, len(region) + 1, dtype=torch.int16, device=label.device) * (enough & agree)
    last = (region * order[:, None, None]).amax(0).long()  # (H, W), 0 where none
    given = torch.cat([majority[:1], majority])[last].to(label.dtype)
    return torch.where(last > 0, given, label), last > 0


def greatest_by_class(pseudo: PseudoLabel, num_classes: int) -> Tensor:
    """The greatest confidence with which each class is predicted anywhere in the batch; 0 if it is not. (C,) float32"""
    confidence = (pseudo.confidence.float() * pseudo.valid).flatten()
    none = torch.zeros(num_classes, device=confidence.device)
    own = none.scatter_reduce(0, pseudo.label.flatten().long(), confidence, "amax")
    return joined(own[None]).amax(0)


def followed(threshold: Tensor, greatest: Tensor, momentum: float) -> Tensor:
    """The threshold, drawn towards the mean of `greatest` (C,) over the classes that were predicted; scalar."""
    predicted = greatest > 0
    mean = greatest.sum() / predicted.sum().clamp(min=1)
    return torch.where(predicted.any(), momentum * threshold + (1 - momentum) * mean, threshold)
