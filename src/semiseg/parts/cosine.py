"""Directions of vectors, for cosines."""

from __future__ import annotations

import torch
from torch import Tensor

SHORT = 1e-12
"""A vector that is shorter has no direction."""


def reach(vectors: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
    """What vectors are divided by to have length 1: their length, or infinity where they are SHORT. Like `norm`

    So a vector without a direction becomes 0 and gets no gradient; dividing it by SHORT would make its gradient 1e12
    times what it is elsewhere.
    """
    length = vectors.norm(dim=dim, keepdim=keepdim)
    return length.masked_fill(length < SHORT, torch.inf)


def directions(vectors: Tensor, dim: int = -1) -> Tensor:
    """`vectors` at length 1; 0 for one without a direction, which gets no gradient. The same shape"""
    return vectors / reach(vectors, dim, keepdim=True)
