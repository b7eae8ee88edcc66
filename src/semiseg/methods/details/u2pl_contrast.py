"""Pixels against pixels: who is an anchor, a positive and a negative of a class (U2PL: Wang et al., CVPR 2022).

Everything is a mask of the N = (B + B') h w pixels of labelled and unlabelled images, in this order, one per class.
What is drawn from a mask is drawn by number: the pixels of the whole batch are counted, labelled images first, and each
process finds its own. So nothing waits for a mask's size, and several processes draw what one would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.parts.cosine import directions
from semiseg.runtime.distributed import joined, rank, sum_over_ranks_, world_size
from semiseg.runtime.precision import full_precision
from semiseg.types import IGNORE


class Projection(nn.Sequential):
    """Features (B, D', h, w) -> representation (B, D, h, w). GroupNorm: what a pixel is does not depend on a batch."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(32, channels), channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
        )


def as_rows(maps: Tensor) -> Tensor:
    """(B, D, h, w) -> (N, D)"""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


# Roles of pixels ------------------------------------------------------------------------------------------------------


class Pixels(NamedTuple):
    """Labels and certainty of each pixel at the features' resolution."""

    label: Tensor  # (N,) int64; of unlabelled images the pseudo-label; IGNORE where there is none
    probability: Tensor  # (N, C), the teacher's
    reliable: Tensor  # (N,) bool: with a true label, or an unlabelled one of low entropy
    unreliable: Tensor  # (N,) bool: an unlabelled one of high entropy
    labeled: int  # so many, the first ones, are of labelled images


def class_masks(label: Tensor, num_classes: int) -> Tensor:
    """Which pixels (N,) are of which class. (C, N) bool"""
    return label == torch.arange(num_classes, device=label.device)[:, None]


def anchor_masks(pixels: Pixels, confidence: float) -> Tensor:
    """Reliable pixels of a class to which the teacher gives more than `confidence`. (C, N) bool"""
    own = class_masks(pixels.label, pixels.probability.shape[1])
    return own & pixels.reliable & (confidence < pixels.probability.T)


def negative_masks(pixels: Pixels, low: int, high: int) -> Tensor:
    """Pixels that the teacher may take for a class, and that are not of it. (C, N) bool

    The rank of a class at a pixel is the number of likelier ones. Labelled: a pixel of another class at which this one
    has a rank < low. Unlabelled: an unreliable one at which it has a rank in low..high - 1.
    """
    by_class = pixels.probability.T.contiguous()
    ranks = torch.stack([(by_class > own).sum(0, dtype=torch.int16) for own in by_class])  # (C, N)
    on_labeled, on_unlabeled = ranks[:, : pixels.labeled], ranks[:, pixels.labeled :]
    true, unsure = pixels.label[: pixels.labeled], pixels.unreliable[pixels.labeled :]
    other = (true != IGNORE) & ~class_masks(true, len(ranks))
    return torch.cat([other & (on_labeled < low), unsure & (on_unlabeled >= low) & (on_unlabeled < high)], 1)


def class_means(rows: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the rows (N, D) in each class's mask (C, N), over the whole batch, and their number. (C, D) and (C,)

    0 where there is none.
    """
    with full_precision(rows.device):
        sums = sum_over_ranks_(masks.float() @ rows.float())
    counts = sum_over_ranks_(masks.sum(1))
    return sums / counts.clamp(min=1)[:, None], counts


# Drawing by number ----------------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """The pixels in each class's mask, counted through the batch: all processes' labelled images, then the others."""

    mask: Tensor  # (C, N) bool, this process's pixels
    number: Tensor  # (C, N) int32: so many of the whole batch up to this pixel, itself included
    total: Tensor  # (C,) int64

    @classmethod
    def of(cls, mask: Tensor, labeled: int) -> Counted:
        """mask (C, N), of which the first `labeled` pixels are of labelled images."""
        parts = mask.split([labeled, mask.shape[1] - labeled], 1)
        own = torch.stack([part.sum(1) for part in parts])  # (2, C)
        every = joined(own[None]).transpose(0, 1).flatten(0, 1)  # (2 x processes, C), labelled parts first
        before = (every.cumsum(0) - every).unflatten(0, (2, world_size()))[:, rank()]  # (2, C)
        pairs = zip(parts, before.int(), strict=True)
        number = [part.cumsum(1, dtype=torch.int32) + start[:, None] for part, start in pairs]
        return cls(mask, torch.cat(number, 1), every.sum(0))

    def find(self, name: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Where the pixels number `wanted` (M,), from 0, of a class are, and which of them are here. (M,) and (M,) bool

        What is not here, because another process has it or nobody has, gets a place that says nothing.
        """
        wanted = wanted.int() + 1
        place = torch.searchsorted(self.number[name], wanted).clamp(max=self.mask.shape[1] - 1)
        return place, self.mask[name].gather(0, place) & (self.number[name].gather(0, place) == wanted)


def drawn_places(counted: Counted, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels by draws (C, M), uniform in [0, 1), with replacement. Places (C, M), and which are here (C, M)"""
    wanted = (draws * counted.total[:, None]).long()
    found = [counted.find(name, each) for name, each in enumerate(wanted)]
    places, here = zip(*found, strict=True)
    return torch.stack(places), torch.stack(here)


def even_sample(total: Tensor, most: int, start: Tensor) -> Tensor:
    """Numbers of `most` of `total` () things in their order, evenly spread; 0, 1, ... where no more are there. (most,)

    start: () in [0, 1). Uniform, it gives everything the same chance.
    """
    order = torch.arange(most, device=total.device)
    spread = ((order + start) * (total.double() / most)).long()
    return torch.where(total > most, spread, order)


# Memory ---------------------------------------------------------------------------------------------------------------


class ClassQueues(nn.Module):
    """The last representations that were negatives of each class; of length 1, since only cosines are taken of them.

    In every process alike, and in the order of the batch.
    """

    rows: Tensor  # (sum of sizes, D) float32, class after class, each a ring
    written: Tensor  # (C,) int64, how many a class was ever given

    def __init__(self, sizes: Sequence[int], channels: int, persistent: bool = True) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.starts = tuple(sum(self.sizes[:number]) for number in range(len(self.sizes)))
        self.register_buffer("rows", torch.zeros(sum(self.sizes), channels), persistent)
        self.register_buffer("written", torch.zeros(len(self.sizes), dtype=torch.long), persistent)

    @torch.no_grad()
    def enqueue(self, counted: Counted, rows: Tensor, most: int | None, generator: torch.Generator) -> None:
        """Give each class its pixels of rows (N, D), in the batch's order; an even sample where they are too many.

        At most `most` per class, and no more than its queue holds.
        """
        starts = torch.rand(len(self.sizes), generator=generator, dtype=torch.float64)
        starts = starts.to(rows.device, non_blocking=True)
        for name, size in enumerate(self.sizes):
            count = size if most is None else min(most, size)
            place, here = counted.find(name, even_sample(counted.total[name], count, starts[name]))
            found = sum_over_ranks_(F.normalize(rows[place].float(), dim=1) * here[:, None])
            self._write(name, found, counted.total[name].clamp(max=count))

    def _write(self, name: int, rows: Tensor, count: Tensor) -> None:
        """The first `count` () of rows (M, D) follow what was written last; M fits into the queue."""
        order = torch.arange(len(rows), device=rows.device)
        slot = self.starts[name] + (self.written[name] + order) % self.sizes[name]
        self.rows.index_copy_(0, slot, torch.where((order < count)[:, None], rows, self.rows[slot]))
        self.written[name] += count

    def draw(self, name: int, draws: Tensor) -> Tensor:
        """Rows of a class by draws (...), uniform in [0, 1), with replacement; 0 from an empty queue. (..., D)"""
        filled = self.written[name].clamp(max=self.sizes[name])
        return self.rows[self.starts[name] + (draws * filled).long()]


# The loss -------------------------------------------------------------------------------------------------------------


class Contrast(NamedTuple):
    """The teacher's side of the contrast: A anchors per class, each with M negatives."""

    place: Tensor  # (C, A) int64, of the anchors among this process's pixels
    here: Tensor  # (C, A) bool, which of them are among these
    positive: Tensor  # (C, D)
    draws: Tensor  # (C, A, M) in [0, 1), of the negatives
    usable: Tensor  # (C,) bool: with anchors and with negatives
    present: Tensor  # (), classes with reliable pixels


def contrastive_loss(rows: Tensor, contrast: Contrast, queues: ClassQueues, temperature: float) -> Tensor:
    """`anchor_losses` of every class's anchors, mean over anchors and over the classes that are present. Scalar

    rows (N, D), the student's representation. A class without anchors or negatives adds nothing. With several
    processes, like `losses.pixel_count`. Without any: 0.
    """
    anchors = rows.index_select(0, contrast.place.flatten()).unflatten(0, contrast.place.shape)  # (C, A, D)
    teaches = contrast.here & contrast.usable[:, None]
    negatives = (queues.draw(name, draws) for name, draws in enumerate(contrast.draws))  # each (A, M, D)
    by_class = zip(anchors, contrast.positive, negatives, strict=True)
    losses = torch.stack([anchor_losses(*sides, temperature) for sides in by_class])  # (C, A)
    return (losses * teaches).sum() / (contrast.place.shape[1] * contrast.present.clamp(min=1) / world_size())


def anchor_losses(anchors: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """-log of the softmax, at the positive, of the cosines over the temperature with it and all negatives. (A,)

    anchors (A, D), positive (D,), negatives (A, M, D) of length 1.
    """
    with full_precision(anchors.device):
        anchors, positive = directions(anchors.float()), directions(positive.float())
        cosines = torch.cat([(anchors @ positive)[:, None], torch.einsum("ad,amd->am", anchors, negatives)], 1)
        return -(cosines / temperature).log_softmax(1)[:, 0]
