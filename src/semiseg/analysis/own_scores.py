"""Scores of a model on pictures of one's own, over all of them and of each, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg.evaluation.boundary import boundary_f
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.statistics import interval_over_images

MEANS = ("miou", "dice", "boundary_f", "accuracy")
BY_CLASS = ("iou", "dice", "boundary_f")
WORDS = {"miou": "mIoU", "iou": "IoU", "dice": "Dice", "boundary_f": "boundary F", "accuracy": "accuracy"}
"""The scores' names for people."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OwnScores:
    """Counts of each image, of one predictor."""

    classes: tuple[str, ...]
    names: Sequence[str]  # of the images
    confusions: NDArray[np.int64]  # (N, C, C)
    boundaries: NDArray[np.int64]  # (N, C, 4), as `boundary_matches`

    def overall(self) -> dict[str, Any]:
        """Each of MEANS as {value, low, high} in per cent, and `classes`: the same of BY_CLASS, with `images`.

        From counts summed over the images. A class that no mask shows has no score and is in no mean. `images` counts
        the masks that show the class.
        """
        table = 100 * interval_over_images(self._sums(), lambda sums: _scores(sums, len(self.classes)))  # (3, S)
        cells = [dict(zip(("value", "low", "high"), column, strict=True)) for column in table.T.tolist()]
        means, rest = cells[: len(MEANS)], cells[len(MEANS) :]
        count = len(self.classes)
        shown = (self.confusions.sum(2) > 0).sum(0).tolist()
        by_class = {
            name: {"images": shown[at]} | {kind: rest[place * count + at] for place, kind in enumerate(BY_CLASS)}
            for at, name in enumerate(self.classes)
        }
        return dict(zip(MEANS, means, strict=True)) | {"classes": by_class}

    def by_image(self) -> Floats:
        """MEANS of each image alone, over the classes that its mask shows, in [0, 1]; NaN without any. (N, 4)"""
        return _scores(self._sums(), len(self.classes))[:, : len(MEANS)]

    def by_image_and_class(self) -> Floats:
        """BY_CLASS of each image alone, in [0, 1]; NaN for a class that its mask does not show. (N, 3, C)"""
        scores = _scores(self._sums(), len(self.classes))[:, len(MEANS) :]
        return scores.reshape(len(scores), len(BY_CLASS), len(self.classes))

    def worst(self, count: int) -> list[int]:
        """At most `count` images with the lowest mIoU, the lowest first; images without a label are left out."""
        miou = self.by_image()[:, 0]
        return [int(index) for index in np.argsort(miou, kind="stable") if math.isfinite(miou[index])][:count]

    def _sums(self) -> Floats:
        """What scores are computed from, of each image: hits, true and predicted pixels, boundary counts. (N, 7C)"""
        hits = np.diagonal(self.confusions, axis1=1, axis2=2)
        boundaries = self.boundaries.reshape(len(self.boundaries), -1)
        parts = [hits, self.confusions.sum(2), self.confusions.sum(1), boundaries]
        return np.concatenate(parts, axis=1).astype(np.float64)


def _scores(sums: Floats, count: int) -> Floats:
    """MEANS, then each of BY_CLASS of every class, from sums (R, 7C): (R, 4 + 3C), in [0, 1] or NaN."""
    hits, true, predicted = np.split(sums[:, : 3 * count], 3, axis=1)
    shown = true > 0
    iou = _ratio(hits, true + predicted - hits, shown)
    dice = _ratio(2 * hits, true + predicted, shown)
    outline = boundary_f(sums[:, 3 * count :].reshape(len(sums), count, 4))
    total = true.sum(1)
    accuracy = _ratio(hits.sum(1), total, total > 0)
    means = np.stack([_mean(iou), _mean(dice), _mean(outline), accuracy], axis=1)
    return np.concatenate([means, iou, dice, outline], axis=1)


def _ratio(part: Floats, whole: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=where)


def _mean(values: Floats) -> Floats:
    """Mean over the classes that have a value, NaN without any. (R, C) -> (R,)"""
    known = np.isfinite(values)
    count = known.sum(1)
    return _ratio(np.where(known, values, 0.0).sum(1), count.astype(np.float64), count > 0)


def image_miou(confusion: NDArray[np.int64]) -> float:
    """mIoU of one image's counts (C, C), over the classes that its mask shows, in [0, 1]; NaN if it shows none."""
    return ConfusionMatrix(confusion).miou()
