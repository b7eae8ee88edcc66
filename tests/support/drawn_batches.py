"""Datasets of drawn images, and the batches of their loaders."""

from __future__ import annotations

import numpy as np
import torch

from semiseg.config.options import AugmentOptions, DataOptions, TrainOptions
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.data.loading import training_batches

AUGMENT = AugmentOptions(crop_height=32, crop_width=40)


TRAIN = TrainOptions(steps=6, batch_labeled=2, batch_unlabeled=3, workers=0)


class Plain(ImageSet):
    """Image i is gray i; its mask is i everywhere. `broken` raises what a damaged file would."""

    def __init__(self, name: str, count: int, broken: int | None = None) -> None:
        self.name, self.names, self.broken = name, [f"{name}{index}" for index in range(count)], broken
        self.has_masks = name != "unlabeled"

    def image(self, index: int) -> np.ndarray:
        if index == self.broken:
            raise ValueError(f"{self.names[index]}.png cannot be read")
        return np.full((36 + index, 50, 3), index, np.uint8)

    def mask(self, index: int) -> np.ndarray:
        assert self.has_masks
        return np.full((36 + index, 50), index, np.uint8)


def dataset(labeled: int = 5, unlabeled: int = 7, broken: int | None = None) -> Dataset:
    sets = Plain("labeled", labeled, broken), Plain("unlabeled", unlabeled), Plain("val", 2)
    return Dataset(("a", "b"), ((0, 0, 0), (1, 1, 1)), *sets, test=None, split={})


def batches(
    data: Dataset,
    train: TrainOptions = TRAIN,
    *,
    augment: AugmentOptions = AUGMENT,
    seed: int = 1,
    start: int = 0,
    use_unlabeled: bool = True,
) -> list:
    options = DataOptions(dataset="scenes")
    keys = {"seed": seed, "start": start, "use_unlabeled": use_unlabeled, "device": torch.device("cpu")}
    return list(training_batches(data, options, augment, train, **keys))
