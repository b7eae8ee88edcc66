"""Predictions become pseudo-labels, and some are more certain than others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from semiseg.runtime.distributed import joined, sum_over_ranks_
from semiseg.types import PseudoLabel


@torch.no_grad()
def pseudo_label(logits: Tensor, valid: Tensor) -> PseudoLabel:
    """The likeliest class and its probability at full resolution (3.3), uint8 and float16.

    logits (B, C, H, W) at image size, valid (B, H, W) bool. No threshold here: the confidence travels through the mix.
    """
    confidence, label = logits.float().softmax(1).max(1)
    return PseudoLabel(label.byte(), confidence.half(), valid)


@torch.no_grad()
def calibrated_fusion(logits: Tensor, others: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """One class distribution from two sources whose logits differ in scale (PseudoSeg, Zou et al. 2021, 3.2).

    Both are divided by one number, the root mean square of both over all valid pixels of the batch, of all processes;
    the mean of their softmaxes is sharpened: raised to 1 / temperature, and normalised again.

    logits and others (B, C, H, W), valid (B, H, W) bool. Returns (B, C, H, W) float32.
    """
    both = torch.stack([logits, others]).float()  # (2, B, C, H, W)
    squares = (both.square().sum((0, 2)) * valid).sum()  # a number each, summed in one exchange
    total, count = sum_over_ranks_(torch.stack([squares, valid.sum() * 2.0 * logits.shape[1]]))
    return sharpened_fusion(both, total / count.clamp(min=1), temperature)


def sharpened_fusion(both: Tensor, mean_square: Tensor, temperature: float) -> Tensor:
    """`calibrated_fusion` of (2, B, C, H, W) logits with known mean square: a scalar, or each image's (B, 1, 1, 1)."""
    fused = (both * (mean_square + 1e-8).rsqrt()).softmax(2).mean(0)
    # Sharpened as logarithms: the root of a small probability would be lost in float32.
    return (fused.clamp(min=torch.finfo(fused.dtype).tiny).log() / temperature).softmax(1)


@torch.no_grad()
def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of logits (B, C, H, W), in nats. (B, H, W) float32

    One image at a time: the softmax of all would take as much memory as the logits.
    """
    logarithms = (each.float().log_softmax(0) for each in logits)  # (C, H, W)
    return torch.stack([-(logarithm.exp() * logarithm).sum(0) for logarithm in logarithms])


@torch.no_grad()
def quantiles(values: Tensor, counted: Tensor, *shares: float) -> list[Tensor]:
    """Below each lies one of `shares` of the batch's counted values, linearly between neighbours. Scalars

    values: any shape, float; counted: likewise, bool. Where nothing is counted, the largest number there is.
    """
    largest = torch.finfo(torch.float32).max
    every = joined(values.float().masked_fill(~counted, largest).flatten()).sort().values
    last = (sum_over_ranks_(counted.sum()) - 1).clamp(min=0).double()
    return [_between(every, last * share) for share in shares]


def _between(ordered: Tensor, place: Tensor) -> Tensor:
    """The value at a place (), not a whole number, of ordered (N,) values."""
    below, above = (ordered.take(side.long()) for side in (place.floor(), place.ceil()))
    return (below + (above - below) * (place - place.floor())).float()


@contextlib.contextmanager
def without_learning() -> Iterator[None]:
    """`no_grad` for a forward pass of a network that is also trained in this step.

    It clears autocast's weight cache: torch 2.6 would otherwise reuse casts made without gradient in the training pass.
    """
    with torch.no_grad():
        yield
    torch.clear_autocast_cache()
