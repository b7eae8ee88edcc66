"""The confusion matrix and its scores, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from semiseg.types import IGNORE

BINS = 15  # of Guo et al.
UNITS = 2**24  # as fine as float32 is below 1


@dataclass(frozen=True)
class ConfusionMatrix:
    """Pixels by true class (row) and predicted class (column)."""

    counts: np.ndarray  # (C, C) int64

    @classmethod
    def empty(cls, num_classes: int) -> ConfusionMatrix:
        """No pixel yet."""
        return cls(np.zeros((num_classes, num_classes), dtype=np.int64))

    @classmethod
    def of(cls, prediction: Tensor, label: Tensor, num_classes: int) -> ConfusionMatrix:
        """The matrix of one prediction; both any shape, int64, 0..C-1; pixels whose label is IGNORE do not count."""
        counted = label != IGNORE
        pairs = label[counted] * num_classes + prediction[counted]
        counts = torch.bincount(pairs.flatten(), minlength=num_classes**2)
        return cls(counts.view(num_classes, num_classes).cpu().numpy())

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return ConfusionMatrix(self.counts + other.counts)

    def iou(self) -> np.ndarray:
        """Intersection over union per class, in [0, 1]; NaN for a class that no label shows. (C,)

        Pixels that are predicted as such a class are wrong for the class that they are of.
        """
        hits, shown = self.counts.diagonal(), self.counts.sum(1)
        union = self.counts.sum(0) + shown - hits
        return _ratio(hits, np.where(shown > 0, union, 0))

    def miou(self) -> float:
        """Mean of `iou` over the classes that have one, in [0, 1]; NaN without any pixel."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def dice(self) -> np.ndarray:
        """Dice coefficient per class, 2 hits / (true + predicted), in [0, 1]; NaN for a class that no label shows. (C,)

        It is F1 of the pixels, and 2 IoU / (1 + IoU).
        """
        hits, shown = self.counts.diagonal(), self.counts.sum(1)
        return _ratio(2 * hits, np.where(shown > 0, shown + self.counts.sum(0), 0))

    def recall(self) -> np.ndarray:
        """Share of each class's pixels that are predicted as such; NaN for an absent class. (C,)"""
        return _ratio(self.counts.diagonal(), self.counts.sum(1))

    def precision(self) -> np.ndarray:
        """Share of the pixels predicted as a class that are of it; NaN for a class never predicted. (C,)"""
        return _ratio(self.counts.diagonal(), self.counts.sum(0))

    def accuracy(self) -> float:
        """Share of all pixels that are right; NaN without any pixel."""
        return float(_ratio(np.array([self.counts.trace()]), np.array([self.counts.sum()]))[0])


@dataclass(frozen=True)
class Calibration:
    """Pixels by confidence: whether what is said with 80 % is right in 80 of 100 cases (Guo et al., ICML 2017).

    Bin i of BINS holds the confidences in (i / BINS, (i + 1) / BINS].
    """

    pixels: np.ndarray  # (BINS,) int64
    right: np.ndarray  # (BINS,) int64, pixels whose predicted class is the true one
    confidence: np.ndarray  # (BINS,) int64, their confidences summed, in 1 / UNITS: no order of adding changes it

    @classmethod
    def empty(cls) -> Calibration:
        """No pixel yet."""
        return cls(*np.zeros((3, BINS), np.int64))

    @classmethod
    def of(cls, confidence: Tensor, prediction: Tensor, label: Tensor) -> Calibration:
        """The counts of one prediction; all of one shape, confidence in [0, 1]; pixels labelled IGNORE do not count."""
        counted = label != IGNORE
        confidence = confidence[counted]
        place = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
        right = (prediction == label)[counted].long()
        pixels = torch.bincount(2 * place + right, minlength=2 * BINS).view(BINS, 2).cpu().numpy()
        units = (confidence.double() * UNITS).round()  # whole numbers, of which float64 adds 2^29 exactly
        total = torch.bincount(place, weights=units, minlength=BINS).long().cpu().numpy()
        return cls(pixels.sum(1), pixels[:, 1], total)

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.pixels + other.pixels, self.right + other.right, self.confidence + other.confidence)

    def to_dict(self) -> dict[str, list]:
        """By bin: its pixels, the right ones, and their mean confidence in per cent, NaN for an empty bin."""
        confidence = 100 * _ratio(self.confidence / UNITS, self.pixels)
        return {"pixels": self.pixels.tolist(), "right": self.right.tolist(), "confidence": confidence.tolist()}

    def error(self) -> float:
        """Expected calibration error, in [0, 1]: |accuracy - confidence| of the bins, weighted by their pixels."""
        apart = np.abs(self.right - self.confidence / UNITS)
        return float(_ratio(apart.sum(keepdims=True), self.pixels.sum(keepdims=True))[0])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
