"""Pseudo-labels that make up for rare classes: what is remembered of unlabelled images between two steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.config.methods.shared import AdaptOptions
from semiseg.parts.pseudo_labels import aligning_shift, class_thresholds
from semiseg.runtime.distributed import sum_over_ranks_


class ClassAdaptation(nn.Module):
    """`method.adapt` in a step: the teacher's logits go through `logits`, the threshold through `limits`.

    It starts as if unlabelled images were as the labelled ones: then neither changes anything. With `adapt: none`
    neither ever does, and nothing is remembered.
    """

    class_pixels: Tensor  # (C,) int64, labelled pixels
    seen: Tensor  # (C,) float32, share of unlabelled pixels: mean probability, or how many are confident
    fresh: Tensor  # (C + 1,) float64, the same summed over this step's pixels, and their number

    def __init__(self, options: AdaptOptions, threshold: float, class_pixels: Tensor | None) -> None:
        """class_pixels: (C,) labelled pixels of each class; None with `adapt: none`."""
        super().__init__()
        self.options, self.threshold = options, threshold
        if options.adapt != "none":
            assert class_pixels is not None, "a method with this option has counted"
            self.register_buffer("class_pixels", class_pixels.clone())
            self.register_buffer("seen", (class_pixels.double() / class_pixels.sum()).float())
            # Between the passes and `follow`; a buffer, so that a step that is only tried leaves nothing; not saved.
            self.register_buffer("fresh", torch.zeros(len(class_pixels) + 1, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def logits(self, logits: Tensor, valid: Tensor) -> Tensor:
        """The logits (B, C, H, W) from which pseudo-labels are made; valid (B, H, W) bool. Takes note of them."""
        if self.options.adapt == "none":
            return logits
        probability = logits.float().softmax(1)
        if self.options.adapt == "distribution":
            counts = (probability * valid[:, None]).sum((0, 2, 3))  # (C,)
            self.fresh += torch.cat([counts, valid.sum()[None]])
            return logits.float() + aligning_shift(self.seen, self.class_pixels)[:, None, None]
        confidence, label = probability.max(1)
        sure = valid & (confidence >= self.threshold)
        counts = torch.zeros_like(self.class_pixels).scatter_add_(0, label.flatten(), sure.flatten().long())
        self.fresh += torch.cat([counts, valid.sum()[None]])
        return logits

    @torch.no_grad()
    def limits(self, label: Tensor) -> float | Tensor:
        """The confidence from which a pixel teaches: one number, or (B, H, W) by its label (B, H, W) uint8 or int64."""
        if self.options.adapt != "thresholds":
            return self.threshold
        limits = class_thresholds(self.seen, self.class_pixels, self.threshold)  # (C,)
        return limits.take(label.long().clamp(max=len(limits) - 1))  # IGNORE teaches nothing, whatever its limit

    @torch.no_grad()
    def confident(self, probability: Tensor) -> Tensor:
        """Where the greatest of the probabilities (B, C, H, W) reaches the limit of its class. (B, H, W) bool"""
        if self.options.adapt != "thresholds":
            return probability.amax(1) >= self.threshold
        confidence, label = probability.max(1)
        return confidence >= self.limits(label)

    @torch.no_grad()
    def follow(self) -> None:
        """The memory follows the step's pixels, of all processes; after each optimizer step."""
        if self.options.adapt == "none":
            return
        total, momentum = sum_over_ranks_(self.fresh.clone()), self.options.adapt_momentum
        counts, pixels = total[:-1], total[-1]
        followed = momentum * self.seen + (1 - momentum) * (counts / pixels.clamp(min=1)).float()
        self.seen.copy_(torch.where(pixels > 0, followed, self.seen))  # none in the warm-up
        self.fresh.zero_()
