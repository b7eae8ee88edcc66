"""Masks and photographs: every way they may be stored, and every way they may be wrong."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from semiseg.data.dataset import palette
from semiseg.data.files import FileSet
from semiseg.data.images import image_size, read_image
from semiseg.data.masks import MaskReader, looks_binary
from semiseg.data.prepared import Prepared
from semiseg.types import IGNORE

CLASSES = ("road", "tree", "sky")
COLORS = ((128, 64, 128), (0, 128, 0), (70, 130, 180))
INDICES = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], dtype=np.uint8)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((2, 4, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def mask(tmp_path):
    return tmp_path / "mask.png"


def save_palette(path, indices, **options):
    picture = Image.fromarray(indices, mode="P")
    # A palette whose colours have nothing to do with the indices: reading colours cannot go unnoticed.
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path, **options)


def test_grey_and_palette_masks_are_read_as_indices(image, mask):
    Image.fromarray(INDICES).save(mask)
    np.testing.assert_array_equal(MaskReader(CLASSES).read(mask, image), INDICES)
    save_palette(mask, INDICES)
    np.testing.assert_array_equal(MaskReader(CLASSES).read(mask, image), INDICES)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_masks_of_few_bits_are_read_as_indices(image, mask, bits):
    indices = INDICES % 2
    save_palette(mask, indices, bits=bits)
    np.testing.assert_array_equal(MaskReader(CLASSES).read(mask, image), indices)


@pytest.mark.parametrize(("depth", "rows"), [(2, [0b00_01_10_11, 0b10_10_00_01]), (4, [0x0123, 0x2201])])
def test_grey_masks_of_2_and_4_bits_are_not_stretched(image, mask, depth, rows):
    write_grey_png(mask, depth, [row.to_bytes(depth // 2, "big") for row in rows])
    expected = np.array([[0, 1, 2, 3], [2, 2, 0, 1]])
    np.testing.assert_array_equal(MaskReader((*CLASSES, "car")).read(mask, image), expected)


def test_1_bit_masks_are_0_and_1(image, mask):
    Image.fromarray(INDICES == 1).save(mask)
    np.testing.assert_array_equal(MaskReader(("no", "yes")).read(mask, image), INDICES == 1)


def test_16_bit_masks_are_read_if_their_indices_fit_and_refused_if_not(image, mask):
    Image.fromarray(INDICES.astype(np.uint16)).save(mask)
    read = MaskReader(CLASSES).read(mask, image)
    np.testing.assert_array_equal(read, INDICES)
    assert read.dtype == np.uint8
    Image.fromarray(INDICES.astype(np.uint16) + 256).save(mask)  # 256 must not come back as 0
    with pytest.raises(ValueError, match=rf"{re.escape(str(mask))} holds 256, 257, 258, 511 at 8 pixels"):
        MaskReader(CLASSES).read(mask, image)


@given(hnp.arrays(np.uint8, (2, 4), elements=st.sampled_from([0, 1, 2, IGNORE])), st.permutations(COLORS))
def test_colour_codes_are_decoded_in_any_order_of_colours(tmp_path_factory, indices, colors):
    folder = tmp_path_factory.getbasetemp()
    photo, mask = folder / "photo.png", folder / "colour.png"
    Image.new("RGB", (4, 2)).save(photo)
    table = {**dict(enumerate(colors)), IGNORE: (1, 2, 3)}
    Image.fromarray(np.array([[table[index] for index in row] for row in indices.tolist()], np.uint8)).save(mask)
    reader = MaskReader(CLASSES, tuple(colors), ignore_color=(1, 2, 3))
    np.testing.assert_array_equal(reader.read(mask, photo), indices)


def test_a_colour_without_a_class_is_named(image, mask):
    Image.new("RGB", (4, 2), (9, 8, 7)).save(mask)
    with pytest.raises(ValueError, match=rf"{re.escape(str(mask))} holds 1 colour.* 8 pixels: \(9 8 7\).*classes.txt"):
        MaskReader(CLASSES, COLORS).read(mask, image)


def test_a_colour_mask_without_known_colours_is_refused(image, mask):
    Image.new("RGB", (4, 2)).save(mask)
    with pytest.raises(ValueError, match=r"mask\.png is a colour picture.*`road 128 64 128`"):
        MaskReader(CLASSES).read(mask, image)


def test_an_unknown_index_is_named_with_the_valid_range(image, mask):
    Image.fromarray(INDICES + np.uint8(1)).save(mask)  # 255 wraps to 0: three of the eight pixels hold 3
    with pytest.raises(
        ValueError, match=r"mask\.png holds 3 at 3 pixels; expected 0\.\.2 \(road, tree, sky\) or 255.*classes\.txt"
    ):
        MaskReader(CLASSES).read(mask, image)


def test_another_size_than_the_image_names_both(image, mask):
    Image.new("L", (5, 2)).save(mask)
    with pytest.raises(ValueError, match=r"mask\.png is 5 x 2 pixels, but its image .*photo\.png is 4 x 2"):
        MaskReader(CLASSES).read(mask, image)


@pytest.mark.parametrize("mode", ["LA", "CMYK", "F"])
def test_other_pixel_formats_are_refused(tmp_path, image, mode):
    path = tmp_path / "mask.tif"
    Image.new(mode, (4, 2)).save(path)
    with pytest.raises(ValueError, match=rf"mask\.tif has '{mode}' pixels; expected one channel"):
        MaskReader(CLASSES).read(path, image)


def test_in_a_binary_set_255_is_class_1(image, mask):
    Image.fromarray(np.where(INDICES == 1, 255, 0).astype(np.uint8)).save(mask)
    reader = MaskReader(("cell", "background"), binary=True)
    np.testing.assert_array_equal(reader.read(mask, image), INDICES == 1)
    Image.fromarray(INDICES).save(mask)
    with pytest.raises(ValueError, match="holds 1, 2 at 5 pixels; expected 0 or 255"):
        reader.read(mask, image)


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([{0, 255}, {0}], True),
        ([{0, 255}, {0, 1}], False),  # 255 is ignore as soon as one mask says 1
        ([{0, 1, 255}], False),
        ([{0}, {0}], False),
        ([], False),
    ],
)
def test_looks_binary(masks, expected):
    assert looks_binary(map(frozenset, masks)) is expected


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(ValueError, match=r"photo\.jpg cannot be read as a picture.*truncated"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_a_file_that_is_no_picture_is_named(tmp_path, image, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for read in (lambda: read_image(path), lambda: MaskReader(CLASSES).read(path, image)):
        with pytest.raises(ValueError, match=r"broken\.png cannot be read as a picture"):
            read()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_a_photograph_of_more_than_8_bits_is_refused(tmp_path, mode):
    path = tmp_path / "deep.tif"
    Image.new(mode, (4, 2)).save(path)
    with pytest.raises(ValueError, match=r"deep\.tif has .* expected 8 bits.*Save it as 8-bit"):
        read_image(path)


@pytest.mark.parametrize(("mode", "pixel"), [("L", 7), ("RGB", (7, 8, 9)), ("RGBA", (7, 8, 9, 0)), ("P", 0)])
def test_photographs_come_as_rgb(tmp_path, mode, pixel):
    path = tmp_path / "photo.png"
    Image.new(mode, (4, 2), pixel).save(path)
    expected = {"L": (7, 7, 7), "P": (0, 0, 0)}.get(mode, (7, 8, 9))
    np.testing.assert_array_equal(read_image(path), np.full((2, 4, 3), expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation):
    upright = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 10
    # What a camera stores under each EXIF orientation, for this scene.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)
    assert image_size(path) == (2, 4)
    if orientation >= 5:
        Image.new("L", (2, 4)).save(tmp_path / "mask.png")
        with pytest.raises(ValueError, match="EXIF orientation"):
            MaskReader(CLASSES).read(tmp_path / "mask.png", path)


def test_a_set_without_masks_never_reads_one(tmp_path, image):
    files = FileSet("unlabeled", ["photo"], [image])
    assert not files.has_masks
    for image_set in (files, Prepared(files, 0.5), Prepared(files, cache=True)):
        with pytest.raises(ValueError, match="unlabeled images have no masks"):
            image_set.mask(0)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 3, (6, 8), dtype=np.uint8)).save(tmp_path / f"{name}_mask.png")
    images = [tmp_path / f"{name}.png" for name in "ab"]
    return FileSet("labeled", ["a", "b"], images, [tmp_path / f"{name}_mask.png" for name in "ab"], MaskReader(CLASSES))


def test_shrinking_averages_images_and_picks_labels(files):
    half = Prepared(files, 0.5)
    blocks = files.image(1).reshape(3, 2, 4, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(half.image(1) - blocks).max() <= 0.5
    corners = files.mask(1).reshape(3, 2, 4, 2).transpose(0, 2, 1, 3).reshape(3, 4, 4)
    assert half.mask(1).shape == (3, 4)
    assert (half.mask(1)[..., None] == corners).any(axis=-1).all()


def test_growing_keeps_labels(files):
    double = Prepared(files, 2)
    np.testing.assert_array_equal(double.mask(0), files.mask(0).repeat(2, axis=0).repeat(2, axis=1))
    assert double.image(0).shape == (12, 16, 3)


def test_a_cached_set_survives_its_files_and_a_pickle(files):
    expected = [(files.image(index), files.mask(index)) for index in range(2)]
    cached = Prepared(files, cache=True)
    for path in (*files.images, *files.masks):
        path.unlink()
    for image_set in (cached, pickle.loads(pickle.dumps(cached))):
        assert len(image_set) == 2
        for index, (image, mask) in enumerate(expected):
            np.testing.assert_array_equal(image_set.image(index), image)
            np.testing.assert_array_equal(image_set.mask(index), mask)


def test_the_palette_is_that_of_voc_and_its_colours_differ():
    assert palette(21)[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette(21)[15] == (192, 128, 128)
    assert palette(21)[20] == (0, 64, 128)
    assert len(set(palette(256))) == 256


def write_grey_png(path, depth, rows):
    """A grey PNG of `depth` bits, 4 pixels wide: PIL reads such files but does not write them."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 4, len(rows), depth, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
