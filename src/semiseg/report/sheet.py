"""Pictures in rows under each other, with a line of text between them: one PNG for a page or a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semiseg.data.dataset import Color, Pixels
from semiseg.evaluation.colors import colored
from semiseg.runtime.files import write_atomically

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIDE = 480  # pixels, of the longer side of a picture in a page
GAP = 8  # pixels between the cells of a sheet


def painted(label: Pixels, colors: tuple[Color, ...]) -> Pixels:
    """Class indices (H, W) in their colours, at most SIDE pixels a side."""
    return colored(small(label, cv2.INTER_NEAREST_EXACT), colors)


def small(pixels: Pixels, interpolation: int) -> Pixels:
    """At most SIDE pixels a side."""
    height, width = pixels.shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8) if factor < 1 else pixels


def fitted(pixels: Pixels, width: int, interpolation: int) -> Pixels:
    """The picture, `width` pixels wide."""
    height = round(pixels.shape[0] * width / pixels.shape[1])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), np.uint8)


def strip(texts: Sequence[str], width: int, size: int) -> Pixels:
    """One line of text per cell, black on white; what does not fit is cut out of its middle."""
    made = Image.new("RGB", (len(texts) * (width + GAP) - GAP, round(1.6 * size)), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size)
    for at, text in enumerate(texts):
        center = (at * (width + GAP) + width / 2, 0.8 * size)
        draw.text(center, _cut(text, width, font), fill="black", font=font, anchor="mm")
    return np.asarray(made)


def _cut(text: str, width: int, font: Font) -> str:
    """`text` as far as it fits into `width` pixels: its beginning and its end."""
    found, kept = text, len(text) // 2
    while font.getlength(found) > width:
        found, kept = f"{text[:kept]}…{text[len(text) - kept :]}", kept - 1
    return found


def legend(entries: Sequence[tuple[str, Color]], width: int, size: int) -> Pixels:
    """Names, each after a square of its colour, in as many lines as `width` pixels need."""
    font, line, gap = ImageFont.load_default(size), round(1.8 * size), 2 * size
    places, left, top = [], 0, 0
    for name, _ in entries:
        needed = round(1.5 * size + font.getlength(name))
        if left and left + needed > width:
            left, top = 0, top + line
        places.append((left, top))
        left += needed + gap
    made = Image.new("RGB", (width, top + line), "white")
    draw = ImageDraw.Draw(made)
    for (name, color), (left, top) in zip(entries, places, strict=True):
        draw.rectangle([left, top + 0.4 * size, left + size, top + 1.4 * size], fill=color, outline="#888888")
        draw.text((left + 1.5 * size, top + 0.9 * size), name, fill="black", font=font, anchor="lm")
    return np.asarray(made)


def paragraph(text: str, width: int, size: int) -> Pixels:
    """Text in lines of at most `width` pixels."""
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    made = Image.new("RGB", (width, round(1.5 * size * len(lines))), "white")
    draw = ImageDraw.Draw(made)
    for at, line in enumerate(lines):
        draw.text((0, 1.5 * size * (at + 0.5)), line, fill="#333333", font=font, anchor="lm")
    return np.asarray(made)


def beside(parts: Sequence[Pixels]) -> Pixels:
    """Side by side with gaps."""
    gap = np.full((parts[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([item for part in parts for item in (gap, part)][1:], axis=1)


def save(strips: Sequence[Pixels], out: Path, colors: int | None = 256) -> Path:
    """Strips of one width, one below the other, as a PNG of at most `colors` (None: of all); returns its path."""
    sheet = Image.fromarray(np.pad(np.concatenate(strips), ((8, 4), (8, 8), (0, 0)), constant_values=255))
    made = sheet if colors is None else sheet.quantize(colors, dither=Image.Dither.NONE)
    write_atomically(out, lambda file: made.save(file, "PNG", optimize=True))
    return out
