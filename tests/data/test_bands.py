"""Images of 1 to 16 bands and any depth: read as stored, mapped by what training images taught, refused where alien."""

import builtins

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.deep_files import drawn, folder, save, save_mask

from semiseg.config.bands import BandOptions
from semiseg.config.options import AugmentOptions, DataOptions
from semiseg.data import open_dataset, ranges
from semiseg.data.bands import Bands, as_photograph, blank_pixels
from semiseg.data.damage import require_whole
from semiseg.data.dataset import Dataset
from semiseg.data.deep import look, read_values
from semiseg.data.images import read_image
from semiseg.data.loading import whole_images
from semiseg.data.rasters import open_raster
from semiseg.data.shards.write import write_shards
from semiseg.parts.augment import as_batch, denormalise, weak_view
from semiseg.types import IGNORE

WIDE = Bands("uint16", (0.0,) * 7, (65535.0,) * 7)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7, 16])
def test_a_tiff_is_read_as_it_is_stored(tmp_path, bands, dtype):
    values = drawn(bands, dtype)
    read, stored = read_values(save(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(read, values)
    assert (stored.height, stored.width, stored.bands, stored.dtype) == (*values.shape, dtype)


@pytest.mark.parametrize("options", [{"compression": "zlib", "predictor": 2}, {"planarconfig": "separate"},
                                     {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}])  # fmt: skip
def test_every_way_of_storing_gives_the_same_values(tmp_path, options):
    values = drawn(5, "uint16")
    page = {"separate": values.transpose(2, 0, 1)}.get(options.get("planarconfig"), values)
    tifffile.imwrite(tmp_path / "a.tif", page, **({"photometric": "minisblack", "planarconfig": "contig"} | options))
    np.testing.assert_array_equal(read_values(tmp_path / "a.tif")[0], values)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_png_of_16_bits_keeps_them(tmp_path, bands):
    values = drawn(bands, "uint16")
    path = save(tmp_path / "a.png", values)
    np.testing.assert_array_equal(read_values(path)[0], values)
    assert str(look(path)) == f"{bands} band{'s' if bands > 1 else ''} of uint16"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_tiff_is_turned_upright_as_pillow_turns_one_of_8_bits(tmp_path, orientation):
    values = drawn(1, "uint8")
    for name, kind in (("shallow", "uint8"), ("deep", "uint16")):
        save(tmp_path / f"{name}.tif", values.astype(kind), extratags=[(274, "H", 1, orientation, True)])
    deep, stored = read_values(tmp_path / "deep.tif")
    np.testing.assert_array_equal(deep[..., 0], read_image(tmp_path / "shallow.tif")[..., 0])
    assert deep.shape[:2] == (stored.height, stored.width)


def test_alpha_is_a_band_only_where_it_is_asked_for(tmp_path):
    values = drawn(4, "uint8")
    values[..., 3] = 255
    path = save(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert read_values(path)[0].shape[2] == 3
    np.testing.assert_array_equal(read_values(path, asked=4)[0], values)


def broken(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: save(path, drawn(17, "uint16")), "17 bands of 16 bits.*expected 1 to 16 bands"),
        (lambda path: save(path, drawn(2, "float32").astype("complex64")), "numbers of complex64"),
        (lambda path: tifffile.imwrite(path, np.zeros((5, 8, 9), "uint16"), photometric="minisblack"),
         "5 pages or frames; expected one picture. Save each as a file of its own"),
        (lambda path: broken(save(path, drawn(7, "uint16"))), "cut short"),
        (lambda path: broken(save(path, drawn(7, "uint16"), compression="zlib")), "cut short"),
        (lambda path: save(path, np.full((8, 9, 2), np.inf, "float32")), "infinite values. Write NaN"),
        (lambda path: save(path, drawn(1, "uint16"), photometric="miniswhite"), "0 is white"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_the_repair(tmp_path, make, words):
    path = tmp_path / "a.tif"
    make(path)
    with pytest.raises(ValueError, match=words) as error:
        read_values(path)
    assert str(path) in str(error.value)


def test_a_file_that_needs_the_extra_says_how_to_install_it(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    values, path = drawn(7, "uint16"), tmp_path / "a.tif"
    options = {"driver": "GTiff", "height": 40, "width": 48, "count": 7, "dtype": "uint16", "compress": "lzw"}
    with rasterio.open(path, "w", **options) as file:
        file.write(values.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_values(path)[0], values)
    np.testing.assert_array_equal(read_values("name", path.read_bytes())[0], values)
    imported = builtins.__import__

    def without(name, *rest):
        if name == "rasterio":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"a.tif needs rasterio.*pip install semiseg\[geo\]"):
        read_values(path)


def options(root, **bands):
    return DataOptions(root=root, bands=BandOptions(**bands))


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint16"), (7, "uint16"), (4, "float32")])
def test_the_range_is_numpys_percentile_of_all_training_pixels(tmp_path, bands, dtype):
    def with_nan(values, index):
        if values.dtype.kind == "f":
            values[:5] = np.nan
        return values * 3 if index in (0, 7) else values

    dataset = open_dataset(options(folder(tmp_path, bands, dtype, change=with_nan), percentiles=(2, 90)))
    names = [*dataset.labeled.names, *dataset.unlabeled.names]
    pixels = np.concatenate([tifffile.imread(tmp_path / f"images/{name}.tif").reshape(-1, bands) for name in names])
    pixels = pixels[~np.isnan(pixels).any(1)].astype(np.float64)
    assert dataset.bands is not None
    np.testing.assert_allclose(dataset.bands.low, np.percentile(pixels, 2, axis=0), rtol=1e-5)
    np.testing.assert_allclose(dataset.bands.high, np.percentile(pixels, 90, axis=0), rtol=1e-5)


def test_validation_images_teach_no_range(tmp_path):
    first = open_dataset(options(folder(tmp_path, 2, "uint16")))
    for name in first.val.names:
        save(tmp_path / f"images/{name}.tif", np.full((40, 48, 2), 65535, "uint16"))
    assert open_dataset(options(tmp_path)).bands == first.bands


def test_of_many_images_a_seeded_sample_teaches(tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "IMAGES", 2)
    monkeypatch.setattr(ranges, "PIXELS", 100)
    folder(tmp_path, 2, "uint16", change=lambda values, index: values + 1000 * np.uint16(index))
    once, again = (open_dataset(options(tmp_path)).bands for _ in range(2))
    assert once == again


def test_a_constant_band_is_warned_of_and_a_band_of_few_values_keeps_them(tmp_path, caplog):
    def change(values, index):
        values[..., 1] = 7
        values[..., 2] = 0
        values[:2, :2, 2] = 5  # fewer than the percentiles see
        return values

    bands = open_dataset(options(folder(tmp_path, 3, "uint16", change=change))).bands
    assert (bands.low[1:], bands.high[1:]) == ((7, 0), (8, 5))
    assert "band 2 has one value in all training images" in caplog.text


def test_a_stated_range_is_taken_as_it_is(tmp_path):
    dataset = open_dataset(options(folder(tmp_path, 2, "uint16"), low=(0.0,), high=(10000.0,)))
    values = tifffile.imread(tmp_path / f"images/{dataset.labeled.names[0]}.tif")
    expected = (values / 10000.0).clip(0, 1)
    np.testing.assert_allclose(dataset.labeled.image(0), expected, atol=1e-6)


def test_bands_of_8_bits_go_from_0_to_255(tmp_path):
    bands = open_dataset(options(folder(tmp_path, 5, "uint8"))).bands
    assert (bands.low, bands.high) == ((0.0,) * 5, (255.0,) * 5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"low": (1.0,)}, "give both"), ({"low": (2.0,), "high": (1.0,)}, "each low below its high"),
     ({"low": (0.0, 0.0), "high": (1.0, 1.0)}, "has 2 values, and .* 3 bands"), ({"count": 4}, "is 4, and .* has 3"),
     ({"percentiles": (50.0, 50.0)}, "the lower one first"), ({"count": 17}, "<= 16")],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(tmp_path, wrong, words):
    folder(tmp_path, 3, "uint16")
    with pytest.raises(ValueError, match=words):
        open_dataset(options(tmp_path, **wrong))


def test_photographs_stay_bytes_of_rgb(tmp_path):
    folder(tmp_path, 3, "uint8", change=lambda values, index: values)
    for path in (tmp_path / "images").iterdir():
        Image.fromarray(tifffile.imread(path)).save(path.with_suffix(".png"))
        path.unlink()
    dataset = open_dataset(options(tmp_path))
    assert dataset.bands is None
    assert dataset.labeled.image(0).dtype == np.uint8


@pytest.mark.parametrize("alien", [(7, "uint8"), (6, "uint16"), (7, "float32"), (3, "uint8")])
def test_images_that_differ_are_named_before_the_first_step(tmp_path, alien):
    folder(tmp_path, 7, "uint16")
    save(tmp_path / "images/i6.tif", drawn(*alien), **({"photometric": "rgb"} if alien[0] == 3 else {}))
    with pytest.raises(ValueError, match=r"images/i\d.tif.*images/i\d.tif"):
        require_whole(open_dataset(options(tmp_path)))


def test_a_deep_image_among_photographs_is_named_beside_one(tmp_path):
    folder(tmp_path, 3, "uint8", ending="png", change=lambda values, index: values)
    save(tmp_path / "images/deep.tif", drawn(4, "uint16"))
    with pytest.raises(ValueError, match=r"deep.tif has 4 bands of uint16, and .*images/i\d.png is RGB of 8 bits"):
        require_whole(open_dataset(options(tmp_path)))


def test_masks_are_held_against_the_size_of_deep_images(tmp_path):
    folder(tmp_path, 4, "uint16")
    save_mask(tmp_path / "masks/i0.png", (40, 47))
    with pytest.raises(ValueError, match=r"i0.png is 47 x 40 pixels, but its image .*i0.tif is 48 x 40"):
        open_dataset(options(tmp_path))


def test_pixels_without_data_teach_nothing(tmp_path):
    def change(values, index):
        values[:, :20] = 9
        return values

    for index in range(8):
        path, values = tmp_path / f"images/i{index}.tif", change(drawn(4, "uint16", index), index)
        save(path, values, extratags=[(42113, "s", 0, "9", True)])
        if index < 5:
            save_mask(tmp_path / f"masks/i{index}.png")
    dataset = open_dataset(options(tmp_path))
    image = dataset.labeled.image(0)
    assert np.isnan(image[:, :20]).all()
    assert not np.isnan(image[:, 20:]).any()
    plain = AugmentOptions(crop_height=64, crop_width=64, scale_min=1, scale_max=1, flip=0)
    view, label, valid = weak_view(image, dataset.labeled.mask(0), plain, 0, np.random.default_rng(0))
    inside = np.s_[12:52, 8:56]
    np.testing.assert_array_equal(valid[inside], ~np.isnan(image[..., 0]))
    assert (label[inside][:, :20] == IGNORE).all()
    assert (label[:12] == 0).all()  # the frame, by data.pad_label
    assert view.isfinite().all()
    _, whole, truth = next(whole_images(dataset.val))
    assert (truth[:, :20] == IGNORE).all()
    assert (whole[..., :20] == 0).all()
    np.testing.assert_allclose(denormalise(whole)[0, :, :, 20:], np.moveaxis(dataset.val.image(0), -1, 0)[:, :, 20:],
                               atol=1e-6)  # fmt: skip


def test_rgb_of_8_bits_with_nodata_is_read_as_bands(tmp_path):
    for index in range(8):
        values = drawn(3, "uint8", index)
        values[:5] = 0
        save(tmp_path / f"images/i{index}.tif", values, photometric="rgb", extratags=[(42113, "s", 0, "0", True)])
        if index < 5:
            save_mask(tmp_path / f"masks/i{index}.png")
    dataset = open_dataset(options(tmp_path))
    assert (dataset.bands.low, dataset.bands.high) == ((0.0,) * 3, (255.0,) * 3)
    assert np.isnan(dataset.labeled.image(0)[:5]).all()


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("bands", [1, 7])
def test_scale_and_cache_keep_the_bands(tmp_path, cache, bands):
    folder(tmp_path, bands, "uint16")
    dataset = open_dataset(DataOptions(root=tmp_path, scale=0.5, cache=cache))
    assert dataset.labeled.image(0).shape == (20, 24, bands)


def test_shards_hold_deep_pictures(tmp_path):
    folder(tmp_path, 7, "uint16")
    whole = open_dataset(options(tmp_path))
    write_shards(tmp_path / "images", tmp_path / "shards")
    dataset = open_dataset(DataOptions(root=tmp_path, unlabeled_shards=tmp_path / "shards"))
    assert dataset.bands == whole.bands
    np.testing.assert_array_equal(dataset.unlabeled.image(0), whole.unlabeled.image(0))


def test_arrays_of_ones_own_have_bands(tmp_path):
    pairs = [(drawn(6, "float32", index), np.zeros((40, 48), np.uint8)) for index in range(3)]
    for _, mask in pairs:
        mask[5:9] = 1
    given = Dataset.from_items(["a", "b"], labeled=pairs[:2], val=pairs[2:])
    dataset = open_dataset(DataOptions(), need_unlabeled=False, given=given)
    assert dataset.labeled.image(1).shape == (40, 48, 6)
    assert given.labeled.bands is None  # what was given is not changed


def test_what_is_shown_of_bands_is_a_photograph():
    image = np.full((2, 3, 5), 0.5, np.float32)
    image[0] = np.nan
    assert as_photograph(image).tolist() == [[[0] * 3] * 3, [[128] * 3] * 3]
    assert as_photograph(image[..., :1]).shape == (2, 3, 3)


# In windows ----------------------------------------------------------------------------------------------------------


def test_an_ordinary_picture_is_a_raster_too(tmp_path):
    pixels = drawn(3, "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        assert (raster.height, raster.width, raster.bands, raster.crs) == (40, 48, 3, None)
        np.testing.assert_array_equal(raster.read(3, 5, 7, 9), pixels[3:10, 5:14])
        np.testing.assert_array_equal(raster.read(), pixels)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (7, "uint16"), (1, "float32")])
def test_windows_of_a_georeferenced_raster_are_those_of_the_whole(tmp_path, monkeypatch, bands, dtype):
    rasterio = pytest.importorskip("rasterio")
    values, path = drawn(bands, dtype), tmp_path / "a.tif"
    values[:4] = 3
    transform = rasterio.transform.from_origin(500000, 4200000, 10, 10)
    about = {"driver": "GTiff", "height": 40, "width": 48, "count": bands, "dtype": dtype, "nodata": 3,
             "crs": "EPSG:32633", "transform": transform, "tiled": True,
             "blockxsize": 16, "blockysize": 16}  # fmt: skip
    with rasterio.open(path, "w", **about) as file:
        file.write(values.transpose(2, 0, 1))
    rule = None if dtype == "uint8" else Bands(dtype, (0.0,) * bands, (30000.0,) * bands)
    with open_raster(path, rule) as raster:
        whole, place = raster.read(), (raster.crs, raster.transform, raster.nodata)
    monkeypatch.setattr("semiseg.data.rasters.LARGE", 1)
    with open_raster(path, rule) as raster:
        assert (raster.crs.to_epsg(), raster.transform, raster.nodata) == (32633, transform, 3)
        assert (raster.crs, raster.transform, raster.nodata) == place
        np.testing.assert_array_equal(raster.read(2, 6, 20, 30), whole[2:22, 6:36])
        blank = blank_pixels(raster.read(), raster.nodata)
        assert blank[:4].all()
        assert not blank[4:].any()
    with pytest.raises(ValueError, match=r"a.tif has .* band\(s\) of"):
        open_raster(path, WIDE if dtype != "uint16" else Bands("uint16", (0.0,), (1.0,)))


def test_a_lost_georeference_is_warned_of(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("semiseg.data.rasters.find_spec", lambda name: None)
    path = save(tmp_path / "a.tif", drawn(7, "uint16"), extratags=[(34735, "H", 4, (1, 1, 0, 0), True)])
    open_raster(path, WIDE)
    assert "georeference is not kept without rasterio: pip install semiseg[geo]" in caplog.text


def test_a_batch_of_bands_is_normalised_by_the_average_figures():
    image = np.random.default_rng(0).random((3, 4, 7)).astype(np.float32)
    batch = as_batch(image).numpy()
    np.testing.assert_allclose(batch[0], (np.moveaxis(image, -1, 0) - 0.449) / 0.226, atol=1e-5)
    colours = cv2.LUT(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.arange(256, dtype=np.uint8))
    np.testing.assert_allclose(as_batch(colours), as_batch((colours / 255).astype(np.float32)), atol=1e-5)
