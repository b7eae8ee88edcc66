"""Where two predictions of an image differ most: one right and the other wrong."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from semiseg.data.dataset import Pixels
from semiseg.types import IGNORE

NEAR = 0.01  # of the diagonal: changed pixels no farther apart are one region
FRAME = 0.015  # of the diagonal, around a region
SPECK = 0.0002  # of the image's pixels; smaller regions are not boxed


class Box(NamedTuple):
    """Pixels top <= row < bottom, left <= column < right, and whether more became right in it than wrong."""

    top: int
    left: int
    bottom: int
    right: int
    gain: bool

    def lies_in(self, other: Box) -> bool:
        """Whether the other box has all of it."""
        inside = self.top >= other.top and self.left >= other.left
        return inside and self.bottom <= other.bottom and self.right <= other.right


def difference_boxes(first: Pixels, last: Pixels, truth: Pixels, most: int = 3) -> list[Box]:
    """Boxes around the at most `most` regions with the most pixels that only one of two predictions has right.

    first, last, truth (H, W) uint8; pixels whose truth is IGNORE do not count. A region is connected once gaps of NEAR
    are closed.
    """
    gained, lost = (
        (one == truth) & (other != truth) & (truth != IGNORE) for one, other in ((last, first), (first, last))
    )
    changed = gained | lost
    diagonal = math.hypot(*truth.shape)
    reach = 2 * max(1, round(NEAR * diagonal / 2)) + 1
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    count, regions = cv2.connectedComponents(closed, connectivity=8)
    sizes = np.bincount(regions[changed], minlength=count)  # of the changed pixels alone
    order = [int(region) for region in np.argsort(-sizes, kind="stable")[:most] if sizes[region] > SPECK * truth.size]
    boxes = [_box(regions == region, gained, lost, max(1, round(FRAME * diagonal))) for region in order]
    return [box for box in boxes if not any(box.lies_in(other) for other in boxes if other != box)]


def _box(region: np.ndarray, gained: np.ndarray, lost: np.ndarray, frame: int) -> Box:
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    top, left = max(int(rows[0]) - frame, 0), max(int(columns[0]) - frame, 0)
    bottom, right = min(int(rows[-1]) + 1 + frame, len(region)), min(int(columns[-1]) + 1 + frame, region.shape[1])
    return Box(top, left, bottom, right, bool((gained & region).sum() >= (lost & region).sum()))
