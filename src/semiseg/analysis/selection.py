"""Which of many images to take: whose regions lie nearest to the regions that a model doubts, none like another.

    uncovered amount = sum over the pool's regions of doubt x distance to the nearest covered region

Covered are the regions of labelled images and of images already taken. Each time the image that lowers the amount most
is taken: greedy facility location. The fall is submodular: an image's can only shrink as others are taken. So an old
figure is an upper bound, and only images whose bound is the highest are computed anew (lazy greedy; the choice is the
plain greedy one).
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from semiseg.analysis.regions import Regions

NEAR = 0.05
"""Of the typical distance between images: two that are nearer are near-duplicates, and one of them is enough."""
MOST_REGIONS = 4000
"""Regions of the pool that are to be covered; of more, evenly spaced ones of each class."""
TYPICAL = float(np.sqrt(2))
"""Distance between two standardised vectors."""
DIGITS = 9
"""Decimals of a share; images that agree in these are equal, whatever the rounding of sums."""
_ANEW = 32  # images whose shares are computed anew together
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


def distances(one: NDArray, other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between the vectors (N, D) and (M, D), in float64. (N, M)"""
    one = one.astype(np.float64)
    squares = one @ other.T
    squares *= -2
    squares += np.einsum("nd,nd->n", one, one)[:, None]
    squares += np.einsum("md,md->m", other, other)
    return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)


def spaced(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` places of (R,): all, or evenly spaced ones within each class, in the order of the places."""
    by_class = np.argsort(labels, kind="stable")
    kept = min(most, len(labels))
    return np.sort(by_class[np.arange(kept) * len(labels) // max(1, kept)])


class Cover:
    """How much of the uncovered amount each image would take, and how far it is covered so far."""

    def __init__(self, images: int, regions: Regions, covered: Floats) -> None:
        """`images` N with their `regions`; the vectors, and `covered` (M, D), are as `standardised` makes them."""
        self.vectors = regions.vectors
        self.ends = np.searchsorted(regions.image, np.arange(images + 1))  # image i has regions ends[i] to ends[i + 1]
        places = spaced(regions.label, MOST_REGIONS)
        self.targets = self.vectors[places].astype(np.float64)  # (T, D)
        self.step = max(1, _AT_ONCE // max(1, len(places)))  # vectors whose distances to the targets are held at once
        self.distance = np.full(len(places), TYPICAL if len(covered) == 0 else np.inf)  # of each target, (T,)
        for first in range(0, len(covered), self.step):
            self._bring(covered[first : first + self.step])
        amount = float(regions.doubt[places] @ self.distance)
        self.weight = regions.doubt[places] / (amount or 1.0)

    def shares(self, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each of `images` (I,) takes by itself, as a share of the amount at the start, block by block. (I,)"""
        most = int(np.diff(self.ends).max(initial=0))  # regions of an image
        step = max(1, self.step // max(1, most))
        return np.concatenate([np.zeros(0), *(self._few(images[i : i + step]) for i in range(0, len(images), step))])

    def _few(self, images: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.zeros(len(images))
        counts = self.ends[images + 1] - self.ends[images]
        filled = np.flatnonzero(counts)  # an image may have no region
        if len(filled):
            rows = np.concatenate(
                [np.arange(int(self.ends[image]), int(self.ends[image + 1])) for image in images[filled]]
            )
            starts = np.cumsum(counts[filled]) - counts[filled]
            nearer = np.minimum.reduceat(distances(self.vectors[rows], self.targets), starts, axis=0)
            found[filled] = np.maximum(self.distance - nearer, 0) @ self.weight
        return found.round(DIGITS)

    def take(self, image: int) -> None:
        """From now on the regions of `image` are covered."""
        self._bring(self.vectors[self.ends[image] : self.ends[image + 1]])

    def _bring(self, covered: Floats) -> None:
        self.distance = np.minimum(self.distance, distances(covered, self.targets).min(0, initial=np.inf))


def choose(cover: Cover, vectors: Floats, avoided: Floats, count: int) -> list[tuple[int, float]]:
    """At most `count` images (N,), one after the other, each with its share of the uncovered amount at the start.

    vectors (N, D) and avoided (L, D), of whole images, are as `standardised` makes them. Equal shares go to the first.
    Near-duplicates of what is avoided or taken are never taken, so there may be fewer than `count`.
    """
    free = nearest(vectors, avoided) > NEAR * TYPICAL
    images = np.flatnonzero(free)
    heap = list(zip((-cover.shares(images)).tolist(), images.tolist(), [0] * len(images), strict=True))
    heapq.heapify(heap)
    taken: list[tuple[int, float]] = []
    while heap and len(taken) < count:
        stale: list[int] = []  # images whose share is known with fewer taken, and is a bound now
        while heap and len(stale) < _ANEW and heap[0][2] < len(taken):
            image = heapq.heappop(heap)[1]
            stale += [image] if free[image] else []
        for image, share in zip(stale, cover.shares(np.array(stale, np.int64)).tolist(), strict=True):
            heapq.heappush(heap, (-share, image, len(taken)))
        if heap and heap[0][2] == len(taken):
            share, image, _ = heapq.heappop(heap)
            taken.append((image, -share))
            cover.take(image)
            free &= nearest(vectors, vectors[image : image + 1]) > NEAR * TYPICAL
            free[image] = False
    return taken
