"""Reading pictures: the one door through which a file comes to a decoder, and photographs behind it.

The content of a file says which of `FORMATS` it is, not the ending of its name; a decoder of anything else (PostScript
would start a program) is never asked. Behind the door a picture is whole, upright, and the only one in its file. It has
at most twice Pillow's `MAX_IMAGE_PIXELS`, 178,956,970 pixels.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from semiseg.data.formats import (
    FORMATS,
    HEAD,
    PROFILES,
    Layout,
    check_layout,
    check_pages,
    count_pages,
    described,
    kind_of,
    lacking,
    layout,
    orientation_of,
    tiff_size,
    why_unknown,
)

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

TURNS = {  # EXIF orientation -> what puts the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_TURNING_CHUNKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", *map(str.encode, PROFILES))  # of a PNG
_STRIP = 1024  # rows copied at a time
_READABLE = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}  # modes that have an RGB of 8 bits
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Decoded(NamedTuple):
    """A picture behind the door."""

    picture: Image.Image  # whole and upright, in the file's own mode
    layout: Layout
    is_tiff: bool


def decoded(path: Path | str, content: bytes | None = None, scale: float = 1.0) -> Decoded:
    """The picture in `path`, whole and turned upright as its EXIF orientation says.

    With `content` that is the picture, and `path` only its name. A JPEG comes at a half, a quarter or an eighth of its
    sides, where that is no less than `scale` times them. Raises ValueError, naming the file and the repair, for
    whatever is wrong with the file, for more than one page, and for bands or bits that would be left out.
    """
    with opened(path, content) as (picture, stored), errors_named(path):
        if scale < 1 and picture.format == "JPEG":
            picture.draft(None, (max(1, int(picture.width * scale)), max(1, int(picture.height * scale))))
        return Decoded(_upright(picture), stored, isinstance(picture, TiffImageFile))


def handed_over(picture: Image.Image, what: str) -> Decoded:
    """A PIL image of a caller, upright, held against the rules for files as far as its layout is still known.

    A TIFF's is while the object is the one that was opened, and a PNG's until it is decoded, or while its file is
    there. A copy, or a conversion, is known by its mode alone. Of several pages the current one is taken. Raises
    ValueError as `decoded` does; `what` opens the message.
    """
    stored, lacks = Layout(), None
    with errors_named(what):
        if isinstance(picture, TiffImageFile):
            stored, lacks = layout(picture, b""), lacking(picture.tag_v2)
        elif picture.format == "PNG" and (head := _png_head(picture)):
            stored = layout(picture, head)
    if lacks is not None:
        raise damaged(what, lacks)
    check_layout(stored, what)
    with errors_named(what):
        if not isinstance(picture, TiffImageFile):
            return Decoded(_upright(picture), stored, is_tiff=False)
        # Pillow maps the pixels of some files by name into the size that they have when turned, which mixes them up.
        name, picture.filename = picture.filename, ""
        try:
            return Decoded(_upright(picture), stored, is_tiff=True)
        finally:
            picture.filename = name


def _png_head(picture: Image.Image) -> bytes:
    """The first bytes of the PNG that a PIL image was opened from; none where they are out of reach."""
    file: Any = getattr(picture, "fp", None)
    head = b""
    with suppress(Exception):  # closed, for it is decoded
        place = file.tell()
        file.seek(0)
        head = file.read(HEAD)
        file.seek(place)
    if not head:
        with suppress(Exception), open_file(getattr(picture, "filename", "")) as again:
            head = again.read(HEAD)
    return head if kind_of(head) == "PNG" else b""


def read_image(path: Path | str, content: bytes | None = None, scale: float = 1.0) -> Pixels:
    """The photograph in `path`, (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Alpha is left out, and the colours below it are kept. CMYK is converted without its colour profile.
    With `content` that is the photograph, and `path` only its name. `scale` as in `decoded`.

    Raises ValueError for a file that cannot be read, or whose pixels have more than 8 bits and no agreed way to 8.
    """
    return _pixels(decoded(path, content, scale), f"image {path}")


def as_pixels(image: object, what: str = "the image") -> Pixels:
    """(H, W, 3) uint8 RGB of a path (str or Path), a PIL image or such an array; `what` opens the error's message.

    A PIL image meets a file's rules as far as `handed_over` can tell: of a PNG with 16 bits that was decoded from
    memory, and of every copy, PIL has left out bits and bands before. Raises ValueError for anything else.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _pixels(handed_over(image, what), what)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    raise ValueError(f"{what} is {described(image)}; expected a path, a PIL image or an array (H, W, 3) uint8 in RGB")


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_image` will give, in pixels, without decoding the picture.

    Raises ValueError as `read_image` does, for what can be seen in the file's header.
    """
    with opened(path) as (picture, _), errors_named(path):
        width, height = tiff_size(picture.tag_v2) if isinstance(picture, TiffImageFile) else picture.size
        if picture.format == "PNG":  # Pillow would decode all of it to learn its orientation; most have none
            content = path.read_bytes()
            if not any(chunk in content for chunk in _TURNING_CHUNKS):
                return height, width
        return (width, height) if orientation_of(picture) in SIDEWAYS else (height, width)


@contextmanager
def opened(path: Path | str, content: bytes | None = None, strict: bool = True) -> Iterator[tuple[Image.Image, Layout]]:
    """The picture in `path`, not yet decoded, and its layout. Errors of whoever uses it stay as they are.

    Unless `strict`, pages and bands that will be refused are let in, for whoever wants to say what is there.
    """
    with open_file(path) if content is None else BytesIO(content) as file:
        picture = lacks = None
        stored, pages = Layout(), 1
        with errors_named(path):
            head = file.read(HEAD)
            with suppress(UnidentifiedImageError):
                picture = Image.open(file, formats=FORMATS)
                stored, pages = layout(picture, head), count_pages(picture, file)
            if isinstance(picture, TiffImageFile):
                lacks = lacking(picture.tag_v2)
        if picture is None:
            raise damaged(path, why_unknown(file, head, path))
        if lacks is not None:
            raise damaged(path, lacks)
        if strict:
            check_pages(pages, path)
            check_layout(stored, path)
        yield picture, stored


def open_file(path: Path | str) -> IO[bytes]:
    """`path`, opened. What is no file is refused before: opening a pipe would wait for a writer."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind == stat.S_IFREG:
            return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        link = ", for it is a link to nothing" if os.path.islink(path) else ""
        raise ValueError(f"{path} does not exist{link}. Restore it, or take its name out of the list") from None
    except PermissionError:
        raise ValueError(
            f"{path} may not be read: permission denied. Give yourself the right to read it and to enter the folders "
            "above it, as by `chmod -R u+rX FOLDER`"
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    raise ValueError(f"{path} is {_KINDS.get(kind, 'no file')}; expected a file that holds a picture. Take it away")


@contextmanager
def errors_named(path: object) -> Iterator[None]:
    """Decoders raise what they like: inside, all of it becomes a ValueError that names the file."""
    try:
        yield
    except Image.DecompressionBombError as error:
        size = str(error).partition(",")[0]  # without the suspicion
        raise ValueError(
            f"{path} is larger than pictures may be ({size}). Cut it into pieces, or restore it if its size is wrong"
        ) from None
    except MemoryError as error:
        raise ValueError(
            f"{path} does not fit into memory. Cut it into pieces, or restore it if its size in pixels is wrong"
        ) from error
    except Exception as error:
        if "DataLoader worker" in str(error):  # raised by a signal, in whatever the main process is at
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(path, error) from error
        if "MAX_TEXT" in str(error):
            raise ValueError(
                f"{path} carries more text than a picture may ({error}). Save it without its metadata"
            ) from error
        raise damaged(path, str(error) or type(error).__name__) from error


def _unreadable(path: object, error: Exception) -> ValueError:
    why = error.strerror if isinstance(error, OSError) else error
    return ValueError(f"{path} could not be read ({why}). Look after the disk or its connection, then try again")


def damaged(path: object, why: str) -> ValueError:
    """The error that says so of the file, and how to repair it."""
    return ValueError(
        f"{path} cannot be read as a picture ({why}). It is damaged, cut short or of another format: "
        "restore it, or take it out of the dataset"
    )


def _upright(picture: Image.Image) -> Image.Image:
    # Pillow turns a TIFF as its tag says, and forgets the tag.
    done = isinstance(picture, TiffImageFile) and ExifTags.Base.Orientation in picture.tag_v2
    picture.load()
    turn = None if done else TURNS.get(orientation_of(picture))
    return picture if turn is None else picture.transpose(turn)


def _check_tiff(picture: Image.Image, stored: Layout, what: str) -> None:
    """A photograph's bands are colours, its fourth is an outline, and its numbers begin at 0."""
    if stored.signed and picture.mode == "L":
        raise ValueError(f"{what} has signed 8-bit pixels; expected 0..255. Save it as unsigned 8-bit grey or RGB")
    if picture.mode in ("LA", "PA", "RGBA"):
        counts = picture.getchannel("A").histogram()
        if sum(counts[1:-1]) > sum(counts) / 2:
            raise ValueError(
                f"{what} has a last band that it calls alpha, but most of its values are neither 0 nor 255: perhaps "
                "near infrared. Set data.bands.count to take it as a band, or save it with the three bands you mean"
            )


def _pixels(found: Decoded, what: str) -> Pixels:
    picture = found.picture
    if found.is_tiff:
        _check_tiff(picture, found.layout, what)
    if picture.mode.startswith(("I", "F")):
        raise ValueError(
            f"{what} has {picture.mode!r} pixels (16 or 32 bits, one channel); expected 8 bits. "
            "Save it as 8-bit grey or RGB: only you know which range of values matters"
        )
    if picture.mode not in _READABLE:
        raise ValueError(f"{what} has {picture.mode!r} pixels; expected grey, RGB or CMYK. Save it as 8-bit RGB")
    with errors_named(what):
        if picture.mode == "P":
            picture = picture.copy()
            picture.info.pop("transparency", None)  # else Pillow warns that it is left out
        return _array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _array(picture: Image.Image) -> Pixels:
    """An RGB picture as an array (H, W, 3), copied in strips: Pillow's own way takes two more copies of the whole."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels
