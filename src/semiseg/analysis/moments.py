"""Counts, means and scatter of features by class, from a stream of any length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def at_length_1(features: Floats) -> Floats:
    """Features (N, D) divided by their lengths; one without a length stays 0."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Moments:
    """Moments of the features of each class. Moments of parts add up, as Chan, Golub and LeVeque (1979) add them.

    Sums of squares would lose their digits where features lie far from 0; scatter about the mean does not.
    """

    count: Floats  # (C,)
    mean: Floats  # (C, D), 0 for a class without a feature
    scatter: Floats  # (C,) sum of squared distances to the class's mean

    @classmethod
    def empty(cls, num_classes: int, channels: int = 1) -> Moments:
        """No feature yet; of one channel, it adds to moments of any number of channels."""
        return cls(np.zeros(num_classes), np.zeros((num_classes, channels)), np.zeros(num_classes))

    @classmethod
    def of(cls, features: Floats, label: NDArray[np.int64], num_classes: int) -> Moments:
        """Moments of features (n, D) with classes (n,), each 0..C-1."""
        count = np.bincount(label, minlength=num_classes).astype(np.float64)
        sums = np.zeros((num_classes, features.shape[1]))
        for number in np.unique(label):
            sums[number] = features[label == number].sum(0)
        mean = sums / np.maximum(count, 1)[:, None]
        scatter = np.zeros(num_classes)
        np.add.at(scatter, label, np.square(features - mean[label]).sum(1))
        return cls(count, mean, scatter)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)  # (C,) of the other in both together
        step = other.mean - self.mean
        between = np.square(step).sum(1) * self.count * share
        return Moments(count, self.mean + step * share[:, None], self.scatter + other.scatter + between)

    def variance(self) -> Floats:
        """Trace of each class's covariance matrix, divided by its count; NaN for an absent class. (C,)"""
        return np.divide(self.scatter, self.count, out=np.full(len(self.count), np.nan), where=self.count > 0)


@dataclass(frozen=True)
class Traces:
    """Traces of the variance within the classes and between them; their sum is the trace of the total variance."""

    intra: float
    inter: float

    @property
    def ratio(self) -> float:
        """inter / intra; NaN where nothing varies within the classes."""
        return self.inter / self.intra if self.intra > 0 else float("nan")

    def to_dict(self) -> dict[str, float]:
        """For a JSON file."""
        return {"intra": self.intra, "inter": self.inter, "ratio": self.ratio, "total": self.intra + self.inter}


def traces(moments: Moments, weights: Floats) -> Traces:
    """Traces with class c counting in proportion to weights[c] (C,); classes without a feature count for nothing.

    w_c = weights_c / sum, mu = sum_c w_c mu_c
    intra = sum_c w_c mean_i |x_i - mu_c|^2,  inter = sum_c w_c |mu_c - mu|^2
    """
    there = moments.count > 0
    weight = weights[there] / weights[there].sum()
    mean = moments.mean[there]
    away = np.square(mean - weight @ mean).sum(1)
    return Traces(float(weight @ moments.variance()[there]), float(weight @ away))
