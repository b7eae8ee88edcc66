"""Reading a mask: index, palette, colour code or 0/255; and what is wrong with it, in words.

Masks come through the door of `data.images` and are never converted: a palette PNG holds indices, and any conversion
would give the brightness of the palette's colours instead. An orientation in a mask's own EXIF is applied, as a
photograph's is: a mask means what every viewer shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semiseg.data.images import Decoded, Pixels, decoded, handed_over, image_size
from semiseg.types import IGNORE

Color = tuple[int, int, int]

MAX_CLASSES = IGNORE
"""A mask has one byte per pixel, and one of its values means "ignore"."""

# PIL stretches grey of 2 and 4 bits to 0..255; an index has to be shrunk back.
_STRETCH = {2: 85, 4: 17}


_LARGE = 0.01  # share of a mask's pixels; where no class 1 is, no border of it is ignored either


@dataclass(frozen=True)
class MaskReader:
    """How the masks of one dataset are to be understood."""

    classes: tuple[str, ...]
    colors: tuple[Color, ...] | None = None  # of colour-coded masks, one per class; None: RGB masks are refused
    ignore_color: Color | None = None  # in colour-coded masks
    binary: bool = False  # masks hold 0 and 255, and 255 is class 1
    values_to: tuple[tuple[int, int], ...] | None = (
        None  # value in the file -> class or IGNORE; None: values are classes
    )
    palette_colors: bool = False  # a palette mask means its colours, not its indices

    def read(self, path: Path, image: Path, size: tuple[int, int] | None = None) -> Pixels:
        """The mask in `path` of the photograph in `image`, (H, W) uint8, 0..C-1 or IGNORE.

        `size`: (H, W) of the image, where it is known; None: as a photograph's header says.

        Raises ValueError, naming the file and the repair, for a damaged file, a colour without a class, an index
        without a class, or another size than the photograph's.
        """
        values = self.values(path)
        height, width = image_size(image) if size is None else size
        if values.shape != (height, width):
            turned = values.shape == (width, height)
            why = "; one of them is turned by its EXIF orientation, or was by hand, the other is not" if turned else ""
            raise ValueError(
                f"mask {path} is {values.shape[1]} x {values.shape[0]} pixels, but its image {image} is {width} x "
                f"{height} (width x height){why}. Save the mask at the size of the image"
            )
        return self.to_classes(values, path)

    def values(self, path: Path) -> NDArray[np.integer]:
        """What the file says, by colours or `values_to`, before it is held against the classes: (H, W) integers."""
        return self._understood(decoded(path), f"mask {path}")

    def picture_values(self, mask: Image.Image, what: str) -> NDArray[np.integer]:
        """The same of a PIL image, as `handed_over` takes it; `what` opens the error's message."""
        return self._understood(handed_over(mask, what), what)

    def _understood(self, mask: Decoded, what: str) -> NDArray[np.integer]:
        if self.palette_colors and mask.picture.mode == "P":
            mask = mask._replace(picture=mask.picture.convert("RGB"))
        pixels = stored_pixels(mask, what)
        if pixels.ndim == 3:
            return self._decode_colors(pixels.astype(np.uint8, copy=False), what)
        return pixels if self.values_to is None else self._mapped(pixels, what)

    def _mapped(self, pixels: NDArray[np.integer], what: str) -> NDArray[np.integer]:
        known, classes = np.array(sorted(self.values_to or ())).T  # (values,) each
        place = np.searchsorted(known, pixels).clip(max=len(known) - 1)
        foreign = np.unique(pixels[known[place] != pixels])
        if len(foreign):
            raise ValueError(
                f"{what} holds {', '.join(map(str, foreign[:8]))}, which `values` in data.yaml does not name (it has "
                f"{', '.join(map(str, known[:8]))}). Add the class of each there, or write `ignore` for its class"
            )
        return classes[place]

    def to_classes(self, values: NDArray[np.integer], path: Path) -> Pixels:
        """Class indices of `values`, (H, W) uint8; `path` is for the error."""
        if self.binary:
            refuse_values(
                values, ~np.isin(values, (0, IGNORE)), path, "0 or 255, as in the other masks of this dataset"
            )
            return (values == IGNORE).astype(np.uint8)
        known = (values < len(self.classes)) & (values >= 0) | (values == IGNORE)
        refuse_values(
            values, ~known, path, f"0..{len(self.classes) - 1} ({', '.join(self.classes)}) or {IGNORE} (ignore)"
        )
        return values.astype(np.uint8)

    def _decode_colors(self, pixels: Pixels, what: str) -> Pixels:
        if self.colors is None:
            raise ValueError(
                f"{what} is a colour picture, and no colours are known for the classes. Save it with one channel of "
                "class indices, or give each line of classes.txt its colour, as in `road 128 64 128`"
            )
        colors = self.colors if self.ignore_color is None else (*self.colors, self.ignore_color)
        classes = np.array([*range(len(self.colors)), IGNORE], dtype=np.uint8)
        codes = _color_codes(pixels)  # (H, W)
        known = _color_codes(np.array(colors, dtype=np.uint8))  # (C,)
        order = np.argsort(known)
        place = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
        unknown = known[place] != codes
        if unknown.any():
            foreign = np.unique(codes[unknown])
            shown = ", ".join(f"({code >> 16} {code >> 8 & 255} {code & 255})" for code in foreign[:5])
            raise ValueError(
                f"{what} holds {len(foreign)} colour(s) that no class has, at {unknown.sum()} pixels: {shown}. "
                "Add them to classes.txt (`ignore r g b` names the colour of pixels to leave out), and save masks "
                "without smoothing or JPEG"
            )
        return classes[place]


def check_one_meaning(masks: Mapping[str, Mapping[int, float]], classes: int = 2) -> str | None:
    """Whether the masks of a dataset agree on what 255 means: a class in some, and ignored in others?

    Each mask is given as file -> value -> share of its pixels. Of two classes, a mask without a 1 of which 255 has a
    part is read otherwise beside one with a 1 than alone. Raises ValueError where they are at least half of all masks
    and others hold a 1. Returns a warning where they are fewer, or there are more classes, and None where there is no
    doubt.
    """
    ones = [file for file, shares in masks.items() if any(0 < value < classes for value in shares)]
    large = [file for file, shares in masks.items() if shares.get(IGNORE, 0) >= _LARGE]
    without = [file for file in large if not any(0 < value < classes for value in masks[file])]
    if not ones or not without:
        return None
    kind, repair = ("1", "class 1, write 1") if classes == 2 else ("class above 0", "a class, write that class's index")
    what = (
        f"{len(without)} of {len(masks)} masks hold no {kind}, and {IGNORE} at {_LARGE:.0%} of their pixels or more, "
        f"such as {without[0]}; {len(ones)} hold a {kind}, such as {ones[0]}"
    )
    if classes > 2 or 2 * len(without) < len(masks):
        return f"{what}. {IGNORE} is ignored in all of them: where it stands for {repair}"
    raise ValueError(
        f"{what}. {IGNORE} would be ignored in all of them, though it seems to be class 1 in most. If it is class 1, "
        f"write {IGNORE} for each 1, or 1 for each {IGNORE}, so that all masks have the same values. If it is to be "
        f"ignored, say so in classes.txt, with a colour for each class and a line `ignore {IGNORE} {IGNORE} {IGNORE}`"
    )


def looks_binary(masks: Iterable[frozenset[int]]) -> bool:
    """Whether the masks of a two-class dataset, each given by its set of values, say 255 for class 1.

    They do if no mask holds anything but 0 and 255. A single 1 anywhere means that 255 is IGNORE, as elsewhere:
    `check_one_meaning` tells whether that is in doubt.
    """
    seen: set[int] = set()
    for values in masks:
        if not values <= {0, IGNORE}:
            return False
        seen |= values
    return IGNORE in seen


def stored_pixels(mask: Decoded, what: str) -> NDArray[np.integer]:
    """(H, W) indices, or (H, W, 3) colours, as the file has them.

    Bilevel masks are 1 where they are shown white; alpha is left out.
    """
    picture, stored = mask.picture, mask.layout
    if picture.mode in ("RGB", "RGBA"):
        return np.asarray(picture.convert("RGB"))
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise ValueError(
            f"{what} has {picture.mode!r} pixels; expected one channel of class indices, or RGB. "
            "Save it as an 8-bit grey or palette PNG"
        )
    if stored.white_is_zero and picture.mode not in ("1", "P"):
        raise ValueError(
            f"{what} is a TIFF whose 0 is white, so that its indices count down. Save it as a PNG, or with the "
            "tag PhotometricInterpretation 1 (black is zero)"
        )
    pixels = np.asarray(picture)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if stored.signed and pixels.dtype == np.uint8:
        return pixels.view(np.int8)  # so that -1 is not taken for 255
    return pixels // _STRETCH[stored.bits] if picture.mode == "L" and stored.bits in _STRETCH else pixels


def _color_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One number per RGB colour; (..., 3) -> (...)."""
    return pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def refuse_values(values: NDArray[np.integer], unknown: NDArray[np.bool_], path: Path, expected: str) -> None:
    """Raise ValueError, with the values and what was `expected`, where some of the mask's pixels are `unknown`."""
    if not unknown.any():
        return
    found = np.unique(values[unknown])
    shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
    raise ValueError(
        f"mask {path} holds {shown} at {unknown.sum()} pixels; expected {expected}. "
        "Write class indices into the mask, or, in a folder of your own, add the missing classes to classes.txt"
    )
