"""Both scores of one run over a whole set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from semiseg.analysis.scores import Counts, boundary_counts, consistency, object_counts, right
from semiseg.data.dataset import ImageSet, Pixels
from semiseg.report.pictures import predicted_labels
from semiseg.runtime.progress import Progress
from semiseg.training.experiment import Experiment


@dataclass
class Tally:
    """Counts of one run, image by image; the predictions are kept as PNG, a few kilobytes each."""

    classes: tuple[str, ...]
    bands: list[Counts] = field(default_factory=list)  # (C, 3) each, as `boundary_counts`
    objects: list[tuple[Counts, Counts]] = field(default_factory=list)  # (M,) and (M, C) each, as `object_counts`
    packed: list[np.ndarray] = field(default_factory=list)

    def add(self, prediction: Pixels, truth: Pixels) -> None:
        """Count one image; both (H, W) uint8."""
        self.bands.append(boundary_counts(prediction, truth, len(self.classes)))
        self.objects.append(object_counts(prediction, truth, len(self.classes)))
        self.packed.append(cv2.imencode(".png", prediction)[1])

    def prediction(self, index: int) -> Pixels:
        """The predicted classes of image `index`, (H, W) uint8."""
        return np.asarray(cv2.imdecode(self.packed[index], cv2.IMREAD_GRAYSCALE), np.uint8)

    def boundary(self) -> np.ndarray:
        """Of each image, the mean boundary IoU of the classes that its truth shows, in [0, 1]; NaN if none. (N,)"""
        return np.array([_mean(_iou(each)[each[:, 2] > 0]) for each in self.bands])

    def consistency(self) -> np.ndarray:
        """Of each image, the mean consistency of its objects, in [0, 1]; NaN without any. (N,)"""
        return np.array([_mean(consistency(counts)) for _, counts in self.objects])

    def right(self) -> np.ndarray:
        """Of each image, the mean share of right pixels of its objects, in [0, 1]; NaN without any. (N,)"""
        return np.array([_mean(right(*each)) for each in self.objects])

    def to_dict(self) -> dict[str, Any]:
        """Both scores in per cent, over all images and by class."""
        return {"boundary_iou": self._at_boundaries(), "consistency": self._within_objects()}

    def _at_boundaries(self) -> dict[str, Any]:
        iou, each = _iou(np.sum(self.bands, 0)), self.boundary()
        images = np.sum([bands[:, 2] > 0 for bands in self.bands], 0)
        return {
            "mean": 100 * _mean(iou),
            "mean_of_images": 100 * _mean(each),
            "images": int(np.isfinite(each).sum()),
            "classes": {
                name: {"iou": 100 * float(value), "images": int(count)}
                for name, value, count in zip(self.classes, iou, images, strict=True)
            },
        }

    def _within_objects(self) -> dict[str, Any]:
        classes, counts = (np.concatenate(parts) for parts in zip(*self.objects, strict=True))
        value, hit = consistency(counts), right(classes, counts)
        own = [classes == number for number in range(len(self.classes))]
        return {
            **_shares(value, hit),
            "mean_of_classes": 100 * _mean([_mean(value[each]) for each in own]),
            "classes": {name: _shares(value[each], hit[each]) for name, each in zip(self.classes, own, strict=True)},
        }


def tally(experiment: Experiment, images: ImageSet, title: str, console: Console | None = None) -> Tally:
    """Predict all images with a run and count."""
    found = Tally(experiment.dataset.classes)
    with Progress(title, len(images), console=console) as bar:
        for done, (label, truth) in enumerate(predicted_labels(experiment, images), 1):
            found.add(label.byte().numpy(), truth.byte().numpy())
            bar.step(done, {})
    return found


def _iou(bands: Counts) -> np.ndarray:
    """Boundary IoU of each class, NaN for one in neither band. (C, 3) -> (C,)"""
    return np.divide(bands[:, 0], bands[:, 1], out=np.full(len(bands), np.nan), where=bands[:, 1] > 0)


def _shares(value: np.ndarray, hit: np.ndarray) -> dict[str, Any]:
    """Of some objects: the mean consistency, the mean share of right pixels, and how many they are."""
    return {"mean": 100 * _mean(value), "right": 100 * _mean(hit), "objects": len(value)}


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the numbers among `values`; NaN without any."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")
