"""Features of chosen pixels, the same ones for every run, without any upsampled map.

A pixel's feature is the classifier's input, upsampled to the image as the decoder upsamples its logits. Images are
taken whole, at the run's `data.scale`, also where the run is scored in windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from semiseg.config.checks import require
from semiseg.data.dataset import ImageSet
from semiseg.data.loading import whole_images
from semiseg.evaluation.evaluator import NativeMasks, eval_mode
from semiseg.parts.sampling import pick
from semiseg.runtime.precision import precision_context
from semiseg.runtime.progress import Progress
from semiseg.training.experiment import Experiment
from semiseg.types import IGNORE

CHUNK = 2**14  # pixels whose features are in memory at a time: 34 MB of 512 channels


@dataclass(frozen=True)
class PixelChoice:
    """Chosen pixels of an image set."""

    counts: np.ndarray  # (images, C) int64, labelled pixels of each image and class
    ranks: list[np.ndarray]  # for each class, sorted: which of its pixels are chosen, counted through all images

    @property
    def total(self) -> np.ndarray:
        """Labelled pixels of each class. (C,)"""
        return self.counts.sum(0)

    @property
    def chosen(self) -> np.ndarray:
        """Chosen pixels of each class. (C,)"""
        return np.array([len(each) for each in self.ranks])

    def images(self) -> list[int]:
        """The images that have a chosen pixel."""
        classes = range(len(self.ranks))
        return [index for index in range(len(self.counts)) if any(len(self._own(index, c)) for c in classes)]

    def pixels(self, index: int, label: Tensor) -> tuple[Tensor, Tensor]:
        """Places (n, 2) and classes (n,) of the chosen pixels of image `index`, whose label is (H, W); by class."""
        places, classes = [], []
        for number in range(len(self.ranks)):
            own = torch.from_numpy(self._own(index, number))
            if len(own):
                places.append((label == number).nonzero()[own])
                classes.append(torch.full((len(own),), number))
        return torch.cat(places), torch.cat(classes)

    def _own(self, index: int, number: int) -> np.ndarray:
        """The ranks that fall into one image, counted from its first pixel of the class."""
        start = self.counts[:index, number].sum()
        low, high = np.searchsorted(self.ranks[number], [start, start + self.counts[index, number]])
        return self.ranks[number][low:high] - start


def choose_pixels(
    images: ImageSet, num_classes: int, limit: int | None, seed: int, classes: Sequence[int] | None = None
) -> PixelChoice:
    """At most `limit` pixels (None: all) of each of `classes` (None: of every one), drawn with `seed`.

    Reads every mask once. Raises ValueError where no image has a labelled pixel.
    """
    masks = (images.mask(index) for index in range(len(images)))
    counts = np.stack([np.bincount(mask.ravel(), minlength=IGNORE + 1)[:num_classes] for mask in masks])
    require(
        bool(counts.any()),
        f"the {len(images)} {images.name} images have no labelled pixel to look at: all are {IGNORE}",
    )
    ranks = []
    for number, count in enumerate(counts.sum(0)):
        wanted = 0 if classes is not None and number not in classes else count if limit is None else min(limit, count)
        rng = np.random.default_rng([seed, number])  # a class of its own: others do not change what is drawn of it
        ranks.append(np.arange(count) if wanted == count else np.sort(rng.choice(count, wanted, replace=False)))
    return PixelChoice(counts, ranks)


def pixel_features(
    experiment: Experiment, images: ImageSet, choice: PixelChoice, title: str, console: Console | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (n, D) float32 and classes (n,) of the chosen pixels on the CPU, by image, at most CHUNK at a time.

    They come from the evaluated network of the run (a method's teacher), in eval mode; of several networks from the
    reported one, or from the first.
    """
    config, predictor = experiment.config, experiment.method.predictor.headline_alone
    places = choice.images()
    read = whole_images(NativeMasks(images, config.data.scale), indices=places)
    with eval_mode(predictor), Progress(title, len(places), console=console) as bar:
        for done, (index, (_, image, label)) in enumerate(zip(places, read, strict=True), 1):
            assert label is not None
            points, classes = choice.pixels(index, label)
            with precision_context(config.train.precision, experiment.device), torch.inference_mode():
                features = predictor.segmentor(image.to(experiment.device)).features  # (1, D, h, w)
            for part, own in zip(points.split(CHUNK), classes.split(CHUNK), strict=True):
                yield pick(features, part[None], (label.shape[0], label.shape[1]))[0].cpu(), own
            bar.step(done, {})
