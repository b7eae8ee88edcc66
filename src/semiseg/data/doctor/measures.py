"""What is measured in one picture or mask: what a picture looks like, specks, and borders."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LOW = 8
"""Side of the block of low frequencies that a hash is made of, and of the thumbnail."""
DETAIL = 16
"""Side of the detail."""
TINY = 64
"""Pixels of an object below which a network can hardly see it: 8 x 8, two cells a side at a stride of 4."""
BORDER = 5
"""Pixels from a border's pixel to the two values between which it lies, at most."""
_LIGHT = 3  # side of the block of lowest frequencies that a detail leaves out
_OUTSIDE = -1e6  # a value that no mask has
_FLAT = 2.0  # grey levels of spread below which a picture has nothing to compare


def appearance(pixels: NDArray[Any]) -> tuple[int | None, NDArray[np.uint8], NDArray[np.int8]]:
    """A hash of what the picture (H, W[, bands]) looks like, its thumbnail (8, 8), and its detail (16, 16).

    The hash has one bit for each of the 63 lowest frequencies, without the mean, of the cosine transform of 32 x 32
    pixels: whether it is above their median. It survives another size, format and brightness; None for a flat picture.
    The detail is grey less what varies along rows or columns alone, or slowly, up to a factor: light that falls off, as
    in skies and under microscopes, is in all pictures of a kind and tells none from the others.
    """
    front = np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., :3])
    small = cv2.resize(front, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small if small.ndim == 2 else small.mean(2)
    if pixels.dtype != np.uint8:
        grey = np.nan_to_num(grey)
        grey = 255 * (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6)
    thumbnail = cv2.resize(grey, (LOW, LOW), interpolation=cv2.INTER_AREA).round().astype(np.uint8)
    part = cv2.resize(grey, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(part)
    waves[0] = waves[:, 0] = waves[:_LIGHT, :_LIGHT] = 0
    part = cv2.idct(waves)
    detail = (127 * part / max(float(np.abs(part).max()), 1e-6)).round().astype(np.int8)
    if grey.std() < _FLAT:
        return None, thumbnail, detail
    low = cv2.dct(grey)[:LOW, :LOW].ravel()[1:]  # (63,)
    bits = np.concatenate([[0], low > np.median(low)]).astype(np.uint8)
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), thumbnail, detail


def tiny_pixels(where: NDArray[np.bool_]) -> int:
    """Pixels of the (H, W) region that lie in connected parts of fewer than TINY pixels."""
    sizes = cv2.connectedComponentsWithStats(where.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return int(sizes[sizes < TINY].sum())


def border_pixels(values: NDArray[np.int64], border: int) -> int:
    """Pixels of the value `border` in the mask (H, W) that lie between two others, BORDER away at most.

    Outside the mask is another value, so that a frame around it is a border, too.
    """
    where = values == border
    others = values.astype(np.float32)
    reach = np.ones((2 * BORDER + 1, 2 * BORDER + 1), np.uint8)
    sides = []
    for limit, spread in ((-1e9, cv2.dilate), (1e9, cv2.erode)):
        framed = np.pad(np.where(where, np.float32(limit), others), BORDER, constant_values=_OUTSIDE)
        sides.append(spread(framed, reach)[BORDER:-BORDER, BORDER:-BORDER])
    highest, lowest = sides
    return int((where & (highest > lowest)).sum())
