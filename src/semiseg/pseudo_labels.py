"""Predictions become pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.types import PseudoLabel


@torch.no_grad()
def pseudo_label(logits: Tensor, valid: Tensor) -> PseudoLabel:
    """The likeliest class and its probability at full resolution (3.3), uint8 and float16.

    logits (B, C, H, W) at image size, valid (B, H, W) bool. No threshold here: the confidence travels through the mix.
    """
    confidence, label = logits.float().softmax(1).max(1)
    return PseudoLabel(label.byte(), confidence.half(), valid)
