"""What a model doubts in an image, and what the image is like: a figure, words, a vector, and regions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import sqrt

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semiseg.analysis.regions import Regions, RegionSums, entropy
from semiseg.config.checks import require
from semiseg.config.predicting import PredictOptions
from semiseg.data.bands import Mapped, blank_pixels
from semiseg.data.dataset import ImageSet, Pixels
from semiseg.data.loading import LOAD_AHEAD, LOAD_THREADS
from semiseg.data.prepared import resized
from semiseg.evaluation.model import Model
from semiseg.evaluation.windows import predict_image
from semiseg.parts.augment import as_batch
from semiseg.runtime.precision import full_precision, precision_context

MOST_CHANNELS = 512  # of a vector; longer ones are projected
MOST_PIXELS = 4_000_000  # of an image as it is measured; larger ones are shrunk
SPECK = 0.001  # of the image's pixels; a predicted class with fewer has no say
DOUBTFUL = 0.5  # a pixel is doubtful where its two likeliest classes are nearer than this
PAIRS = 2  # of classes that are told of an image
_TOLD = 0.002  # of the image's pixels; smaller doubts are not told


@dataclass(frozen=True)
class Doubt:
    """One image as a model sees it."""

    doubt: float
    """As `class_doubt`, in [0, 1]."""
    pairs: tuple[tuple[int, int, float], ...]
    """Pairs of classes that the doubtful pixels lie between, with their share of the image; the most frequent first."""
    vector: NDArray[np.float32]
    """(D,), the mean of the features that the classifier reads."""
    regions: Regions
    """Of the predicted classes, with vectors of the same features."""


def class_doubt(probabilities: Tensor) -> float:
    """Sum over the predicted classes of the mean entropy of their pixels, over C: in [0, 1]. (C, H, W)

        entropy of a pixel = - sum_k p_k log p_k / log C

    Each class counts alike, however few pixels it has: in a mean over pixels the doubts about a small or rare object
    would not be noticed beside a large calm background. As a sum, doubts about several classes weigh more than about
    one. Classes below SPECK of the pixels are left out.
    """
    classes = len(probabilities)
    unsure = entropy(probabilities, 0).flatten()
    label = probabilities.argmax(0).flatten()
    pixels = torch.bincount(label, minlength=classes)
    sums = torch.zeros(classes, dtype=torch.float64, device=label.device)
    sums.index_add_(0, label, unsure.double())
    kept = pixels >= max(1.0, SPECK * label.numel())
    return float(((sums[kept] / pixels[kept]).sum() / classes).clamp(0, 1))


def doubtful_pairs(probabilities: Tensor) -> tuple[tuple[int, int, float], ...]:
    """The PAIRS pairs of classes with the most doubtful pixels, and their share of all pixels. (C, H, W)"""
    classes = len(probabilities)
    values, order = probabilities.topk(2, dim=0)  # (2, H, W)
    unsure = values[0] - values[1] < DOUBTFUL
    low, high = order.amin(0)[unsure], order.amax(0)[unsure]
    counts = torch.bincount(low * classes + high, minlength=classes**2).double() / unsure.numel()
    best = torch.argsort(counts, descending=True, stable=True)[:PAIRS].tolist()
    return tuple(
        (code // classes, code % classes, float(counts[code])) for code in best if float(counts[code]) >= _TOLD
    )


class Measure:
    """Measures images with a model; called with pixels, it gives a Doubt."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.predictor = model.predictor.headline_alone.eval()
        self.device = next(self.predictor.parameters()).device
        channels = self.predictor.segmentor.feature_channels
        self.projection = None
        if channels > MOST_CHANNELS:  # distances are kept, within a few per cent (Johnson and Lindenstrauss)
            made = np.random.default_rng(0).standard_normal((channels, MOST_CHANNELS)) / sqrt(MOST_CHANNELS)
            self.projection = made.astype(np.float32)

    def __call__(self, pixels: Pixels | Mapped) -> Doubt:
        """Of an image as the model's sets give it: (H, W, 3) uint8, or (H, W, N) float32 of a model of bands.

        Pixels without data have no doubt, and are in no region. Raises ValueError where there are no others.
        """
        small = self._small(pixels)
        blank = torch.from_numpy(blank_pixels(small))
        require(not bool(blank.all()), "the image has no pixel with data")
        probabilities, vector, regions = self._look(small, blank)
        if blank.any():
            probabilities = probabilities[:, ~blank][:, None]  # (C, 1, pixels with data)
        return Doubt(class_doubt(probabilities), doubtful_pairs(probabilities), vector, regions)

    def doubtful(self, pixels: Pixels | Mapped) -> NDArray[np.bool_]:
        """Where the model doubts, at the size at which the image is measured. (h, w)"""
        small = self._small(pixels)
        blank = blank_pixels(small)
        first, second = self._look(small, torch.from_numpy(blank))[0].topk(2, dim=0).values
        return (first - second < DOUBTFUL).cpu().numpy() & ~blank

    def _small(self, pixels: Pixels | Mapped) -> Pixels | Mapped:
        """At the model's scale, or smaller where that would be more than MOST_PIXELS."""
        area = pixels.shape[0] * pixels.shape[1]
        scale = min(self.model.scale, sqrt(MOST_PIXELS / area))
        return resized(pixels, scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    @torch.inference_mode()
    def _look(self, pixels: Pixels | Mapped, blank: Tensor) -> tuple[Tensor, NDArray[np.float32], Regions]:
        """Probabilities (C, H, W) float32, the vector and the regions, from one pass of the network over each window.

        blank: (H, W), pixels without data.
        """
        means: list[Tensor] = []
        seen: list[Tensor] = []  # the features of the windows that were predicted last
        sums = RegionSums()
        size = (pixels.shape[0], pixels.shape[1])
        image = as_batch(pixels)
        image = torch.cat([image, (~blank).to(image)[None, None]], 1).to(self.device)  # the windows cut both alike

        def predict(windows: Tensor) -> dict[str, Tensor]:
            seen.clear()
            found = self.predictor(windows[:, :-1].contiguous())
            means.append(seen[0].float().mean((0, 2, 3)))
            with full_precision(self.device):
                sums.add_(next(iter(found.values())), seen[0], windows[:, -1] > 0)
            return found

        hook = self.predictor.segmentor.register_forward_hook(
            lambda _module, _images, output: seen.append(output.features)
        )
        try:
            with precision_context(self.model.precision, self.device):
                logits = predict_image(predict, image, size, self.model.windows(PredictOptions(), size))
        finally:
            hook.remove()
        probabilities = next(iter(logits.values()))[0].float().softmax(0)
        if not probabilities.isfinite().all():
            raise ValueError("the model gives numbers that are not finite (NaN) for this image: train it again")
        vector, regions = torch.stack(means).mean(0).cpu().numpy(), sums.regions()
        if self.projection is None:
            return probabilities, vector, regions
        return probabilities, vector @ self.projection, replace(regions, vectors=regions.vectors @ self.projection)


def each_image(images: ImageSet) -> Iterator[tuple[int, Pixels | Mapped | ValueError]]:
    """Index and pixels of every image, in order, a few loaded ahead; where one cannot be read, the error instead."""

    def load(index: int) -> tuple[int, Pixels | Mapped | ValueError]:
        try:
            return index, images.image(index)
        except ValueError as error:
            return index, error

    with ThreadPoolExecutor(LOAD_THREADS) as pool:
        waiting: deque[Future[tuple[int, Pixels | Mapped | ValueError]]] = deque()
        for index in range(len(images)):
            waiting.append(pool.submit(load, index))
            if len(waiting) > LOAD_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
