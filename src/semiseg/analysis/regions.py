"""The regions of an image: the pixels predicted as one class, what they are like, and how the model doubts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semiseg.parts.segmentor import resize

LEAST = 0.003  # of the image's pixels; a predicted class with fewer is no region


@dataclass(frozen=True)
class Regions:
    """R regions of one image, or of several one after the other."""

    image: NDArray[np.int64]
    """(R,), which image each is of, ascending."""
    label: NDArray[np.int64]
    """(R,), the class."""
    doubt: NDArray[np.float64]
    """(R,), the mean entropy of the pixels, over log C: in [0, 1]."""
    vectors: NDArray[np.float32]
    """(R, D), the mean of the features of the pixels."""


def stacked(images: Sequence[Regions], channels: int) -> Regions:
    """The regions of several images, each numbered by its place. channels: D, needed where there is no image."""
    places = [np.full(len(each.label), place, np.int64) for place, each in enumerate(images)]
    return Regions(
        np.concatenate([np.zeros(0, np.int64), *places]),
        np.concatenate([np.zeros(0, np.int64), *(each.label for each in images)]),
        np.concatenate([np.zeros(0), *(each.doubt for each in images)]),
        np.concatenate([np.zeros((0, channels), np.float32), *(each.vectors for each in images)]),
    )


def entropy(probabilities: Tensor, dim: int) -> Tensor:
    """- sum_k p_k log p_k / log C over the classes along `dim`: in [0, 1]."""
    logs = probabilities.clamp_min(1e-12).log()
    return -(probabilities * logs).sum(dim) / log(probabilities.shape[dim])


class RegionSums:
    """Pixels, entropies and features of each class of an image, added up over its windows.

    Each window counts by its own prediction, so that no map of the whole image is kept; pixels that two windows see
    count twice. An image that is predicted whole is one window.
    """

    def __init__(self) -> None:
        none = torch.zeros((), dtype=torch.float64)
        self.pixels = self.entropies = self.features = none  # (C,), (C,) and (C, D) from the first window on

    def add_(self, logits: Tensor, features: Tensor, counted: Tensor) -> None:
        """Add windows: (B, C, H, W), (B, D, h, w) and (B, H, W) bool, False where a pixel counts in no region.

        The mean over pixels of the features at the logits' size is what counts. Interpolation is linear, so pixels are
        weighed down to the features' size instead, which gives the same sums and needs no large map.
        """
        probabilities = logits.float().softmax(1)
        unsure, labels = entropy(probabilities, 1).double(), probabilities.argmax(1)
        classes, size, small = logits.shape[1], logits.shape[2:], features.shape[2:]
        down, across = (
            resize(torch.eye(few, device=logits.device)[None, None], (many, few))[0, 0]  # (H, h), (W, w)
            for many, few in zip(size, small, strict=True)
        )
        sums = torch.zeros(classes, features.shape[1], dtype=torch.float64, device=logits.device)
        for window, label, count in zip(features.float(), labels, counted, strict=True):
            for one in label[count].unique().tolist():
                weights = down.T @ ((label == one) & count).float() @ across  # (h, w)
                sums[one] += (window.flatten(1) @ weights.flatten()).double()
        seen = labels[counted]
        self.pixels = self.pixels + torch.bincount(seen, minlength=classes).cpu()
        self.entropies = self.entropies + torch.bincount(seen, unsure[counted], minlength=classes).cpu()
        self.features = self.features + sums.cpu()

    def regions(self) -> Regions:
        """Of the classes that have at least LEAST of the pixels, and one."""
        kept = (self.pixels >= max(1.0, LEAST * float(self.pixels.sum()))).nonzero()[:, 0]
        pixels = self.pixels[kept]
        return Regions(
            np.zeros(len(kept), np.int64),
            kept.numpy(),
            (self.entropies[kept] / pixels).clamp(0, 1).double().numpy(),
            (self.features[kept] / pixels[:, None]).float().numpy(),
        )
