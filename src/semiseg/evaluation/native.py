"""From a picture to classes and confidences at its native size, piece by piece where it is large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semiseg.config.options import EvaluationOptions
from semiseg.data.bands import Mapped
from semiseg.data.dataset import Pixels
from semiseg.data.prepared import resized
from semiseg.data.rasters import Raster
from semiseg.evaluation.windows import Piece, Predict, Windows
from semiseg.parts.augment import as_batch

LARGEST_WHOLE = 2**23
"""Pixels of a picture, at the model's scale, that is predicted whole unless windows are asked for."""
WINDOW, STRIDE = 768, 576
"""Of the windows that a larger picture is cut into."""
_ENLARGED = 2**22  # logits of a strip that is enlarged at a time


def small_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Of a picture at the model's scale."""
    return (height, width) if scale == 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def too_large(height: int, width: int) -> EvaluationOptions | None:
    """The windows of a picture of that size, at the model's scale, that would be predicted whole; None: it may be."""
    if height * width <= LARGEST_WHOLE:
        return None
    return EvaluationOptions(protocol="slide", window=WINDOW, stride=STRIDE, blend="smooth", windows_at_once=1)


def in_memory(image: Pixels | Mapped) -> Raster:
    """A picture (H, W, N) that is decoded already."""

    def read(top: int, left: int, height: int, width: int) -> Pixels | Mapped:
        return image[top : top + height, left : left + width]

    height, width, bands = image.shape
    return Raster(height, width, bands, str(image.dtype), None, None, None, read)


def shrunk(pixels: NDArray[Any], scale: float) -> NDArray[Any]:
    """The same resize as in training, `Prepared`."""
    return resized(pixels, scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def predict_pieces(
    predict: Predict, pictures: Sequence[Raster], scale: float, options: EvaluationOptions, device: torch.device
) -> Iterator[Piece]:
    """Logits (N, C, h, w) of `predict`'s only predictor at the size of N pictures, which is one.

    The pieces cover the pictures and do not overlap. What is held is the logits of a row of windows at most.
    """
    size = (pictures[0].height, pictures[0].width)
    small = small_size(*size, scale)
    if scale == 1:
        read = partial(_window, pictures, device)
    else:
        every = [shrunk(picture.read(), scale) for picture in pictures]

        def read(rows: slice, columns: slice) -> Tensor:
            return torch.cat([as_batch(pixels[rows, columns]) for pixels in every]).to(device)

    if options.protocol == "slide":
        cut = Windows(*small, options.window, options.stride, options.windows_at_once, options.blend)
        pieces = cut.pieces(predict, read)
    else:
        whole = slice(0, small[0]), slice(0, small[1])
        pieces = iter([Piece(*whole, predict(read(*whole)))])
    return pieces if small == size else enlarged(pieces, small, size)


def _window(pictures: Sequence[Raster], device: torch.device, rows: slice, columns: slice) -> Tensor:
    height, width = (
        min(part.stop, side) - part.start for part, side in ((rows, pictures[0].height), (columns, pictures[0].width))
    )
    views = [as_batch(picture.read(rows.start, columns.start, height, width)) for picture in pictures]
    return torch.cat(views).to(device)


def enlarged(pieces: Iterator[Piece], small: tuple[int, int], size: tuple[int, int]) -> Iterator[Piece]:
    """The `pieces` of logits of a `small` image at `size`, as F.interpolate (bilinear) makes of all of them at once."""
    height, width = size
    place = ((torch.arange(height, dtype=torch.float64) + 0.5) * small[0] / height - 0.5).clamp(min=0)
    above = place.long()  # (H,), the small row above each row
    share = (place - above).float()  # of the small row below
    below = (above + 1).clamp(max=small[0] - 1)
    first, done = 0, 0  # small row that `rows` begins with, rows that are yielded
    rows: Tensor | None = None  # (N, C, h, w)
    for band in _bands(pieces, small[1]):
        rows = band if rows is None else torch.cat([rows, band], 2)
        ready = height if first + rows.shape[2] == small[0] else int((below < first + rows.shape[2]).sum())
        step = max(1, _ENLARGED // (rows.shape[0] * rows.shape[1] * width))
        for top in range(done, ready, step):
            chosen = slice(top, min(top + step, ready))
            upper, lower = rows[:, :, above[chosen] - first], rows[:, :, below[chosen] - first]
            mixed = torch.lerp(upper, lower, share[chosen].to(upper)[:, None])  # (N, C, step, w)
            wide = F.interpolate(mixed, size=(mixed.shape[2], width), mode="bilinear", align_corners=False)
            yield Piece(chosen, slice(0, width), {"": wide})
        if ready < height:
            needed = min(int(above[ready]), first + rows.shape[2])  # which may be in the next band
            rows, first = rows[:, :, needed - first :].clone(), needed
        done = ready


def _bands(pieces: Iterator[Piece], width: int) -> Iterator[Tensor]:
    """The headline's logits (N, C, h, W) of each row of pieces."""
    band: Tensor | None = None
    for piece in pieces:
        logits = next(iter(piece.logits.values()))
        if band is None:
            band = logits.new_empty(*logits.shape[:2], piece.rows.stop - piece.rows.start, width)
        band[..., piece.columns] = logits
        if piece.columns.stop == width:
            yield band
            band = None


def labelled(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Classes (N, H, W) uint8 and confidences (N, H, W) float32, in [0, 1], of logits (N, C, H, W).

    Raises ValueError where the network gives NaN.
    """
    logits = logits.float()
    largest, label = logits.max(1)
    confidence = (logits - largest[:, None]).exp_().sum(1).reciprocal_()  # the softmax of the largest
    if not confidence.isfinite().all():
        raise ValueError("the model gives numbers that are not finite (NaN) for this image: train it again")
    return label.byte(), confidence


def label_maps(pieces: Iterator[Piece], height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Classes (H, W) uint8 and confidences (H, W) float32 of all `pieces` of one picture."""
    label, confidence = np.empty((height, width), np.uint8), np.empty((height, width), np.float32)
    for piece in pieces:
        made = labelled(next(iter(piece.logits.values())))
        label[piece.rows, piece.columns], confidence[piece.rows, piece.columns] = (
            each[0].cpu().numpy() for each in made
        )
    return label, confidence
