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


def aligning_shift(seen: Tensor, class_pixels: Tensor) -> Tensor:
    """What is added to logits so that their softmax becomes p x share / seen, normalised again. (C,) float32

    Distribution alignment of ReMixMatch (Berthelot et al., ICLR 2020, 3.1). seen: (C,), mean probability of each class
    on unlabelled images; class_pixels: (C,) labelled pixels. A class without a labelled pixel gets -inf.
    """
    ratio = class_pixels.double() / class_pixels.sum().clamp(min=1) / seen.double().clamp(min=1e-6)
    return ratio.log().float()


def class_thresholds(sure: Tensor, class_pixels: Tensor, threshold: float) -> Tensor:
    """A threshold for each class: lower where few pixels are confident yet. (C,) float32

    Curriculum pseudo-labelling of FlexMatch (Zhang et al., NeurIPS 2021): beta / (2 - beta) x threshold, beta being
    how well a class is learnt, over the best learnt one's, or over the share of all pixels that are not confident where
    this is greater. FlexMatch counts the confident predictions of a class, because its classes are equally common; here
    they are divided by the class's share of labelled pixels, and at most 1.

    sure: (C,), share of unlabelled pixels that are confidently of each class; class_pixels: (C,) labelled pixels. A
    class without a labelled pixel has the threshold itself.
    """
    expected = class_pixels.double() / class_pixels.sum().clamp(min=1)
    learnt = torch.where(expected > 0, sure.double() / expected, 1.0).clamp(max=1)
    beta = learnt / torch.maximum(learnt.max(), 1 - sure.double().sum())
    return (threshold * beta / (2 - beta)).float()


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
