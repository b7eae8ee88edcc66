"""Where a labelled crop lies that is drawn around a rare class, and the label under a resized image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semiseg.types import IGNORE


def focused(
    label: NDArray[np.uint8],
    size: tuple[int, int],
    crop: tuple[int, int],
    window: tuple[slice, ...],
    *,
    share: float,
    rng: np.random.Generator,
) -> tuple[slice, ...]:
    """With probability `share` a window that holds a pixel of a drawn class; else, and without one, `window`.

    The class is drawn evenly from the classes of the resized label except the most common one, then one of its pixels,
    then one of the windows that hold this pixel, all evenly. Foreground oversampling of nnU-Net (Isensee et al. 2021),
    whose window has the pixel in its middle instead.

    label (H, W) uint8; size: height and width after the resize; crop: height and width of the window, which takes all
    of a shorter side. rng: always five draws.
    """
    chance, which, where, *starts = rng.random(5)
    if chance >= share:
        return window
    resized = nearest_pixels(label, size, (slice(None), slice(None)))  # (h, w)
    counts = np.bincount(resized.ravel(), minlength=IGNORE)[:IGNORE]
    counts[counts.argmax()] = 0
    classes = np.flatnonzero(counts)
    if not len(classes):
        return window
    pixels = np.flatnonzero(resized == classes[int(which * len(classes))])
    pixel = np.unravel_index(pixels[int(where * len(pixels))], size)
    return tuple(_around(*sides) for sides in zip(pixel, size, crop, starts, strict=True))


def _around(pixel: np.intp, length: int, crop: int, draw: float) -> slice:
    """One of the windows of `crop` pixels that hold `pixel`, along one side of `length`."""
    first, last = max(0, int(pixel) - crop + 1), max(0, min(int(pixel), length - crop))
    start = min(first, last) + int(draw * (last - min(first, last) + 1))
    return slice(start, min(start + crop, length))


def nearest_pixels(label: NDArray[np.uint8], size: tuple[int, int], window: tuple[slice, ...]) -> NDArray[np.uint8]:
    """The `window` of a label (H, W) that is resized to `size`: for each pixel the original one under its middle."""
    rows, columns = (
        ((2 * np.arange(resized) + 1) * length // (2 * resized))[part]  # where bilinear has it, too
        for length, resized, part in zip(label.shape, size, window, strict=True)
    )
    near = label[rows[0] : rows[-1] + 1]  # of a mask in a file the rest is not read
    return near.take(columns, 1).take(rows - rows[0], 0)  # in turn: a fifth of the time of both at once
