"""Boundary IoU, and how consistent a prediction is within each object: Fig. 4 and 5 as numbers."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg.data.dataset import Pixels
from semiseg.types import IGNORE

BAND = 0.02  # of the image's diagonal, as in Cheng et al.
SMALLEST = 25  # pixels; smaller specks of a truth are no objects
CONNECTIVITY = 8

Counts = NDArray[np.int64]


def band_width(shape: tuple[int, ...]) -> int:
    """Width in pixels of the boundary band in an image of `shape` (H, W): BAND of the diagonal, at least 1."""
    return max(1, round(BAND * math.hypot(*shape[:2])))


def boundary_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The mask's pixels that lie within `width` pixels of its outside, rows and columns. (H, W)

    The image's surroundings are outside, as in the authors' code: a mask cut by the image's border has a band there.
    """
    framed = np.pad(mask.astype(np.uint8), 1)  # with a pixel of the outside
    inner = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (inner == 0)


def boundary_counts(prediction: Pixels, truth: Pixels, num_classes: int, width: int | None = None) -> Counts:
    """Pixels in both bands, in either, and in the truth's, by class. (C, 3)

        boundary IoU of class c = |G_c(d) and P_c(d)| / |G_c(d) or P_c(d)|      (Cheng et al., CVPR 2021)

    G_c(d) and P_c(d) are the bands, d wide, inside the truth's and the prediction's mask of the class. prediction,
    truth (H, W) uint8; pixels whose truth is IGNORE are taken out of both masks. `width` None: `band_width`.
    """
    width = band_width(truth.shape) if width is None else width
    prediction = np.where(truth == IGNORE, IGNORE, prediction)
    counts = np.zeros((num_classes, 3), np.int64)
    for number in np.union1d(np.unique(truth), np.unique(prediction)):
        if number < num_classes:
            bands = [boundary_band(label == number, width) for label in (truth, prediction)]
            both, either = np.logical_and(*bands), np.logical_or(*bands)
            counts[number] = both.sum(), either.sum(), bands[0].sum()
    return counts


def object_counts(prediction: Pixels, truth: Pixels, num_classes: int) -> tuple[Counts, Counts]:
    """Predicted classes within each object of the truth: the objects' classes (M,), and counts (M, C).

    An object is a connected region of one class of the truth, pixels that touch at a corner included, of at least
    SMALLEST pixels. prediction, truth (H, W) uint8.
    """
    classes, counts = [np.zeros(0, np.int64)], [np.zeros((0, num_classes), np.int64)]
    for number in np.setdiff1d(np.unique(truth), [IGNORE]):
        mask = (truth == number).astype(np.uint8)
        count, regions = cv2.connectedComponents(mask, connectivity=CONNECTIVITY)
        inside = mask.astype(bool)
        pairs = (regions[inside].astype(np.int64) - 1) * num_classes + prediction[inside]
        found = np.bincount(pairs, minlength=(count - 1) * num_classes).reshape(count - 1, num_classes)
        found = found[found.sum(1) >= SMALLEST]
        classes.append(np.full(len(found), number, np.int64))
        counts.append(found)
    return np.concatenate(classes), np.concatenate(counts)


def consistency(counts: Counts) -> NDArray[np.float64]:
    """Chance that two pixels of an object, drawn with replacement, are predicted as one class. (M, C) -> (M,)

        consistency = sum_k p_k^2,   p_k the share of the object's pixels predicted as class k

    1 where one class fills the object, 1 / C where all classes share it evenly. The share of the most frequent class
    alone would not tell an object of two classes from one whose other half is of many. Which class it is does not
    matter: an object that is wrong throughout is consistent, so read it beside `right`.
    """
    share = counts / counts.sum(1, keepdims=True)
    return np.square(share).sum(1)


def right(classes: Counts, counts: Counts) -> NDArray[np.float64]:
    """Share of each object's pixels that are predicted as its class. (M,), (M, C) -> (M,)"""
    return counts[np.arange(len(classes)), classes] / counts.sum(1)
