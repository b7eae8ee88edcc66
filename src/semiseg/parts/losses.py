"""Losses, as pure functions. Each says what it divides by, and what it gives when nothing is left: 0, never NaN.

Under DDP every denominator is summed over all ranks. The value on one rank is not meaningful on its own; the mean over
ranks is the batch loss, and DDP averages the gradients the same way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.config.options import LossOptions
from semiseg.runtime.distributed import joined, sum_over_ranks_, world_size
from semiseg.types import IGNORE


def pixel_count(weight: Tensor, least: float = 1.0) -> Tensor:
    """Number of counted pixels, averaged over ranks and at least `least`. Divide a sum by it to get a mean. Scalar

    weight: any shape, bool or float, 1 or True where a pixel counts. With several processes, the mean of their totals.
    """
    return sum_over_ranks_(weight.sum()).clamp(min=least) / world_size()


def share(mask: Tensor, of: Tensor) -> Tensor:
    """Share of the pixels of `of` that are in `mask` too; 0 without any. Scalar"""
    return sum_over_ranks_((mask & of).sum()) / sum_over_ranks_(of.sum()).clamp(min=1)


def cross_entropy(logits: Tensor, label: Tensor, count: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pixels that are not IGNORE (Eq. 5 and 6). Scalar

    logits (B, C, H, W) and label (B, H, W), or (N, C) and (N,). Without such a pixel: 0, with a gradient of 0.
    count: what the sum is divided by, where it is not the number of these pixels (`LabeledBatch.pixels`).
    weight: (C,), of each pixel's loss by its label; the sum of weighted losses has the same divisor.
    """
    total = F.cross_entropy(logits.float(), label, weight, ignore_index=IGNORE, reduction="sum")
    return total / (pixel_count(label != IGNORE) if count is None else count)


def ohem_cross_entropy(
    logits: Tensor, label: Tensor, threshold: float, min_kept: int, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy over hard pixels: mean over pixels whose true class has probability <= max(threshold, q). Scalar

    q is the min_kept-th smallest such probability in the batch, so at least min_kept pixels stay; all of them when the
    batch has fewer, because IGNORE counts as probability 1 here. Online hard example mining as U2PL and the authors'
    release have it. Without a pixel: 0. weight: (C,), of the kept pixels' losses; the choice does not see it.
    """
    pixel_loss = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none").flatten()
    valid = (label != IGNORE).flatten()
    probability = torch.where(valid, (-pixel_loss.detach()).exp(), torch.ones_like(pixel_loss))
    # The smallest of all are among the smallest of each process.
    smallest = joined(probability.topk(min(min_kept, probability.numel()), largest=False, sorted=False).values)
    kth = smallest.kthvalue(min(min_kept, smallest.numel())).values
    hard = valid & (probability <= kth.clamp(min=threshold))
    if weight is not None:
        pixel_loss = pixel_loss * weight.take(label.masked_fill(label == IGNORE, 0)).flatten()
    return (pixel_loss * hard).sum() / pixel_count(hard)


def supervised_loss(
    logits: Tensor,
    label: Tensor,
    options: LossOptions,
    count: Tensor | None = None,
    class_pixels: Tensor | None = None,
) -> Tensor:
    """The cross-entropy the options name. Scalar. `count` as in `cross_entropy`; OHEM counts what it keeps.

    class_pixels: (C,), the labelled pixels of each class in all labelled images, for the options that need them.
    """
    weight = None
    if options.reads_class_pixels:
        assert class_pixels is not None, "a method with these options has counted"
        if options.logit_adjust:
            shift = options.logit_adjust * log_shares(class_pixels)  # (C,)
            logits = logits.float() + shift.view(-1, *[1] * (logits.ndim - 2))
        if options.class_weights != "none":
            weight = class_weights(class_pixels, options.class_weights)
    if options.kind == "ohem":
        return ohem_cross_entropy(logits, label, options.ohem_threshold, options.ohem_min_kept, weight)
    return cross_entropy(logits, label, count, weight)


def class_weights(class_pixels: Tensor, kind: str) -> Tensor:
    """What a labelled pixel of each class weighs; the mean over all labelled pixels is 1. (C,) float32

    class_pixels: (C,) whole numbers. `sqrt`: in proportion to share^(-1/2). `effective`: to 1 / E, with the effective
    number of samples E = (1 - beta^n) / (1 - beta) of n pixels (Cui et al. 2019, Eq. 2). The paper leaves beta open; it
    is 1 - 1 / N here, N the mean number of pixels of a class that has some, so that nothing depends on the pictures'
    size: classes far rarer than the mean weigh about 1 / share, and those far more common all alike. A class without a
    pixel weighs 1.
    """
    pixels = class_pixels.double()
    share = pixels / pixels.sum().clamp(min=1)
    if kind == "sqrt":
        inverse = share.rsqrt()
    else:
        assert kind == "effective", kind
        rest = (pixels > 0).sum() / pixels.sum().clamp(min=1)  # 1 - beta
        inverse = rest / (1 - (1 - rest) ** pixels)
    inverse = torch.where(pixels > 0, inverse, 0.0)
    return torch.where(pixels > 0, inverse / (share * inverse).sum(), 1.0).float()


def log_shares(class_pixels: Tensor) -> Tensor:
    """Logarithm of each class's share of the labelled pixels, log pi in Menon et al. 2021, Eq. 10. (C,) float32

    Of a class without a pixel 0, as if all were of it: so nothing raises its logits, which no label would lower again.
    """
    share = class_pixels.double() / class_pixels.sum().clamp(min=1)
    return torch.where(class_pixels > 0, share.log(), 0.0).float()


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum(p^2) + sum(t^2)), mean over every class that an image shows, of all images. Scalar

    The sums are over the pixels of one image that are not IGNORE; p is the softmax and t is 1 where the label is the
    class (Milletari et al. 2016). logits (B, C, H, W), label (B, H, W). Without a labelled pixel: 0.
    """
    probability = logits.float().softmax(1) * (label != IGNORE)[:, None]  # (B, C, H, W)
    target = label[:, None] == torch.arange(logits.shape[1], device=label.device)[:, None, None]  # (B, C, H, W)
    size = target.sum((2, 3))  # (B, C)
    overlap = (probability * target).sum((2, 3))
    both = (probability.square().sum((2, 3)) + size).clamp(min=1)  # of a class that is shown, size is 1 or more
    loss = 1 - 2 * overlap / both
    return (loss * (size > 0)).sum() / pixel_count(size > 0)


def unlabeled_denominator(kept: Tensor, valid: Tensor, denominator: str) -> Tensor:
    """What the summed loss of the kept pixels is divided by; with several processes, like `pixels`. Scalar

    kept and valid are masks of one shape. `all`: the valid pixels, Eq. 9-10 up to a constant. `kept`: the kept ones.
    `u2pl`: kept^2 / valid, that is (valid / kept) x the mean over kept, which grows as fewer pixels are kept.
    """
    if denominator == "all":
        return pixel_count(valid)
    if denominator == "kept":
        return pixel_count(kept)
    assert denominator == "u2pl", denominator
    n_kept, n_valid = (sum_over_ranks_(mask.sum()).float() for mask in (kept, valid))
    return torch.where(n_kept > 0, n_kept.square() / n_valid.clamp(min=1), 1.0) / world_size()


def kept_cross_entropy_sum(logits: Tensor, label: Tensor, kept: Tensor) -> Tensor:
    """Cross-entropy summed over the kept pixels; pixels of label IGNORE add nothing. Scalar

    logits (B, C, H, W) with label, uint8 or int64, and kept (B, H, W), or (N, C) with (N,).
    """
    taught = label.long().masked_fill(~kept, IGNORE)
    return F.cross_entropy(logits.float(), taught, ignore_index=IGNORE, reduction="sum")


def kept_cross_entropy(logits: Tensor, label: Tensor, kept: Tensor, valid: Tensor, denominator: str) -> Tensor:
    """Cross-entropy with the pixels that may teach (Eq. 9 and 10), over `unlabeled_denominator`. Scalar

    Shapes as in `kept_cross_entropy_sum`, valid like kept. Without a kept pixel: 0.
    """
    return kept_cross_entropy_sum(logits, label, kept) / unlabeled_denominator(kept, valid, denominator)


def kept_divergence(logits: Tensor, target: Tensor, kept: Tensor, valid: Tensor) -> Tensor:
    """KL(target || softmax(logits)) of the kept pixels, summed, over the number of the valid ones. Scalar

    logits (B, C, H, W); target (B, C, H, W) probabilities; kept and valid (B, H, W) bool. CorrMatch. Without a kept
    pixel: 0.
    """
    divergence = F.kl_div(logits.float().log_softmax(1), target, reduction="none").sum(1)  # (B, H, W)
    return (divergence * kept).sum() / pixel_count(valid)


def soft_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy with a class distribution, mean over the valid pixels. Scalar

    logits (B, C, H, W); target (B, C, H, W) probabilities; valid (B, H, W) bool. PseudoSeg. Without a pixel: 0.
    """
    per_pixel = -(target * logits.float().log_softmax(1)).sum(1)  # (B, H, W)
    return (per_pixel * valid).sum() / pixel_count(valid)


def classes_shown(label: Tensor, num_classes: int) -> Tensor:
    """Whether an image has a pixel of each class. (B, C) bool; label (B, H, W) with classes 0..C-1 or IGNORE"""
    slots = label.masked_fill(label == IGNORE, num_classes).flatten(1)  # (B, HW), one more slot for IGNORE
    shown = torch.zeros(len(label), num_classes + 1, dtype=torch.bool, device=label.device)
    return shown.scatter_(1, slots, True)[:, :num_classes]


def presence_loss(logits: Tensor, shown: Tensor) -> Tensor:
    """Binary cross-entropy of which classes an image shows, mean over classes and over images. Scalar

    logits (B, F) of the last F classes; shown (B, C) bool, of `classes_shown`. An image without a class, so without a
    labelled pixel, does not count. PseudoSeg. Without an image: 0.
    """
    known = shown.any(1)  # (B,)
    target = shown[:, shown.shape[1] - logits.shape[1] :].float()  # (B, F)
    per_image = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(1)
    return (per_image * known).sum() / pixel_count(known)


def weighted_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """Cross-entropy of the kept pixels in a weighted mean over all, in which the others are 0. Scalar

    logits (B, C, H, W), label (B, H, W) uint8 or int64, a class in every pixel, weight (B, H, W) float, kept (B, H, W)
    bool: the sum is divided by the total of all weights. AEL, Eq. 8. Without weight, or a kept pixel: 0.
    """
    per_pixel = F.cross_entropy(logits.float(), label.long(), reduction="none")  # (B, H, W)
    return (per_pixel * (weight * kept)).sum() / pixel_count(weight, least=1e-12)


def softmax_mse(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Squared difference of two class distributions, mean over classes and over the valid pixels. Scalar

    logits (B, C, H, W); target (B, C, H, W) probabilities; valid (B, H, W) bool. Mean Teacher. Without a pixel: 0.
    """
    return softmax_squared_distance(logits, target, valid) / logits.shape[1]


def softmax_squared_distance(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Squared difference of two class distributions, summed over classes, weighted mean over pixels. Scalar

    weight (B, H, W), bool or float: the sum is divided by the weights' total. CutMix-Seg. Without weight: 0.
    """
    distance = (logits.float().softmax(1) - target).square().sum(1)  # (B, H, W)
    return (distance * weight).sum() / pixel_count(weight, least=1e-12)
