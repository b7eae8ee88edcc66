"""A part of a resized picture, without the rest of it: the same bytes as OpenCV's resize of the whole, cut.

A crop of 128 pixels is a thousandth of a photograph of 4000 x 3000 that is resized by 1.3. To resize all of it took
85 ms and more on one core, its crop alone 1.3 ms; and of a picture that is mapped from a file, the rest is not read.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.float32]
Window = tuple[slice, ...]  # rows and columns of the resized picture

_ONE = np.float32(2048)  # OpenCV counts a pixel's share in 2048ths
_DEARER = 16  # times the work of a pixel here, in numpy, against OpenCV's


def resized_part(image: Image, size: tuple[int, int], window: Window) -> Image:
    """`window` of the image resized to `size` (H, W) by bilinear interpolation, as `cv2.resize` has it.

    image (h, w, channels); of one channel, OpenCV drops the axis. The whole is resized where this is less work, and
    where the arithmetic of the OpenCV that is installed is not the one below.
    """
    import cv2

    shape = image.shape[:2]
    rows, columns = (range(part.start, part.stop) for part in window)
    across = len(range(*_source(shape[0], size[0], rows))) + len(rows)  # rows in which columns, then rows, are mixed
    halved = (2 * size[0], 2 * size[1]) == shape  # OpenCV averages areas then
    dearer = _DEARER * across * len(columns) > size[0] * size[1]
    if dearer or halved or image.dtype != np.uint8 or image.ndim != 3 or not _same_arithmetic():
        whole: Any = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        return whole[window]
    return _part(image.view(np.uint8), size, window)


class _Taps(NamedTuple):
    """The two source pixels of each target pixel, and their shares in 2048ths."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    low_share: NDArray[np.int32]
    high_share: NDArray[np.int32]


def _part(image: NDArray[np.uint8], size: tuple[int, int], window: Window) -> NDArray[np.uint8]:
    row, column = (_taps(*lengths) for lengths in zip(image.shape[:2], size, window, strict=True))
    column.high_share[column.low == column.high] = 0  # OpenCV: of columns at the border, not of rows
    column.low_share[column.low == column.high] = _ONE
    top, left = int(row.low[0]), int(column.low[0])
    near = image[top : int(row.high[-1]) + 1, left : int(column.high[-1]) + 1]
    mixed = near.take(column.low - left, 1) * column.low_share[:, None]  # (rows, w, channels) int32
    mixed += near.take(column.high - left, 1) * column.high_share[:, None]
    mixed >>= 4
    low, high = (share[:, None, None] for share in (row.low_share, row.high_share))
    whole = (mixed.take(row.low - top, 0) * low >> 16) + (mixed.take(row.high - top, 0) * high >> 16)
    return ((whole + 2) >> 2).astype(np.uint8)  # (h, w, channels)


def _taps(length: int, size: int, part: slice) -> _Taps:
    place = ((np.arange(part.start, part.stop) + 0.5) * (1 / (size / length)) - 0.5).astype(np.float32)
    below = np.floor(place)
    share = place - below  # float32, as OpenCV's
    low = below.astype(np.int64)
    shares = (np.rint(each * _ONE).astype(np.int32) for each in (1 - share, share))
    return _Taps(low.clip(0, length - 1), (low + 1).clip(0, length - 1), *shares)


def _source(length: int, size: int, part: range) -> tuple[int, int]:
    """The first source pixel of a part, and the end of them, about."""
    return int(part.start * length / size), min(length, int(part.stop * length / size) + 2)


@cache
def _same_arithmetic() -> bool:
    """Whether OpenCV's arithmetic is the one above: another version, or another processor's, may round otherwise."""
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    for size in ((37, 50), (61, 84), (97, 131), (122, 166)):
        whole = (slice(0, size[0]), slice(0, size[1]))
        if not np.array_equal(_part(image, size, whole), cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)):
            return False
    return True
