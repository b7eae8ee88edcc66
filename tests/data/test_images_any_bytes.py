"""Whatever bytes a picture's file holds: pixels of the size that was told, or a ValueError that names the file."""

import base64
import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.picture_files import noise, png, tiff, tiff_of

from semiseg.data.images import image_size, read_image
from semiseg.data.masks import MaskReader

COLORS = ((0, 0, 0), (200, 0, 0), (0, 200, 0))
MASKS = MaskReader(("a", "b", "c"), COLORS)
CLASSES = noise(9, 13, 1)[..., 0] % 3


def saved(picture, kind, **options):
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return content.getvalue()


def valid_files():
    """Small files of every kind."""
    photo, index = Image.fromarray(noise(9, 13, 3)), Image.fromarray(CLASSES)
    color = Image.fromarray(np.array(COLORS, np.uint8)[CLASSES])
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [saved(photo, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP")]
    files += [saved(photo, "BMP"), saved(index, "PNG"), saved(color, "PNG"), saved(index, "PNG", bits=2)]
    files += [saved(photo, "TIFF", tiffinfo={274: 6}, compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate")]
    files += [saved(index.convert("P"), "TIFF"), saved(photo.convert("1"), "TIFF"), tiff_of(noise(9, 13, 3), order=">")]
    files += [saved(photo, "WEBP", lossless=True), saved(photo.convert("CMYK"), "JPEG"), saved(photo, "MPO")]
    pages = [photo, photo.rotate(90)]
    return files + [saved(photo, kind, save_all=True, append_images=pages) for kind in ("PNG", "TIFF", "MPO", "WEBP")]


FILES = valid_files()


@st.composite
def changed(draw):
    """A valid file with bytes changed, cut out, doubled or put in."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        # Most of what matters stands at the beginning.
        place = draw(st.integers(0, min(len(content), draw(st.sampled_from([40, 400, 10**6])))))
        length = draw(st.integers(0, 8))
        content[place : place + length] = draw(st.one_of(st.binary(max_size=8), st.just(b"\xff\xff\xff\xff")))
    return bytes(content)


@st.composite
def tagged(draw):
    """A TIFF of one page or two, each with tags of any value."""
    numbers = st.one_of(st.integers(0, 9), st.sampled_from([16, 32, 255, 65535, 2**31, 2**32 - 1]))
    values = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=5).map(tuple))
    known = st.sampled_from([254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 317, 320, 322, 323, 338, 339, 700])
    plain = {256: 13, 257: 9, 258: 8, 259: 1, 262: 1, 277: 1, 278: 9}
    page = st.tuples(st.dictionaries(known, values, max_size=3).map(lambda tags: plain | tags), st.just([bytes(117)]))
    return tiff(*draw(st.lists(page, min_size=1, max_size=2)))


@st.composite
def headed(draw):
    """A PNG with any depth, colour type and length of rows."""
    depth = draw(st.sampled_from([1, 2, 4, 8, 16, 3, 0]))
    rows = draw(st.lists(st.binary(min_size=13, max_size=13), min_size=1, max_size=9))
    return png(draw(st.integers(0, 14)), rows, depth, draw(st.integers(0, 7)))


CONTENTS = {
    "bytes": st.binary(max_size=200),
    "magic": st.tuples(st.sampled_from([content[:12] for content in FILES]), st.binary(max_size=200)).map(b"".join),
    "changed": changed(),
    "tagged": tagged(),
    "headed": headed(),
}


def outcome(read, path):
    """What `read` makes of `path`, or None if it refuses it by name."""
    try:
        return read(path)
    except ValueError as error:
        words = str(error)
    assert str(path) in words
    return None


@pytest.mark.parametrize("contents", CONTENTS.values(), ids=CONTENTS)
def test_any_bytes_are_pixels_or_refused_by_name(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("any") / "any.png"

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(contents)
    def check(content):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of what is not whole
            pixels, size, mask = (outcome(read, path) for read in (read_image, image_size, MASKS.values))
            from_bytes = outcome(lambda name: read_image(name, content), path)
        if pixels is not None:
            assert pixels.dtype == np.uint8
            assert pixels.shape == (*size, 3)
            np.testing.assert_array_equal(from_bytes, pixels)
        else:
            assert from_bytes is None
        if mask is not None:
            assert mask.shape == size
            assert mask.dtype.kind in "ui"

    check()


@pytest.mark.parametrize("content", FILES[:16], ids=lambda content: content[:4].hex())
def test_the_files_that_are_changed_are_valid(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert read_image(tmp_path / "x").shape == (*image_size(tmp_path / "x"), 3)


KEPT = {
    "exif that is no exif": struct.pack(">HH", 0xFFD8, 0xFFE1) + b"\0\x10Exif\0\0MM\0*\0\0\0\x08" + FILES[0][2:],
    "bits in words": base64.b85decode(
        "Nl7XI2mk;83IG5B1ONd5000F5000321ONd5000L7000630RRL5004#n000940{{U4000310001v0000L0RsR500004"
        "0000M0R+DQhNe{jfK3trj)b!Sx@CO;pte5%K!76v82;1%4+<FoKqr9!;A$8EjPGUuhAc1u_)IkbS=dGZwmS#_@qi=%"
        "#k2+h(S}z5"
    ),
}


@pytest.mark.parametrize("content", KEPT.values(), ids=KEPT)
def test_what_was_once_found_stays_found(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    pixels, size = outcome(read_image, tmp_path / "x"), outcome(image_size, tmp_path / "x")
    assert pixels is None or pixels.shape == (*size, 3)
