"""From an image to logits at its native size: whole, or window by window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.config.options import EvaluationOptions

Predict = Callable[[Tensor], dict[str, Tensor]]
"""Images (B, 3, H, W) -> logits (B, C, H, W) of each predictor by name, the headline first."""

Read = Callable[[slice, slice], Tensor]
"""Rows and columns of N images of one size -> (N, 3, h, w)."""

Blend = Literal["mean", "smooth"]

FLOOR = 1e-3
"""The least weight of a window's pixel before the weights are divided by their sum, 1 in the window's middle."""


def predict_image(
    predict: Predict, image: Tensor, size: tuple[int, int], options: EvaluationOptions
) -> dict[str, Tensor]:
    """Logits (1, C, H, W) at `size` of an image (1, 3, h, w) that may have been resized before."""
    if options.protocol == "slide":
        logits = slide(predict, image, options.window, options.stride, options.windows_at_once, options.blend)
    else:
        logits = predict(image)
    if size == tuple(image.shape[-2:]):
        return logits
    return {
        name: F.interpolate(value, size=size, mode="bilinear", align_corners=False) for name, value in logits.items()
    }


def slide(
    predict: Predict, image: Tensor, window: int, stride: int, at_once: int = 1, blend: Blend = "mean"
) -> dict[str, Tensor]:
    """Logits (1, C, H, W) of an image (1, 3, H, W) from overlapping windows.

    `mean`: raw logits, summed and divided by the visits, as U2PL scores Cityscapes. `smooth`: see `edge_weights`.
    """
    height, width = image.shape[-2:]
    total: dict[str, Tensor] = {}
    cut = Windows(height, width, window, stride, at_once, blend)
    for piece in cut.pieces(predict, lambda rows, columns: image[..., rows, columns]):
        for name, logits in piece.logits.items():
            if name not in total:
                total[name] = logits.new_empty(*logits.shape[:2], height, width)
            total[name][..., piece.rows, piece.columns] = logits
    return total


@dataclass(frozen=True)
class Piece:
    """A part of N images of one size that no further window will see."""

    rows: slice
    columns: slice
    logits: dict[str, Tensor]  # (N, C, h, w) by predictor; a view into memory that the next piece takes


@dataclass(frozen=True)
class Windows:
    """How images of one size are cut, and what is made of the windows' logits.

    The last window of a row or column is shifted inward; an image smaller than the window along a side has one window
    there. All windows have one size, and `at_once` of them, of each image, are one batch.
    """

    height: int
    width: int
    window: int
    stride: int
    at_once: int = 1
    blend: Blend = "mean"

    @property
    def count(self) -> int:
        """Of windows."""
        return len(self._starts(self.height)) * len(self._starts(self.width))

    def pieces(self, predict: Predict, read: Read) -> Iterator[Piece]:
        """The images piece by piece, in rows from top to bottom; the pieces cover them, and no two overlap.

        Each pixel's logits are added up in the order of its windows, so that neither the pieces nor the batches change
        a sum. Kept are one window, and below it the rows that the next row of windows sees, not whole images.
        """
        tops, lefts = self._starts(self.height), self._starts(self.width)
        open_ = _Open(self, tops, lefts)
        places = list(itertools.product(range(len(tops)), range(len(lefts))))
        for first in range(0, len(places), self.at_once):
            batch = places[first : first + self.at_once]
            corners = [(tops[row], lefts[column]) for row, column in batch]
            views = [read(*(slice(start, start + self.window) for start in corner)) for corner in corners]
            found = predict(torch.cat(views))
            for number, (row, column) in enumerate(batch):
                own = slice(number * len(views[0]), (number + 1) * len(views[0]))
                yield open_.with_window(row, column, {name: logits[own] for name, logits in found.items()})

    def _starts(self, length: int) -> list[int]:
        return starts(length, self.window, self.stride)


class _Open:
    """The sums of pixels that a later window sees: one window's, and of each column the rows below it."""

    def __init__(self, cut: Windows, tops: list[int], lefts: list[int]) -> None:
        self.cut, self.tops, self.lefts = cut, tops, lefts
        self.high, self.wide = min(cut.window, cut.height), min(cut.window, cut.width)  # of a window
        self.pane: dict[str, Tensor] = {}  # (N, C, high, wide), where the current window is
        self.below: dict[str, Tensor] = {}  # (N, C, most rows that two rows of windows share, W)
        if cut.blend == "smooth":
            self.row_weights, self.column_weights = (
                edge_weights(length, cut.window, first) for length, first in ((cut.height, tops), (cut.width, lefts))
            )
        else:
            self.row_visits = visits(cut.height, cut.window, tops)
            self.column_visits = visits(cut.width, cut.window, lefts)

    def with_window(self, row: int, column: int, views: dict[str, Tensor]) -> Piece:
        """Add a window's logits (N, C, high, wide) and take out what is finished."""
        top, left = self.tops[row], self.lefts[column]
        next_top = self.tops[row + 1] if row + 1 < len(self.tops) else self.cut.height
        next_left = self.lefts[column + 1] if column + 1 < len(self.lefts) else self.cut.width
        done_rows, done_columns = next_top - top, next_left - left
        shared = self.tops[row - 1] + self.high - top if row else 0  # rows with sums of the row of windows above
        logits = {}
        for name, view in views.items():
            pane = self._pane(name, view, column, shared)
            self._add_(pane, view, row, column)
            if row + 1 < len(self.tops):
                kept = self.high - done_rows
                self.below[name][..., :kept, left:next_left] = pane[..., done_rows:, :done_columns]
            logits[name] = pane[..., :done_rows, :done_columns]
            if self.cut.blend == "mean":
                logits[name] = logits[name] / self._visits(top, left, logits[name])
        return Piece(slice(top, next_top), slice(left, next_left), logits)

    def _pane(self, name: str, view: Tensor, column: int, shared: int) -> Tensor:
        """The sums where the window is: from the window before, from the row above, else 0."""
        if name not in self.pane:
            overlap = max((self.high - (after - top) for top, after in itertools.pairwise(self.tops)), default=0)
            self.pane[name] = view.new_empty(view.shape)
            self.below[name] = view.new_empty(*view.shape[:2], overlap, self.cut.width)
        pane, left = self.pane[name], self.lefts[column]
        seen = self.lefts[column - 1] + self.wide - left if column else 0  # columns that the window before has seen
        if seen:
            pane[..., :seen] = pane[..., self.wide - seen :].clone()
        pane[..., :shared, seen:] = self.below[name][..., :shared, left + seen : left + self.wide]
        pane[..., shared:, seen:] = 0
        return pane

    def _add_(self, pane: Tensor, view: Tensor, row: int, column: int) -> None:
        if self.cut.blend == "mean":
            pane += view
        else:
            down, across = self.row_weights[row].to(view), self.column_weights[column].to(view)
            pane.addcmul_(view * down[:, None], across.expand_as(view))

    def _visits(self, top: int, left: int, logits: Tensor) -> Tensor:
        rows, columns = logits.shape[-2:]
        down, across = self.row_visits[top : top + rows], self.column_visits[left : left + columns]
        return (down[:, None] * across).to(logits)


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along a side: 0, stride, ..., the last one shifted inward to end at the border."""
    count = max(math.ceil((length - window) / stride), 0) + 1
    return [min(number * stride, max(length - window, 0)) for number in range(count)]


def visits(length: int, window: int, first: list[int]) -> Tensor:
    """How many windows see each pixel of a side. (length,)"""
    seen = torch.zeros(length)
    for start in first:
        seen[start : start + window] += 1
    return seen


def edge_weights(length: int, window: int, first: list[int]) -> list[Tensor]:
    """For each window along a side, the weights of its pixels: a raised cosine above FLOOR, over the windows' sum.

    Where windows overlap, one fades out as the other fades in, so that no border is left; a pixel that one window sees
    has weight 1. In two dimensions the weights are the products of both sides', and add up to 1, too.
    """
    side = min(window, length)
    raw = FLOOR + (1 - FLOOR) * torch.sin(math.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side).square()
    total = torch.zeros(length, dtype=torch.float64)
    for start in first:
        total[start : start + side] += raw
    return [(raw / total[start : start + side]).float() for start in first]


def center_crop(maps: Tensor, side: int, fill: int) -> Tensor:
    """The middle side x side of (..., H, W); where the image is smaller, a frame of `fill`, the odd pixel after it."""
    rows, columns = (max(side - length, 0) for length in maps.shape[-2:])  # of the frame
    padded = F.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=fill)
    top, left = ((length - side) // 2 for length in padded.shape[-2:])
    return padded[..., top : top + side, left : left + side]
