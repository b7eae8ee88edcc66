"""Which of many images to take: doubtful ones, none like another or like what is already labelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEAR = 0.05
"""Of the typical distance between images: two that are nearer are near-duplicates, and one of them is enough."""
_AT_ONCE = 2**22  # numbers of a block of distances
_CHANNELS = 16  # in float64 at a time

Floats = NDArray[np.float32]


def standardised(*groups: Floats) -> list[Floats]:
    """The groups (N, D), (M, D), ... less the mean of all, channel by channel over its standard deviation, over root D.

    A channel that does not vary is 0. The typical distance between two images is then about the root of 2.
    """
    made = [each.astype(np.float32) for each in groups]
    channels = groups[0].shape[1]
    for first in range(0, channels, _CHANNELS):
        part = slice(first, first + _CHANNELS)
        every = np.concatenate([each[:, part] for each in groups]).astype(np.float64)
        mean, deviation = every.mean(0), every.std(0)
        varies = deviation > 1e-6 * (np.abs(mean) + 1e-6)
        factor = np.divide(1.0, deviation * np.sqrt(channels), out=np.zeros_like(mean), where=varies)
        for each, source in zip(made, groups, strict=True):
            each[:, part] = (source[:, part] - mean) * factor
    return made


def nearest(vectors: Floats, centres: Floats) -> Floats:
    """Distance of each vector (N, D) to the nearest of `centres` (M, D); infinite without any. (N,)"""
    found = np.full(len(vectors), np.inf, np.float32)
    step = max(1, _AT_ONCE // max(1, vectors.shape[1]))
    for first in range(0, len(vectors), step):
        block = vectors[first : first + step]
        for centre in centres:
            np.minimum(
                found[first : first + step], np.linalg.norm(block - centre, axis=1), out=found[first : first + step]
            )
    return found


def choose(
    doubt: NDArray[np.float64], vectors: Floats, labelled: Floats, count: int, avoided: Floats
) -> list[tuple[int, float]]:
    """At most `count` images (N,), one after the other, each with its score when it was taken.

        score of an image = its doubt x root of its distance to the nearest image that is labelled or was taken before

    vectors (N, D), labelled (M, D) and avoided (L, D) are as `standardised` makes them. Equal scores go to the first.
    Near-duplicates of what is labelled, avoided or taken are never taken, so there may be fewer than `count`.
    """
    distance = nearest(vectors, labelled)
    free = nearest(vectors, avoided) > NEAR * np.sqrt(2)
    taken: list[tuple[int, float]] = []
    while len(taken) < count:
        free &= distance > NEAR * np.sqrt(2)
        if not free.any():
            break
        score = np.where(free, doubt * np.sqrt(np.where(np.isfinite(distance), distance, 1.0)), -1.0)
        best = int(score.argmax())
        taken.append((best, float(score[best])))
        free[best] = False
        distance = np.minimum(distance, nearest(vectors, vectors[best : best + 1]))
    return taken
