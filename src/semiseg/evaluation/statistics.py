"""Whether one method scores reliably higher than another: the paired bootstrap over images and seeds.

S seeds, N images, C classes, R draws. Both methods are scored on the same images and trained with the same seeds, so
what makes an image hard, or a seed's labelled batches lucky, is in both scores and falls out of their difference:

    repeat R times:
        draw N images with replacement, and S seeds with replacement
        add up each method's confusion matrices over the drawn images, for each drawn seed
        difference = mean over the drawn seeds of (mIoU of ours - mIoU of theirs)
    interval = the 2.5 and the 97.5 percentile of the differences

With one seed only images are drawn, and the interval says nothing of other seeds. With few, seeds can only be drawn
among those few, and the interval is too narrow: HELD says how often it holds the truth where seeds are all the
uncertainty there is. Where images are, it holds it in 95 of 100 cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["helped", "no reliable difference", "hurt"]

DRAWS = 10_000
LEVEL = 0.95
HELD = {2: 50, 3: 74, 4: 79, 5: 85, 10: 90}
"""Seeds -> in how many of 100 cases the interval holds the truth where normally distributed seeds decide alone."""

_AT_ONCE = 500  # draws; their weights over the images are one matrix


@dataclass(frozen=True)
class Interval:
    """A difference of mIoU and the interval around it, all in [-1, 1]."""

    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """`helped` or `hurt` where the interval lies wholly on one side of 0."""
        if self.low > 0:
            return "helped"
        return "hurt" if self.high < 0 else "no reliable difference"


def paired_interval(
    ours: np.ndarray, theirs: np.ndarray, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """mIoU of `ours` minus mIoU of `theirs`, both counts (S, N, C, C) int64, and its interval.

    ours[s, n] and theirs[s, n] are of the same seed and image. The draws follow from `seed` alone. Raises ValueError
    where shapes differ, or where there is nothing to draw from.
    """
    if ours.shape != theirs.shape or ours.ndim != 4 or 0 in ours.shape:
        raise ValueError(f"counts are {ours.shape} and {theirs.shape}; expected two of one shape (S, N, C, C)")
    rng = np.random.default_rng(seed)
    parts = [_parts(counts) for counts in (ours, theirs)]
    (seeds, images), found = ours.shape[:2], []
    for first in range(0, draws, _AT_ONCE):
        count = min(_AT_ONCE, draws - first)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=count)  # how often each image was drawn
        chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)  # (count, S)
        found.append((_differences(parts, weights.astype(np.float64)) * chosen).sum(1) / seeds)
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(np.concatenate(found), [tail, 100 - tail])
    difference = _differences(parts, np.ones((1, ours.shape[1]))).mean()
    return Interval(float(difference), float(low), float(high))


def _differences(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """mIoU of the first minus mIoU of the second, for weights (R, N) over the images: (R, S)."""
    ours, theirs = (_miou(weights @ each) for each in parts)  # (R, N) @ (S, N, 3C) -> (S, R, 3C) -> (S, R)
    return (ours - theirs).T


def _parts(counts: np.ndarray) -> np.ndarray:
    """All of a confusion matrix that mIoU reads: hits, true and predicted pixels by class. (S, N, 3C) float64.

    Pixels are whole numbers, which float64 adds exactly up to 2^53.
    """
    hits = np.diagonal(counts, axis1=2, axis2=3)
    return np.concatenate([hits, counts.sum(3), counts.sum(2)], axis=2).astype(np.float64)


def _miou(sums: np.ndarray) -> np.ndarray:
    """mIoU from summed parts (..., 3C): the mean over the classes that the labels show, NaN without any."""
    hits, true, predicted = np.split(sums, 3, axis=-1)
    union = true + predicted - hits
    seen = true > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=seen)
    count = seen.sum(-1)
    return np.divide(iou.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)


def spread(values: list[float]) -> float | None:
    """Standard deviation over seeds, of the sample (n - 1); None for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def interval_over_images(
    counts: np.ndarray, score: Callable[[np.ndarray], np.ndarray], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Scores of one model and their 95 % bootstrap intervals over images: value, low and high. (3, S)

    counts (N, M) are an image's figures that add up, `score` maps sums (R, M) to scores (R, S), NaN where there is
    none. N images are drawn with replacement `draws` times; draws without a score, as of a class that none of their
    images shows, are left out. Other trainings are not in it. Raises ValueError where there is no image.
    """
    images = len(counts)
    if images == 0:
        raise ValueError("there is no image to draw from; expected counts (N, M) of at least one")
    rng, found = np.random.default_rng(seed), []
    for first in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - first)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=size)
        found.append(score(weights.astype(np.float64) @ counts))
    value = score(counts.sum(0, keepdims=True).astype(np.float64))[0]
    made = np.concatenate(found)
    known = np.isfinite(made).any(0)
    ends = np.full((2, len(value)), np.nan)
    ends[:, known] = np.nanpercentile(made[:, known], [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return np.stack([value, *ends])
