"""Boundary F: how much of the true outlines a prediction finds, and how much of its own outlines are true.

Of one class c and a tolerance of t pixels, after Csurka et al. (BMVC 2013) and the benchmark DAVIS (CVPR 2016):

    precision = share of the prediction's boundary pixels of c with a true boundary pixel of c within t
    recall    = share of the true boundary pixels of c with a predicted boundary pixel of c within t
    F         = 2 precision recall / (precision + recall)

A boundary pixel of c is a pixel of c beside a labelled pixel of another class: above, below, left or right of it. The
image's border is none. Nothing is known below ignored pixels, so boundary pixels within t of one are matched against
but not counted.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg.data.dataset import Pixels
from semiseg.types import IGNORE

TOLERANCE = 0.0075
"""Of the image's diagonal, as in DAVIS."""

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


def tolerance_pixels(shape: tuple[int, ...], tolerance: float = TOLERANCE) -> int:
    """`tolerance` of the diagonal of an image of `shape` (H, W), in whole pixels, rounded up; at least 1."""
    return max(1, math.ceil(tolerance * math.hypot(*shape[:2])))


def boundary_matches(prediction: Pixels, truth: Pixels, num_classes: int, tolerance: int) -> Counts:
    """Boundary pixels of each class: predicted, of these matched, true, of these matched. (C, 4)

    prediction, truth (H, W) uint8, 0..C-1, the truth also IGNORE; `tolerance` in pixels. Counts of images add up.
    """
    known = truth != IGNORE
    counted = ~_within(~known, tolerance)
    counts = np.zeros((num_classes, 4), np.int64)
    for number in np.union1d(np.unique(truth[known]), np.unique(prediction[known])).tolist():
        predicted, true = (_boundary(label == number, known) for label in (prediction, truth))
        for place, (own, other) in enumerate(((predicted, true), (true, predicted))):
            own_counted = own & counted
            counts[number, 2 * place] = own_counted.sum()
            counts[number, 2 * place + 1] = (own_counted & _within(other, tolerance)).sum()
    return counts


def boundary_f(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """F of each class from counts (..., C, 4), in [0, 1]; NaN where no counted pixel is on a true boundary. (..., C)"""
    predicted, found, true, hit = np.moveaxis(counts.astype(np.float64), -1, 0)
    shape = predicted.shape
    precision = np.divide(found, predicted, out=np.zeros(shape), where=predicted > 0)
    recall = np.divide(hit, true, out=np.zeros(shape), where=true > 0)
    both = precision + recall
    score = np.divide(2 * precision * recall, both, out=np.zeros(shape), where=both > 0)
    return np.where(true > 0, score, np.nan)


def _boundary(mask: Mask, known: Mask) -> Mask:
    """The labelled pixels of `mask` beside a labelled pixel that is not in it. (H, W)"""
    inside, outside = mask & known, ~mask & known
    beside = np.zeros_like(mask)
    beside[1:] |= outside[:-1]
    beside[:-1] |= outside[1:]
    beside[:, 1:] |= outside[:, :-1]
    beside[:, :-1] |= outside[:, 1:]
    return inside & beside


def _within(mask: Mask, distance: int) -> Mask:
    """The pixels whose distance to a pixel of `mask`, from centre to centre, is at most `distance`. (H, W)"""
    if not mask.any():
        return np.zeros_like(mask)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away <= distance + 1e-3  # the roots of whole numbers, in float32
