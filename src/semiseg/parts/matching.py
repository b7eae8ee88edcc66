"""The common parts of FixMatch and its successors: strong views with boxes of their own, and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from semiseg.config.options import AugmentOptions
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import kept_cross_entropy
from semiseg.parts.mixing import mix, small_boxes
from semiseg.types import PseudoLabel


class Mixed(NamedTuple):
    """A strong view of a batch, CutMixed."""

    image: Tensor  # (B, 3, H, W)
    target: PseudoLabel  # mixed alike
    boxes: Tensor  # (B, H, W) bool, True where the partner shows


def mixed_strong_view(image: Tensor, pseudo: PseudoLabel, augment: AugmentOptions, generator: torch.Generator) -> Mixed:
    """Colours and blur by draws of its own, then boxes of its own with the next image's strong view inside."""
    strong = strong_view(image, augment, generator)
    boxes = small_boxes(image, generator)
    return Mixed(*mix(strong, pseudo, boxes), boxes)


def match(logits: Tensor, target: PseudoLabel, threshold: float | Tensor) -> Tensor:
    """Cross-entropy with the labels that reach the threshold, over the number of all valid pixels. Scalar"""
    kept = target.kept(threshold)
    return kept_cross_entropy(logits, target.label, kept=kept, valid=target.valid, denominator="all")


def scaled(losses: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Every loss times `factor`."""
    return {name: factor * loss for name, loss in losses.items()}
