"""Reading photographs: upright, RGB, 8 bits, with an error that names the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_DAMAGE = (OSError, SyntaxError, EOFError, struct.error, zlib.error)


@contextmanager
def opened(path: Path | str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The picture in `path`; whatever is wrong with the file becomes a ValueError that names it.

    With `content` that is the picture, and `path` only its name.
    """
    try:
        with Image.open(path if content is None else BytesIO(content)) as picture:
            yield picture
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist. Restore it, or take its name out of the list") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is larger than pictures may be ({error}). Cut it into pieces") from None
    except _DAMAGE as error:
        raise ValueError(
            f"{path} cannot be read as a picture ({error}). It is damaged, cut short or of another format: "
            "restore it, or take it out of the dataset"
        ) from error


def read_image(path: Path | str, content: bytes | None = None) -> Pixels:
    """The photograph in `path`, (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    With `content` that is the photograph, and `path` only its name.

    Raises ValueError for a file that cannot be read, or whose pixels have more than 8 bits and no agreed way to 8.
    """
    with opened(path, content) as picture:
        return _pixels(picture, f"image {path}")


def _pixels(picture: Image.Image, what: str) -> Pixels:
    if picture.mode.startswith(("I", "F")):
        raise ValueError(
            f"{what} has {picture.mode!r} pixels (16 or 32 bits, one channel); expected 8 bits. "
            "Save it as 8-bit grey or RGB: only you know which range of values matters"
        )
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), dtype=np.uint8)


def as_pixels(image: object, what: str = "the image") -> Pixels:
    """(H, W, 3) uint8 RGB of a path (str or Path), a PIL image or such an array; `what` opens the error's message.

    Raises ValueError for anything else.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _pixels(image, what)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    raise ValueError(f"{what} is {described(image)}; expected a path, a PIL image or an array (H, W, 3) uint8 in RGB")


def described(value: object) -> str:
    """The kind of a value, and of an array its shape and type."""
    return f"an array {value.shape} {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_image` will give, in pixels, from the file's header alone."""
    with opened(path) as picture:
        width, height = picture.size
        sideways = picture.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        return (width, height) if sideways else (height, width)
