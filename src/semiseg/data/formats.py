"""What a picture's file says of itself beside its pixels: kind, pages, bands, bits; and what is refused, in words."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

# Pillow logs an error where it does not know a layout; what it raises is told in our words.
logging.getLogger("PIL").addHandler(logging.NullHandler())

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
"""All that a decoder is ever asked to try, by Pillow's names."""

HEAD = 32  # bytes of a file that tell its kind and, of a PNG, its bits
NAMED = "JPEG, PNG, TIFF, BMP or WebP"
_MANY_PAGES = 1000  # counting stops here, so that a chain of millions cannot hold up anyone

_PNG, _RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KINDS = (  # (place, bytes there, kind)
    (0, b"\xff\xd8\xff", "JPEG"), (0, _PNG, "PNG"), *((0, magic, "TIFF") for magic in _TIFF),
    (8, b"WEBP", "WebP"), (0, b"BM", "BMP"), (0, b"GIF8", "GIF"), (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"), (0, b"%PDF", "PDF"), (0, b"DDS ", "DDS"), (8, b"avif", "AVIF"),
    (8, b"avis", "AVIF"), (4, b"ftyphe", "HEIC"), (4, b"ftypmif1", "HEIC"), (4, b"ftyp", "a video"),
    (0, b"SIMPLE  =", "FITS"), (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"), (0, b"8BPS", "Photoshop"), (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance"), (0, b"\x93NUMPY", "NumPy"), (0, b"\x89HDF", "HDF5"), (0, b"PK\3\4", "zip"),
    (0, b"\x1f\x8b", "gzip"), (0, b"\0\0\1\0", "an icon"), (0, b"<svg", "SVG"), (0, b"<?xml", "XML"),
    (0, b"<html", "HTML"), (0, b"<!DOCTYPE", "HTML"), (0, b"P5", "PGM"), (0, b"P6", "PPM"), (0, b"qoif", "QOI"),
    (0, b"version https://git-lfs", "a Git LFS pointer: `git lfs pull` fetches the picture"),
)  # fmt: skip

PROFILES = ("Raw profile type APP1", "Raw profile type xmp")
"""Texts of a PNG, beside exif\'s, that hold EXIF or XMP as hexadecimals; their names are never compressed."""

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PAGE_KIND = 256, 257, 258, 262, 254  # TIFF tags
_BANDS, _EXTRA_BANDS, _NUMBERS = 277, 338, 339
_STRIPS, _STRIP_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _PLANES = 273, 278, 322, 323, 324, 284
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # bands of RGB, CMYK, YCbCr, Lab; others have one
_ALPHA = (1, 2, 999)  # kinds of an extra band: two of TIFF's own, and one that a drawing program writes
_COPY, _OUTLINE = 1, 4  # bits of a page's kind: the same picture smaller, its transparency


@dataclass(frozen=True)
class Layout:
    """How the file stores its pixels, where Pillow's mode does not tell."""

    bits: int = 8  # per channel; the most of any
    bands: int = 1
    colours: int = 1  # bands that a picture of this kind has, without alpha
    alpha: bool = False  # one more band is, or may be, alpha
    signed: bool = False
    floating: bool = False
    white_is_zero: bool = False


_PLAIN = Layout()
PNG_BANDS = {0: (1, 1), 2: (3, 3), 3: (1, 1), 4: (2, 1), 6: (4, 3)}  # by colour type: bands, without alpha


def kind_of(head: bytes) -> str | None:
    """The kind of file that begins with `head`, as words have it; None if it is unknown."""
    return next((kind for place, magic, kind in _KINDS if head[place : place + len(magic)] == magic), None)


def layout(picture: Image.Image, head: bytes) -> Layout:
    """How the opened file `picture` stores its pixels; `head` is its first bytes."""
    if picture.format == "PNG":
        bands, colours = PNG_BANDS[head[25]]
        return Layout(bits=head[24], bands=bands, colours=colours, alpha=bands > colours)
    return tiff_layout(picture.tag_v2) if isinstance(picture, TiffImageFile) else _PLAIN


def tiff_layout(tags: Mapping[int, Any]) -> Layout:
    """How a TIFF with these tags stores its pixels."""
    photometric = tags.get(_PHOTOMETRIC, 0)
    bands, colours = int(tags.get(_BANDS, 1)), _COLOURS.get(photometric, 1)
    extra = _several(tags.get(_EXTRA_BANDS, ()))
    # Some writers of RGBA declare no extra band at all.
    alpha = bands == colours + 1 and (extra[0] in _ALPHA if extra else colours == 3)
    numbers = set(_several(tags.get(_NUMBERS, 1)))
    return Layout(
        bits=max(map(int, _several(tags.get(_BITS, 1))), default=1),  # of a damaged file a tag may be text
        bands=bands,
        colours=colours,
        alpha=alpha,
        signed=2 in numbers,
        floating=bool(numbers & {3, 5, 6}),
        white_is_zero=photometric == 0,
    )


def orientation_of(picture: Image.Image) -> int:
    """EXIF's orientation, 1..8, else XMP's, which only newer versions of Pillow look up in every format."""
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    if orientation is not None:
        return orientation
    # A raw profile is a line with its name, one with its length, and hexadecimals.
    texts = [picture.info[name].split("\n") for name in PROFILES if name in picture.info]
    profiles = [bytes.fromhex("".join(lines[3:])) for lines in texts]
    for profile in profiles:
        if profile.startswith(b"Exif\0\0"):
            exif = Image.Exif()
            exif.load(profile)
            orientation = exif.get(ExifTags.Base.Orientation)
    for each in (picture.info.get("XML:com.adobe.xmp"), picture.info.get("xmp"), *profiles):
        xmp = each.encode() if isinstance(each, str) else each
        match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp) if isinstance(xmp, bytes) else None
        orientation = int(match[1]) if orientation is None and match is not None else orientation
    return 1 if orientation is None else orientation


def tiff_size(tags: Mapping[int, Any]) -> tuple[int, int]:
    """(width, height) as stored. Pillow's own size is turned already in some of its versions."""
    return tags[_WIDTH], tags[_HEIGHT]


def lacking(tags: Mapping[int, Any]) -> str | None:
    """How many of its strips or tiles a TIFF with these tags holds, in words; None if all are there.

    Pillow leaves the pixels of the others black.
    """
    width, height = tiff_size(tags)
    name, across, down = "tiles", tags.get(_TILE_WIDTH), tags.get(_TILE_HEIGHT)
    if across is None or down is None:
        name, across, down = "strips", width, tags.get(_STRIP_HEIGHT, height)
    needed = math.ceil(width / across) * math.ceil(height / down)
    needed *= tags.get(_BANDS, 1) if tags.get(_PLANES, 1) == 2 else 1
    held = len(_several(tags.get(_STRIPS, tags.get(_TILES, ()))))
    return None if held >= needed else f"it holds {held} of its {needed} {name}"


def check_layout(stored: Layout, path: object) -> None:
    """Raise ValueError for bands that would be left out, and for colours whose bits beyond 8 would be."""
    if stored.bands > stored.colours + stored.alpha:
        raise ValueError(
            f"{path} has {stored.bands} bands ({_numbers(stored)} each); expected one (grey) or three (declared as "
            "RGB), with or without alpha. Save the bands you mean as a file of 8-bit grey or RGB"
        )
    if stored.bands > 1 and (stored.bits > 8 or stored.signed or stored.floating):
        raise ValueError(
            f"{path} has {stored.bands} channels of {_numbers(stored)}; expected 8 bits. "
            "Save it as 8-bit RGB: only you know which range of values matters"
        )


def count_pages(picture: Image.Image, file: IO[bytes]) -> int:
    """How many pictures the opened `file` holds, 1000 at most.

    A phone's MPO counts as one: what follows the photograph is the same scene for another eye, or a map of its depths.
    So does a TIFF with smaller copies of its picture, or its outline. It may move the file's position.
    """
    if picture.format == "MPO" or not getattr(picture, "is_animated", False):
        return 1
    return count_tiff_pages(file) if isinstance(picture, TiffImageFile) else int(getattr(picture, "n_frames", 1))


def count_tiff_pages(file: IO[bytes]) -> int:
    """How many pictures a TIFF holds, without smaller copies and outlines. It moves the file's position."""
    kinds = [tags.get(_PAGE_KIND, 0) for tags in tiff_pages(file)]
    return 1 + sum(not kind & (_COPY | _OUTLINE) for kind in kinds[1:])


def check_pages(number: int, path: object) -> None:
    """Raise ValueError for more than one page or frame."""
    if number > 1:
        raise ValueError(
            f"{path} has {number} pages or frames{' or more' if number >= _MANY_PAGES else ''}; expected one picture. "
            "Save each as a file of its own, as `magick FILE page-%d.png` does, or take it out of the dataset"
        )


def tiff_pages(file: IO[bytes]) -> Iterator[ImageFileDirectory_v2]:
    """The tags of each page of a TIFF, in order; the same object each time. It moves the file's position."""
    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + file.read(8) if head[2:4] in (b"+\0", b"\0+") else head)
    seen: set[int] = set()
    while tags.next and tags.next not in seen and len(seen) < _MANY_PAGES:
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        yield tags


def why_unknown(file: IO[bytes], head: bytes, path: object) -> str:
    """Why no decoder knows the file that begins with `head`. Raises ValueError where its layout is the reason."""
    kind = kind_of(head)
    if kind == "TIFF":
        stored = None
        with suppress(Exception):  # whatever is wrong with its tags, the file is damaged
            stored = tiff_layout(next(tiff_pages(file)))
        if stored is not None:
            check_layout(stored, path)
            if stored.bits > 8:
                return f"its pixels have {_numbers(stored)}; expected 8"
    if not head.strip(b"\0"):
        return "it holds only zeros" if head else "it is empty"
    if kind is None or kind in NAMED:
        return f"it is no {NAMED}" if kind is None else f"it begins as a {kind} file and goes on otherwise"
    return f"its content is {kind}; expected {NAMED}"


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _numbers(stored: Layout) -> str:
    kind = "floating-point " if stored.floating else "signed " if stored.signed else ""
    return f"{stored.bits} {kind}bits"


def described(value: object) -> str:
    """The kind of a value, and of an array its shape and type."""
    return f"an array {value.shape} {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
