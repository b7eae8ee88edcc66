"""How many labelled pixels each class has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from semiseg.data.dataset import ImageSet

THREADS = 4


def count_class_pixels(images: ImageSet, classes: int) -> tuple[int, ...]:
    """Pixels of each of the `classes` classes in all masks of `images`; pixels to ignore are of none.

    Raises ValueError where a mask cannot be read, or where no pixel of any has a class.
    """

    def count(index: int) -> NDArray[np.int64]:
        return np.bincount(images.mask(index).ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(count, range(len(images))), np.zeros(classes, np.int64))
    if not total.any():
        raise ValueError(
            f"none of the {len(images)} {images.name} masks has a pixel of a class, and loss.class_weights, "
            "loss.logit_adjust or method.adapt needs their shares: look at the masks, or leave these options out"
        )
    return tuple(total.tolist())
