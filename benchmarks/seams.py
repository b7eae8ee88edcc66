"""Whether windows leave seams: the error within 8 pixels of their borders over the error elsewhere.

    python benchmarks/seams.py RUN --images data/images --masks data/masks --list data/test.txt

Eight pictures, evenly chosen from the list, are set side by side into a large one, which is predicted in overlapping
windows joined by the plain and by the smooth mean. Eight times the large picture is moved on, round its own border, so
that windows' borders meet every place in a picture. Each pixel's error at a border is held against its own elsewhere.
The error is 1 - accuracy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semiseg.data.images import read_image
from semiseg.data.masks import MaskReader
from semiseg.evaluation.model import Model, load_model
from semiseg.evaluation.windows import starts
from semiseg.runtime.distributed import pick_device
from semiseg.types import IGNORE

NEAR = 8  # pixels on each side of a border
SHIFTS = 8
ACROSS = 4  # pictures in a row


def borders(length: int, window: int, stride: int) -> NDArray[np.bool_]:
    """(length,): within NEAR pixels of a window's border, where that is not the picture's own."""
    near = np.zeros(length, bool)
    for first in starts(length, window, stride):
        for end in (first, first + window):
            if 0 < end < length:
                near[max(end - NEAR, 0) : end + NEAR] = True
    return near


def tiled(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size as one, ACROSS in a row; what does not fill a row is left out."""
    full = len(pictures) // ACROSS * ACROSS
    rows = [np.concatenate(pictures[first : first + ACROSS], 1) for first in range(0, full, ACROSS)]
    return np.concatenate(rows)


def errors(
    model: Model, picture: NDArray[np.uint8], mask: NDArray[np.uint8], window: int, stride: int, blend: str
) -> NDArray[np.float64]:
    """(2, H, W): how often each pixel is wrong near borders, and elsewhere; NaN where it is not at both, or no class.

    So each pixel is held against itself, and what is hard anyway weighs the same on both sides.
    """
    height, width = mask.shape
    near = borders(height, window, stride)[:, None] | borders(width, window, stride)
    edge = window - stride  # beside the picture's own border a pixel is in one window
    inner = np.zeros_like(near)
    inner[edge:-edge, edge:-edge] = True
    wrong, seen = np.zeros((2, height, width)), np.zeros((2, height, width))
    for number in range(SHIFTS):
        shift = (number * stride // SHIFTS, number * 3 % SHIFTS * stride // SHIFTS)
        label, _ = model.predict(np.roll(picture, shift, (0, 1)), window=window, stride=stride, blend=blend)
        is_wrong = label != np.roll(mask, shift, (0, 1))
        for side, here in enumerate((inner & near, inner & ~near)):
            back = (-shift[0], -shift[1])
            seen[side] += np.roll(here, back, (0, 1))
            wrong[side] += np.roll(here & is_wrong, back, (0, 1))
    both = (seen > 0).all(0) & (mask != IGNORE)
    return np.where(both, wrong / np.maximum(seen, 1), np.nan)


def main() -> None:
    """Print both errors and their ratio, for both ways to join windows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="PNG of class indices, with the images' names")
    parser.add_argument("--list", type=Path, required=True, help="names, one a line")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--stride", type=int, default=192)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    model = load_model(asked.run).to(pick_device(asked.device))
    names = asked.list.read_text().split()
    names = names[:: max(1, len(names) // asked.count)][: asked.count]
    files = [next(asked.images.glob(f"{name}.*")) for name in names]
    reader = MaskReader(model.classes)
    picture = tiled([read_image(file) for file in files])
    mask = tiled([reader.read(asked.masks / f"{file.stem}.png", file) for file in files])
    print(
        f"{mask.shape[1]}x{mask.shape[0]}, windows of {asked.window}, {asked.stride} apart, torch {torch.__version__}"
    )
    for blend in ("mean", "smooth"):
        found = errors(model, picture, mask, asked.window, asked.stride, blend)
        near, elsewhere = np.nanmean(found, (1, 2))
        parts = [part for row in np.split(found, len(files) // ACROSS, 1) for part in np.split(row, ACROSS, 2)]
        each = [np.divide(*np.nanmean(part, (1, 2))) for part in parts]
        print(
            f"{blend}: error {near:.4f} at borders, {elsewhere:.4f} elsewhere: {near / elsewhere:.3f} "
            f"({min(each):.3f} to {max(each):.3f} over {len(each)} pictures)",
            flush=True,
        )


if __name__ == "__main__":
    main()
