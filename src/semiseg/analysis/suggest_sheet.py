"""The suggested images on one sheet: each photograph, and beside it where the model doubts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg.analysis.doubt import Measure
from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, ImageSet, Pixels
from semiseg.report.sheet import beside, legend, paragraph, save, strip

WIDTH, HEIGHT = 300, 225  # pixels of a cell; a picture is fitted into it
ACROSS = 2  # images in a row
DOUBT: Color = (230, 0, 200)  # magenta, which photographs hardly have
TINT = 0.45


def write_sheet(out: Path, images: ImageSet, chosen: Sequence[int], why: Sequence[str], measure: Measure) -> None:
    """Draw the `chosen` images with their reasons as a PNG; none where nothing was chosen. Each is predicted again."""
    if not chosen:
        return
    strips = [strip(["photograph", "where the model doubts"] * ACROSS, WIDTH, 16)]
    cells: list[tuple[list[Pixels], str, str]] = []
    for rank, (index, words) in enumerate(zip(chosen, why, strict=True), 1):
        image = images.image(index)
        pair = _pair(as_photograph(image), measure.doubtful(image))
        cells.append((pair, f"{rank}. {images.names[index]}", words))
    blank = ([np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 2, "", "")
    for first in range(0, len(cells), ACROSS):
        row = [*cells[first : first + ACROSS], blank][:ACROSS]
        strips.append(beside([picture for pictures, _, _ in row for picture in pictures]))
        for part in (1, 2):
            strips.append(beside([strip([str(each[part])], 2 * WIDTH + 8, 16 - part) for each in row]))
    width = strips[0].shape[1]
    words = (
        "Marked: the two likeliest classes are near one another. Chosen one after the other: the image that "
        "shows most of what the model doubts in many images, and what no labelled image and none before it shows."
    )
    save([*strips, legend([("doubtful", DOUBT)], width, 15), paragraph(words, width, 14)], out, colors=None)


def _pair(photograph: Pixels, doubtful: NDArray[np.bool_]) -> list[Pixels]:
    """The photograph, and in grey with the doubtful regions tinted and outlined; both fitted into a white cell."""
    height, width = photograph.shape[:2]
    factor = min(WIDTH / width, HEIGHT / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_AREA), np.uint8)
    where = cv2.resize(doubtful.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR) > 0
    marked = np.asarray(cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    marked[where] = ((1 - TINT) * marked[where] + TINT * np.array(DOUBT)).round().astype(np.uint8)
    outlines, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(marked, outlines, -1, DOUBT, 1)
    return [_framed(each) for each in (small, marked)]


def _framed(picture: Pixels) -> Pixels:
    """In the middle of a cell."""
    rows, columns = HEIGHT - picture.shape[0], WIDTH - picture.shape[1]
    edges = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(picture, edges, constant_values=255)
