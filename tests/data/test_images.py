"""The door for pictures: every orientation, layout, number of pages and kind of file, read rightly or refused."""

import os
import socket
import stat
import struct
import time
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from support.picture_files import chunk, deep_png, noise, png, tiff, tiff_of

from semiseg.data import images
from semiseg.data.dataset import Dataset
from semiseg.data.images import as_pixels, decoded, image_size, read_image
from semiseg.data.masks import MaskReader

COLORS = ((0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90), (255, 255, 255))
CLASSES = tuple("abcdef")
ORIENTATIONS = range(1, 9)
READERS = {"image": read_image, "mask": MaskReader(CLASSES, COLORS).values, "size": image_size}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def stored_as(upright, orientation):
    """What a camera stores under an EXIF orientation, of this scene."""
    return np.ascontiguousarray(
        {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.swapaxes(0, 1),
            6: np.rot90(upright, 1),
            7: upright[::-1, ::-1].swapaxes(0, 1),
            8: np.rot90(upright, -1),
        }[orientation]
    )


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def xmp_of(orientation):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="{orientation}"/></x:xmpmeta>'


def raw_profile(orientation):
    """EXIF as ImageMagick writes it into a PNG."""
    data = exif_of(orientation).tobytes()
    return f"\nexif\n{len(data):8}\n{data.hex()}\n"


def app1(orientation, key="APP1"):
    """EXIF, or XMP, as older versions of it write them."""
    data = exif_of(orientation).tobytes()
    if key == "xmp" or orientation % 2:
        data = b"http://ns.adobe.com/xap/1.0/\0" + xmp_of(orientation).encode()
    lines = "\n".join(data.hex()[place : place + 72] for place in range(0, 2 * len(data), 72))
    return f"\n{key}\n{len(data):8}\n{lines}\n"


def late_exif(path, picture, orientation):
    """A PNG whose EXIF stands behind its pixels."""
    picture.save(path)
    content = path.read_bytes()
    late = chunk(b"eXIf", exif_of(orientation).tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(content[:-12] + late + content[-12:])


def text(key, value, **options):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, **options)
    return info


def itxt(key, value):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, value, zip=True)
    return info


# name -> (ending, whether pixels come back as they were, how to save a picture with an orientation)
WRITERS = {
    "jpeg": (".jpg", False, lambda p, im, o: im.save(p, exif=exif_of(o), quality=100, subsampling=0)),
    "jpeg xmp": (".jpg", False, lambda p, im, o: im.save(p, xmp=xmp_of(o).encode(), quality=100, subsampling=0)),
    "png": (".png", True, lambda p, im, o: im.save(p, exif=exif_of(o))),
    "png late": (".png", True, late_exif),
    "png raw profile": (
        ".png",
        True,
        lambda p, im, o: im.save(p, pnginfo=text("Raw profile type exif", raw_profile(o))),
    ),
    "png compressed profile": (
        ".png",
        True,
        lambda p, im, o: im.save(p, pnginfo=text("Raw profile type exif", raw_profile(o), zip=True)),
    ),
    "png app1": (".png", True, lambda p, im, o: im.save(p, pnginfo=text("Raw profile type APP1", app1(o), zip=True))),
    "png xmp profile": (
        ".png",
        True,
        lambda p, im, o: im.save(p, pnginfo=text("Raw profile type xmp", app1(o, "xmp"))),
    ),
    "png xmp": (".png", True, lambda p, im, o: im.save(p, pnginfo=itxt("XML:com.adobe.xmp", xmp_of(o)))),
    "tiff": (".tif", True, lambda p, im, o: im.save(p, tiffinfo={274: o})),
    "tiff lzw": (".tif", True, lambda p, im, o: im.save(p, tiffinfo={274: o}, compression="tiff_lzw")),
    "tiff xmp": (".tif", True, lambda p, im, o: im.save(p, tiffinfo={700: xmp_of(o).encode()})),
    "tiff twice": (".tif", True, lambda p, im, o: im.save(p, tiffinfo={274: o, 700: xmp_of(o).encode()})),
    "webp": (".webp", True, lambda p, im, o: im.save(p, exif=exif_of(o), lossless=True)),
    "webp xmp": (".webp", True, lambda p, im, o: im.save(p, xmp=xmp_of(o).encode(), lossless=True)),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_every_format_is_upright_with_its_size(tmp_path, writer, orientation):
    ending, exact, save = WRITERS[writer]
    upright = np.kron(noise(3, 5, 3), np.ones((8, 8, 1), np.uint8))
    path = tmp_path / f"photo{ending}"
    save(path, Image.fromarray(stored_as(upright, orientation)), orientation)
    loaded = Image.open(path)
    loaded.load()
    given = (as_pixels(Image.open(path)), as_pixels(loaded))
    for read in (read_image(path), read_image("photo", path.read_bytes()), *given):
        np.testing.assert_allclose(read, upright, atol=0 if exact else 30)
    assert image_size(path) == (24, 40)


@pytest.mark.parametrize("name", ["Raw profile type APP1", "Raw profile type xmp"])
def test_a_profile_that_cannot_be_read_is_named_unless_exif_tells(tmp_path, name):
    info = text(name, "\nAPP1\n  5\nno hexadecimals\n")
    Image.new("RGB", (5, 3)).save(tmp_path / "photo.png", pnginfo=info)
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"photo\.png cannot be read as a picture"):
            read(tmp_path / "photo.png")
    Image.new("RGB", (5, 3)).save(tmp_path / "photo.png", pnginfo=info, exif=exif_of(6))
    assert read_image(tmp_path / "photo.png").shape == (5, 3, 3)
    assert image_size(tmp_path / "photo.png") == (5, 3)


def test_exif_goes_before_xmp(tmp_path):
    pixels = noise(3, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True, exif=exif_of(1), xmp=xmp_of(6).encode())
    Image.fromarray(pixels).save(tmp_path / "x.tif", tiffinfo={274: 1, 700: xmp_of(6).encode()})
    for name in ("x.webp", "x.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)
        assert image_size(tmp_path / name) == (3, 5)


@pytest.mark.parametrize("writer", [name for name, (_, exact, _) in WRITERS.items() if exact])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_masks_own_orientation_is_applied(tmp_path, writer, orientation, mode):
    ending, _, save = WRITERS[writer]
    indices = noise(3, 5, 1)[..., 0] % 6
    stored = stored_as(indices, orientation)
    if mode == "RGB" or ending == ".webp":  # WebP has no other pixels
        picture = Image.fromarray(np.array(COLORS, np.uint8)[stored])
    else:
        picture = Image.fromarray(stored)
        if mode == "P":
            picture.putpalette(bytes(range(7, 25)))
    save(tmp_path / f"mask{ending}", picture, orientation)
    Image.new("RGB", (5, 3)).save(tmp_path / "photo.png")
    read = MaskReader(CLASSES, COLORS).read(tmp_path / f"mask{ending}", tmp_path / "photo.png")
    np.testing.assert_array_equal(read, indices)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_that_does_not_fit_the_upright_photograph_is_refused(tmp_path, writer, orientation):
    ending, _, save = WRITERS[writer]
    photo = tmp_path / f"photo{ending}"
    save(photo, Image.new("RGB", (5, 3)), orientation)  # 3 x 5 upright
    Image.new("L", (5, 3)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png is 5 x 3 .*photo\S+ is 3 x 5 .*EXIF orientation"):
        MaskReader(CLASSES).read(tmp_path / "mask.png", photo)
    Image.new("L", (3, 5)).save(tmp_path / "mask.png")
    assert MaskReader(CLASSES).read(tmp_path / "mask.png", photo).shape == (5, 3)


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(
    "writer", [name for name, (ending, exact, _) in WRITERS.items() if exact and ending != ".webp"]
)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_pair_of_pil_images_is_turned_as_its_files_are(tmp_path, writer, orientation, mode, loaded):
    ending, _, save = WRITERS[writer]
    indices = noise(3, 5, 1)[..., 0] % 6
    picture = Image.fromarray(stored_as(indices, orientation))
    if mode == "P":
        picture.putpalette(bytes(range(7, 25)))
    save(tmp_path / f"mask{ending}", picture, orientation)
    save(tmp_path / f"photo{ending}", picture.convert("RGB"), orientation)
    image, mask = pair = [Image.open(tmp_path / f"{name}{ending}") for name in ("photo", "mask")]
    if loaded and ending == ".tif" and orientation > 4:  # which Pillow mixes up where it maps the file
        pair = [Image.open(BytesIO((tmp_path / f"{name}.tif").read_bytes())) for name in ("photo", "mask")]
        image, mask = pair
    for each in pair if loaded else ():
        each.load()
    np.testing.assert_array_equal(own([(image, mask)]).mask(0), indices)


def own(items, classes=CLASSES, **options):
    return Dataset.from_items(classes, labeled=items, val=(), **options).labeled


@pytest.mark.parametrize("way", ["opened", "from memory", "decoded"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_pil_mask_of_few_bits_is_not_stretched(tmp_path, bits, way):
    indices = np.arange(8, dtype=np.uint8) % 2**bits
    packed = int("".join(f"{value:0{bits}b}" for value in indices), 2).to_bytes(bits, "big")
    (tmp_path / "mask.png").write_bytes(png(8, [packed], bits))
    mask = Image.open(BytesIO(png(8, [packed], bits)) if way == "from memory" else tmp_path / "mask.png")
    if way == "decoded":
        mask.load()
    classes = [f"c{number}" for number in range(16)]
    np.testing.assert_array_equal(own([(Image.new("RGB", (8, 1)), mask)], classes).mask(0), [indices])


def test_a_pil_mask_of_colours_is_read_by_them_or_refused():
    mask = Image.fromarray(np.array([[COLORS[3], COLORS[1]]], np.uint8))
    item = [(Image.new("RGB", (2, 1)), mask)]
    np.testing.assert_array_equal(own(item, colors=COLORS).mask(0), [[3, 1]])
    with pytest.raises(ValueError, match="labeled mask 0 is a colour picture, and no colours are known"):
        own(item).mask(0)
    with pytest.raises(ValueError, match=r"labeled mask 0 has 'LA' pixels; expected one channel"):
        own([(item[0][0], mask.convert("LA"))]).mask(0)


@pytest.mark.parametrize(
    ("classes", "colors", "message"),
    [
        ([], None, "the classes are 0 of them; expected 2 to 255 names"),
        (["a"], None, "the classes are 1 of them"),
        ([f"c{number}" for number in range(256)], None, "the classes are 256 of them"),
        ("road", None, "the classes are one text"),
        (["a", " "], None, "none of them empty"),
        (["a", 1], None, "expected 2 to 255 names"),
        (["a", "b", "a"], None, "the classes have 'a' and 'a'; expected a name of its own"),
        (["\u00e9", "e\u0301"], None, r"the classes have '\\xe9' and 'e\\u0301'"),
        (["a", "b"], [(0, 0, 0)], "there are 1 colours and 2 classes"),
        (["a", "b"], [(0, 0, 0), (0, 0, 0)], r"the colour \(0, 0, 0\) is given more than once"),
        (["a", "b"], [(0, 0, 0), (0, 0, 256)], r"the colour of class 1 is \(0, 0, 256\); expected red, green and blue"),
        (["a", "b"], [(0, 0, 0), (0, 0)], r"the colour of class 1 is \(0, 0\)"),
        (["a", "b"], [(0.5, 0, 0), (0, 0, 1)], r"the colour of class 0 is \(0\.5, 0, 0\)"),
        (["a", "b"], ["red", (0, 0, 1)], "the colour of class 0 is 'red'"),
    ],
)
def test_classes_of_ones_own_are_checked_when_the_dataset_is_made(classes, colors, message):
    with pytest.raises(ValueError, match=message):
        own((), classes, colors=colors)


def test_255_classes_of_ones_own_are_taken():
    assert own((), [f"c{number}" for number in range(255)]).names == []


# Bits and bands -------------------------------------------------------------------------------------------------------


def refused(tmp_path, content, message, ending=".tif", names=tuple(READERS), handed=False):
    path = tmp_path / f"odd{ending}"
    path.write_bytes(content)
    for image in handed_over_ways(path) if handed else ():
        with pytest.raises(ValueError, match=rf"my picture.*{message}"):
            as_pixels(image, "my picture")
        with pytest.raises(ValueError, match=rf"labeled image 0.*{message}"):
            own([(image, np.zeros((1, 1), np.uint8))]).image(0)
    for name in names:
        with pytest.raises(ValueError, match=rf"odd\{ending}.*{message}"):
            READERS[name](path)
    return path


def handed_over_ways(path):
    """The picture as a caller may hand it over, where Pillow opens it: as it is, decoded, from memory."""
    with suppress(OSError, SyntaxError):
        yield Image.open(path)
        yield Image.open(BytesIO(path.read_bytes()))
        loaded = Image.open(path)
        loaded.load()
        yield loaded


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_png_colours_of_16_bits_are_refused(tmp_path, bands):
    refused(
        tmp_path, deep_png(noise(4, 6, bands, np.uint16)), "has . channels of 16 bits; expected 8", ".png", handed=True
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "int32", "float16", "float32", "float64", "int8"])
@pytest.mark.parametrize("bands", [3, 4])
def test_tiff_colours_of_other_numbers_are_refused(tmp_path, kind, bands, planar, order):
    content = tiff_of(noise(4, 6, bands).astype(kind), planar=planar, order=order)
    refused(
        tmp_path,
        content,
        rf"has {bands} channels of {8 * np.dtype(kind).itemsize} .*bits; expected 8 bits",
        handed=True,
    )


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("bands", "tags"), [(2, {}), (5, {}), (6, {}), (12, {}), (3, {"photometric": 1})])
def test_more_bands_than_colours_are_refused(tmp_path, bands, tags, kind, planar):
    content = tiff_of(noise(4, 6, bands).astype(kind), planar=planar, **tags)
    refused(
        tmp_path, content, rf"has {bands} bands .*expected one \(grey\) or three.*Save the bands you mean", handed=True
    )


@pytest.mark.parametrize("extra", [(0,), (0, 0), (1, 0), (2, 0), (0, 0, 0)])
def test_declared_extra_bands_are_refused(tmp_path, extra):
    content = tiff_of(noise(4, 6, 3 + len(extra)), photometric=2, tag_338=extra)
    refused(tmp_path, content, f"has {3 + len(extra)} bands", handed=True)


@pytest.mark.parametrize("tags", [{}, {"tag_338": 1}, {"tag_338": 2}])
def test_a_fourth_band_is_alpha_only_if_it_looks_it(tmp_path, tags):
    pixels = noise(8, 8, 4)
    refused(tmp_path, tiff_of(pixels, **tags), "calls alpha.*near infrared", names=["image"], handed=True)
    pixels[..., 3] = 255
    (tmp_path / "alpha.tif").write_bytes(tiff_of(pixels, **tags))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.tif"), pixels[..., :3])


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "int32", "float32"])
def test_photographs_of_one_deep_channel_are_refused(tmp_path, kind):
    refused(
        tmp_path,
        tiff_of(noise(4, 6, 1).astype(kind)),
        "expected 8 bits.*Save it as 8-bit",
        names=["image"],
        handed=True,
    )


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_numbers_that_no_decoder_knows_are_named(tmp_path, kind):
    refused(tmp_path, tiff_of(noise(4, 6, 1).astype(kind)), "its pixels have .* floating-point bits; expected 8")


def test_signed_pixels_are_refused_and_signed_masks_keep_their_sign(tmp_path):
    pixels = np.array([[0, 1, 2], [-1, 3, 4]], np.int8)
    path = refused(tmp_path, tiff_of(pixels), "signed 8-bit pixels", names=["image"], handed=True)
    np.testing.assert_array_equal(READERS["mask"](path), pixels)
    with pytest.raises(ValueError, match="holds -1 at 1 pixels"):
        MaskReader(CLASSES).read(path, path)
    for mask in handed_over_ways(path):
        with pytest.raises(ValueError, match="labeled mask 0 has the value -1"):
            own([(Image.new("RGB", (3, 2)), mask)]).mask(0)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int8", "int16", "int32", "uint32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_index_masks_of_any_whole_number_are_read(tmp_path, kind, order):
    indices = noise(4, 6, 1)[..., 0] % 6
    content = tiff_of(indices.astype(kind), order=order)
    if (kind, order) == ("uint32", ">"):  # no decoder knows it
        refused(tmp_path, content, "its pixels have 32 bits; expected 8")
        return
    (tmp_path / "mask.tif").write_bytes(content)
    np.testing.assert_array_equal(READERS["mask"](tmp_path / "mask.tif"), indices)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_tiff_masks_of_few_bits_are_not_stretched(tmp_path, bits):
    indices = np.arange(16, dtype=np.uint8).reshape(2, 8) % min(2**bits, 6)
    unpacked = np.unpackbits(indices[..., None], axis=-1)[..., 8 - bits :]
    rows = np.packbits(unpacked.reshape(2, -1), axis=-1).tobytes()
    for photometric in (1, 3):
        tags = {256: 8, 257: 2, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 2}
        tags |= {320: tuple(range(3 * 2**bits))} if photometric == 3 else {}
        (tmp_path / "mask.tif").write_bytes(tiff((tags, [rows])))
        np.testing.assert_array_equal(READERS["mask"](tmp_path / "mask.tif"), indices)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_masks_whose_0_is_white_are_refused(tmp_path, kind):
    refused(tmp_path, tiff_of(noise(4, 6, 1).astype(kind), photometric=0), "0 is white", names=["mask"])
    for mask in handed_over_ways(tmp_path / "odd.tif"):
        with pytest.raises(ValueError, match="labeled mask 0 is a TIFF whose 0 is white"):
            own([(Image.new("RGB", (6, 4)), mask)]).mask(0)


SHOWN = {  # mode -> (pixel, what is seen of it)
    "1": (1, (255, 255, 255)),
    "L": (7, (7, 7, 7)),
    "LA": ((7, 0), (7, 7, 7)),
    "RGB": ((7, 8, 9), (7, 8, 9)),
    "RGBA": ((7, 8, 9, 0), (7, 8, 9)),
    "CMYK": ((10, 20, 30, 0), (245, 235, 225)),
    "P": (1, (4, 5, 6)),
}
WRITABLE = {".tif": list(SHOWN), ".png": list(SHOWN.keys() - {"CMYK"}), ".webp": ["RGB", "RGBA"]}
WRITABLE |= {".bmp": ["1", "L", "RGB", "P"]}


@pytest.mark.parametrize(("ending", "mode"), [(end, mode) for end, modes in WRITABLE.items() for mode in sorted(modes)])
@pytest.mark.filterwarnings("error")
def test_photographs_of_8_bits_come_as_rgb(tmp_path, ending, mode):
    pixel, seen = SHOWN[mode]
    picture = Image.new(mode, (4, 2), pixel)
    options = {"lossless": True, "exact": True} if ending == ".webp" else {}
    if mode == "P":
        picture.putpalette([1, 2, 3, 4, 5, 6])
        options |= {"transparency": b"\0\x80"} if ending == ".png" else {}
    picture.save(tmp_path / f"photo{ending}", **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"photo{ending}"), np.full((2, 4, 3), seen))


def test_planar_colours_are_read_as_others_are(tmp_path):
    pixels = noise(5, 7, 3)
    (tmp_path / "planar.tif").write_bytes(tiff_of(pixels, planar=True))
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif"), pixels)


def test_a_pil_image_without_a_way_to_rgb_is_refused():
    with pytest.raises(ValueError, match="the image has 'LAB' pixels; expected grey, RGB or CMYK"):
        as_pixels(Image.new("LAB", (4, 2)))


# Pages ----------------------------------------------------------------------------------------------------------------


@readers
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_more_than_one_page_is_refused_with_their_number(tmp_path, read, ending, count):
    pages = [Image.fromarray(noise(8, 8, 3, seed=page)) for page in range(count)]
    path = tmp_path / f"pages{ending}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=rf"pages\{ending} has {count} pages or frames; expected one.*magick"):
        read(path)


def test_the_first_picture_of_a_phones_file_is_the_photograph(tmp_path):
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (40, 200))
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.abs(read_image(tmp_path / "phone.jpg").astype(int) - 40).max() < 3
    assert image_size(tmp_path / "phone.jpg") == (8, 8)


def test_smaller_copies_and_an_outline_are_no_pages(tmp_path):
    pixels = noise(4, 6, 1)[..., 0]
    page = {256: 6, 257: 4, 258: 8, 262: 1, 277: 1, 278: 4}
    copy, outline = {**page, 254: 1}, {**page, 254: 4}
    content = tiff((page, [pixels.tobytes()]), (copy, [bytes(24)]), (outline, [bytes(24)]))
    (tmp_path / "overviews.tif").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "overviews.tif")[..., 0], pixels)


def test_counting_pages_ends(tmp_path):
    page = ({256: 6, 257: 4, 258: 8, 262: 1, 277: 1, 278: 4}, [bytes(24)])
    begun = time.monotonic()
    refused(tmp_path, tiff(*[page] * 5000), "has 1000 pages or frames or more")
    content = bytearray(tiff(page, page))
    content[-4:] = content[4:8]  # the last page is followed by the first
    refused(tmp_path, bytes(content), "has 2 pages or frames;")
    assert time.monotonic() - begun < 3


# Kinds of files -------------------------------------------------------------------------------------------------------


def make_socket(path):
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's whole path has to be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


SPECIAL = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "does not exist": lambda path: path,
    "does not exist, for it is a link to nothing": lambda path: path.symlink_to("nowhere"),
    "could not be read .*levels of symbolic links": lambda path: path.symlink_to(path.name),
}


@readers
@pytest.mark.parametrize("words", SPECIAL)
def test_what_is_no_file_is_named_at_once(tmp_path, read, words):
    path = tmp_path / "odd.png"
    SPECIAL[words](path)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=rf"odd\.png (is )?{words}"):
        read(path)
    assert time.monotonic() - begun < 1


@readers
def test_names_that_no_file_can_have_are_named(tmp_path, read):
    for name in ("a\0b.png", "x" * 300 + ".png"):
        with pytest.raises(ValueError, match=r"\.png could not be read \("):
            read(tmp_path / name)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"file/a\.png does not exist"):
        read(tmp_path / "file" / "a.png")


@readers
def test_missing_permission_says_so(tmp_path, read):
    path = tmp_path / "mine.png"
    Image.new("RGB", (4, 2)).save(path)
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(ValueError, match=r"mine\.png may not be read: permission denied.*chmod"):
            read(path)
    finally:
        if root:
            os.seteuid(0)
        path.chmod(stat.S_IRWXU)


CONTENTS = {
    "it is empty": b"",
    "it holds only zeros": bytes(500),
    "it is no JPEG, PNG, TIFF, BMP or WebP": b"hello, world",
    "Git LFS pointer: `git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "its content is PostScript; expected JPEG": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "its content is FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "its content is AVIF": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "its content is HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "its content is PDF": b"%PDF-1.4\n",
    "begins as a PNG file and goes on otherwise": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "(begins as a TIFF file and goes on otherwise|Invalid dimensions)": b"II*\0\xff\xff\xff\x7f" + bytes(40),
    "Truncated": b"\xff\xd8\xff\xe0hello",
    "begins as a BMP file": b"BMhello",
    "(WebP|decoder)": b"RIFF\x20\0\0\0WEBPVP8 " + bytes(40),
}


@pytest.mark.parametrize("words", CONTENTS)
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_the_content_says_what_a_file_is(tmp_path, words, ending):
    refused(tmp_path, CONTENTS[words], rf"cannot be read as a picture.*{words}", ending)


@pytest.mark.parametrize("kind", ["GIF", "DDS", "PPM", "ICO", "EPS", "PDF", "TGA", "SGI", "JPEG2000"])
def test_other_formats_are_never_tried(tmp_path, kind, monkeypatch):
    path = tmp_path / "x"
    Image.new("RGB", (16, 16)).save(path, format=kind)
    Image.init()
    for name in set(Image.OPEN) - set(images.FORMATS):
        monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("a decoder was asked"), None))
    refused(tmp_path, path.read_bytes(), "cannot be read as a picture", ".png")


def test_a_name_with_another_ending_is_no_fault(tmp_path):
    pixels = noise(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_without_some_of_its_strips_is_refused(tmp_path, compression):
    Image.fromarray(noise(4, 6, 1)[..., 0]).save(tmp_path / "x", format="TIFF", compression=compression)
    with Image.open(tmp_path / "x") as picture:
        (place,), (length,) = picture.tag_v2[273], picture.tag_v2[279]
    strip = (tmp_path / "x").read_bytes()[place : place + length]
    page = {256: 6, 258: 8, 259: 1 if compression is None else 5, 262: 1, 277: 1, 278: 4}
    for height, count in ((9, 1), (9, 2), (12_000, 1)):
        words = rf"cannot be read.*({count} of its {-(-height // 4)} strips|decoder)"
        refused(tmp_path, tiff(({**page, 257: height}, [strip] * count)), words, names=["image", "mask"])
    (tmp_path / "whole.tif").write_bytes(tiff(({**page, 257: 11}, [strip] * 3)))
    assert read_image(tmp_path / "whole.tif").shape == (11, 6, 3)


def page_of(**tags):
    page = {256: 6, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 4}
    return tiff((page | {int(name.removeprefix("t")): value for name, value in tags.items()}, [bytes(24)]))


BIG = text("Comment", "x" * 2_000_000, zip=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (page_of(t256=70_000, t257=70_000), r"larger than pictures may be.*limit of \d+ pixels\)"),
        (page_of(t256=2**31), "larger than pictures may be"),
        (page_of(t256=2**32 - 1, t257=2**32 - 1), "larger than pictures may be"),
        (page_of(t256=0), "cannot be read"),
        (page_of(t257=12_000), "cannot be read"),
        (page_of(t258=65535), "its pixels have 65535 bits"),
        (page_of(t277=65535), "has 65535 bands"),
        (page_of(t262=77), "cannot be read"),
        (page_of(t259=77), "cannot be read"),
        (png(40_000, [b""] * 40_000)[:200], "larger than pictures may be"),
    ],
)
def test_wild_headers_are_refused_at_once(tmp_path, content, words):
    begun = time.monotonic()
    refused(tmp_path, content, words, names=["image", "mask"])
    assert time.monotonic() - begun < 1


@readers
def test_a_megabyte_of_text_in_a_png_is_named(tmp_path, read):
    Image.new("RGB", (4, 2)).save(tmp_path / "text.png", pnginfo=BIG)
    with pytest.raises(ValueError, match=r"text\.png carries more text than a picture may.*without its metadata"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_files_cut_short_are_named(tmp_path, kind, share):
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "x", format=kind)
    content = (tmp_path / "x").read_bytes()
    refused(tmp_path, content[: int(share * len(content))], "cannot be read", ".png", ["image", "mask"])


RAISED = [
    struct.error("unpack"), ValueError("bad"), KeyError("key"), RuntimeError("odd"), OverflowError("long"),
    RecursionError("deep"), ZeroDivisionError("zero"), SyntaxError("broken"), EOFError(), AssertionError(),
    OSError("x"), IndexError("out"), TypeError("kind"), AttributeError("name"), NotImplementedError("later"),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["open", "load"])
@pytest.mark.parametrize("read", [read_image, MaskReader(CLASSES).values])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error, where, read):
    fails(tmp_path, monkeypatch, error, where)
    with pytest.raises(ValueError, match=r"photo\.png cannot be read as a picture \(.*restore it") as caught:
        read(tmp_path / "photo.png")
    assert caught.value.__cause__ is error


def fails(tmp_path, monkeypatch, error, where="load"):
    def fail(*_, **__):
        raise error

    Image.new("RGB", (4, 2)).save(tmp_path / "photo.png")
    monkeypatch.setattr(*{"open": (Image, "open"), "load": (PngImagePlugin.PngImageFile, "load")}[where], fail)


def test_too_little_memory_and_a_failing_disk_are_no_damage(tmp_path, monkeypatch):
    fails(tmp_path, monkeypatch, MemoryError())
    with pytest.raises(ValueError, match=r"photo\.png does not fit into memory"):
        read_image(tmp_path / "photo.png")
    fails(tmp_path, monkeypatch, OSError(5, "Input/output error"), "open")
    with pytest.raises(ValueError, match=r"photo\.png could not be read \(Input/output error\).*disk"):
        read_image(tmp_path / "photo.png")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), RuntimeError("DataLoader worker (pid 1) is gone")]
)
def test_what_stops_the_program_is_no_damage(tmp_path, monkeypatch, error):
    fails(tmp_path, monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        read_image(tmp_path / "photo.png")
    assert caught.value is error


def test_the_picture_outlives_its_file(tmp_path):
    for ending in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        path = tmp_path / f"photo{ending}"
        Image.fromarray(noise(8, 8, 3)).save(path)
        picture = decoded(path).picture
        path.write_bytes(b"")
        assert np.asarray(picture).any()
