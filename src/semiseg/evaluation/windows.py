"""From an image to logits at its native size: whole, or window by window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.config.options import EvaluationOptions

Predict = Callable[[Tensor], dict[str, Tensor]]
"""Images (B, 3, H, W) -> logits (B, C, H, W) of each predictor by name, the headline first."""


def predict_image(
    predict: Predict, image: Tensor, size: tuple[int, int], options: EvaluationOptions
) -> dict[str, Tensor]:
    """Logits (1, C, H, W) at `size` of an image (1, 3, h, w) that may have been resized before."""
    if options.protocol == "slide":
        logits = slide(predict, image, options.window, options.stride, options.windows_at_once)
    else:
        logits = predict(image)
    if size == tuple(image.shape[-2:]):
        return logits
    return {
        name: F.interpolate(value, size=size, mode="bilinear", align_corners=False) for name, value in logits.items()
    }


def slide(predict: Predict, image: Tensor, window: int, stride: int, at_once: int = 1) -> dict[str, Tensor]:
    """Raw logits of overlapping windows, summed and divided by the visits, as U2PL scores Cityscapes.

    image (1, 3, H, W) -> (1, C, H, W). The last window of a row or column is shifted inward; an image smaller than the
    window along a side has one window there. All windows have one size, and `at_once` of them are one batch.
    """
    height, width = image.shape[-2:]
    corners = itertools.product(starts(height, window, stride), starts(width, window, stride))
    places = [(..., slice(top, top + window), slice(left, left + window)) for top, left in corners]
    total: dict[str, Tensor] = {}
    visits = image.new_zeros(1, 1, height, width)
    for first in range(0, len(places), at_once):
        batch = places[first : first + at_once]
        for name, logits in predict(torch.cat([image[place] for place in batch])).items():
            whole = total.setdefault(name, logits.new_zeros(1, logits.shape[1], height, width))
            for place, view in zip(batch, logits, strict=True):
                whole[place] += view
    for place in places:
        visits[place] += 1
    return {name: logits / visits for name, logits in total.items()}


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along a side: 0, stride, ..., the last one shifted inward to end at the border."""
    count = max(math.ceil((length - window) / stride), 0) + 1
    return [min(number * stride, max(length - window, 0)) for number in range(count)]


def center_crop(maps: Tensor, side: int, fill: int) -> Tensor:
    """The middle side x side of (..., H, W); where the image is smaller, a frame of `fill`, the odd pixel after it."""
    rows, columns = (max(side - length, 0) for length in maps.shape[-2:])  # of the frame
    padded = F.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=fill)
    top, left = ((length - side) // 2 for length in padded.shape[-2:])
    return padded[..., top : top + side, left : left + side]
