"""Classes drawn over a large photograph, in place and strip by strip: the overlays that predict writes.

`report.overlay` draws the small pictures of a report.
"""

from __future__ import annotations

import cv2
import numpy as np

from semiseg.data.dataset import Color, Pixels

_STRIP = 512  # rows at a time
_FINE = 600  # an outline is a pixel wide for so many of the longer side


def draw_overlay_(photo: Pixels, label: Pixels, colors: tuple[Color | None, ...], *, tint: float) -> None:
    """Lay the classes `label` (H, W) over a photograph (H, W, 3) uint8, RGB, and leave it in BGR, as OpenCV writes it.

    Each class has an outline of its colour, on its own side of the border, and is tinted by `tint`, 0 to 1. What has no
    colour, or no class, is left as it is. It is done in place, for one copy of a large picture is enough.
    """
    height, width = label.shape
    thick = max(1, round(max(height, width) / _FINE))
    kernel = np.ones((2 * thick + 1, 2 * thick + 1), np.uint8)
    table, opaque = np.zeros((1, 256, 3), np.uint8), np.zeros((1, 256), np.uint8)
    for number, color in enumerate(colors):
        table[0, number], opaque[0, number] = color or (0, 0, 0), color is not None
    for top in range(0, height, _STRIP):
        bottom, first = min(top + _STRIP, height), max(top - thick, 0)
        around = np.ascontiguousarray(label[first : bottom + thick])
        inside = slice(top - first, bottom - first)
        border = (cv2.dilate(around, kernel) != cv2.erode(around, kernel))[inside]
        strip = around[inside]
        seen = photo[top:bottom]
        painted = cv2.LUT(cv2.cvtColor(strip, cv2.COLOR_GRAY2RGB), table)
        drawn = cv2.LUT(strip, opaque) > 0
        if tint:
            mixed = cv2.addWeighted(seen, 1 - tint, painted, tint, 0)
            seen[drawn] = mixed[drawn]
        edge = border & drawn
        seen[edge] = painted[edge]
        seen[:] = seen[..., ::-1].copy()
