"""Predictions become pseudo-labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def labelling() -> Iterator[None]:
    """In here a network that learns in the same step only labels: no gradient.

    Autocast keeps the weights it has cast for the next pass; in torch 2.6 also those that it cast without gradient, and
    then nothing would be learnt. They are forgotten.
    """
    with torch.no_grad():
        yield
    torch.clear_autocast_cache()
