"""Predicting georeferenced rasters and pictures of other than three bands."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support.deep_files import TINY, drawn, folder, save
from support.models import untrained_run

from semiseg.cli.main import main
from semiseg.data.rasters import open_raster
from semiseg.evaluation.model import load_model
from semiseg.evaluation.pipeline import Reading
from semiseg.evaluation.segment import predict_images
from semiseg.evaluation.written import square_metres

QUIET = Console(quiet=True)
EMPTY = 3  # the rasters' value without data
SIZE = (70, 90)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, Path]:
    """Of 3 bands of 8 bits, never trained; of 4 bands of 16 bits, trained for four steps."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    data = folder(root / "data", 4, "uint16")
    assert main(["train", "folder", "--method", "supervised", "--run", str(root / "4"),
                 "--data.root", str(data),
                 "--data.bands.count", "4", *TINY]) == 0  # fmt: skip
    return {3: untrained_run(root / "3", data__scale=1.0), 4: root / "4"}


def raster(path: Path, bands: int, dtype: str, size=SIZE, crs="EPSG:32633", metre=10.0, empty=True, **options) -> Path:
    """A GeoTIFF with noise and a box, of which the first rows and a corner of one band have no data."""
    rasterio = pytest.importorskip("rasterio")
    values = np.maximum(drawn(bands, dtype, 5, size), EMPTY + 1)
    if empty:
        values[:9] = EMPTY
        values[20:30, 20:30, 0] = EMPTY  # in one band only: data
    about = {"driver": "GTiff", "height": size[0], "width": size[1], "count": bands, "dtype": dtype, "nodata": EMPTY,
             "crs": crs, "transform": rasterio.transform.from_origin(500000, 4200000, metre, metre), "tiled": True,
             "blockxsize": 16, "blockysize": 16, **options}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **about) as file:
        file.write(values.transpose(2, 0, 1))
    return path


KINDS = [(3, "uint8"), (4, "uint16")]


@pytest.mark.parametrize(("bands", "dtype"), KINDS)
def test_a_georeferenced_raster_is_predicted_in_its_own_place(runs, tmp_path, bands, dtype):
    rasterio = pytest.importorskip("rasterio")
    path = raster(tmp_path / "in/field.tif", bands, dtype)
    made = predict_images(runs[bands], tmp_path / "in", tmp_path / "out", console=QUIET)
    assert (made.count, made.failed) == (1, {})
    names = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").glob("*/*"))
    assert names == ["confidence/field.tif", "masks/field.tif", "overlays/field.jpg"]  # nothing temporary is left
    maps = {}
    with rasterio.open(path) as source:
        for part in ("masks", "confidence"):
            with rasterio.open(tmp_path / f"out/{part}/field.tif") as file:
                assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, SIZE)
                assert (file.count, file.dtypes) == (1, ("uint8",))
                assert file.nodata == (255 if part == "masks" else None)
                maps[part] = file.read(1)
                if part == "masks":
                    colors = [file.colormap(1)[number][:3] for number in range(len(load_model(runs[bands]).colors))]
    assert tuple(colors) == load_model(runs[bands]).colors
    assert (maps["masks"][:9] == 255).all()
    assert (maps["confidence"][:9] == 0).all()
    assert (maps["masks"][9:] < len(colors)).all()
    assert (maps["confidence"][9:] > 0).all()
    label, _ = load_model(runs[bands]).predict(path)
    np.testing.assert_array_equal(maps["masks"][9:], label[9:])
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").open()))
    assert sum(int(row["pixels"]) for row in rows) == 61 * 90
    for number, row in enumerate(rows):
        assert int(row["pixels"]) == (maps["masks"] == number).sum()
        assert float(row["m2"]) == pytest.approx(100 * int(row["pixels"]))


@pytest.mark.parametrize(("bands", "dtype"), KINDS)
def test_read_in_windows_it_gives_the_files_of_the_whole(runs, tmp_path, monkeypatch, bands, dtype):
    path, files = raster(tmp_path / "field.tif", bands, dtype, size=(110, 130)), []
    for out, large in (("whole", 1 << 26), ("windows", 1)):
        monkeypatch.setattr("semiseg.data.rasters.LARGE", large)
        predict_images(runs[bands], path, tmp_path / out, console=QUIET, window=64, stride=48)
        files.append({part: (tmp_path / out / part).read_bytes() for part in
                      ("masks/field.tif", "confidence/field.tif", "overlays/field.jpg", "areas.csv")})  # fmt: skip
    assert files[0] == files[1]
    again = predict_images(runs[bands], path, tmp_path / "windows", console=QUIET, window=64, stride=48)
    assert again.kept == 1


def test_the_overlay_of_bands_shows_the_first_three(runs, tmp_path):
    path = raster(tmp_path / "field.tif", 4, "uint16")
    predict_images(runs[4], path, tmp_path / "out", console=QUIET, overlay="outline")
    overlay = cv2.imread(str(tmp_path / "out/overlays/field.jpg"))[..., ::-1]
    with open_raster(path, load_model(runs[4]).bands) as opened:
        shown = 255 * np.nan_to_num(opened.read()[..., :3])
    assert overlay.shape == (*SIZE, 3)
    label, _ = load_model(runs[4]).predict(path)
    inside = cv2.dilate(label, np.ones((15, 15))) == cv2.erode(label, np.ones((15, 15)))
    inside[:8], inside[24:], inside[:, :10], inside[:, 30:] = False, False, False, False  # the box, whose bands differ
    assert inside.sum() > 20
    np.testing.assert_allclose(overlay[inside].mean(0), shown[inside].mean(0), atol=8)
    assert np.ptp(shown[inside].mean(0)) > 20


@pytest.mark.parametrize(("crs", "metre", "expected"), [
    ("EPSG:32633", 0.5, 0.25), ("EPSG:2263", 1.0, 0.3048006096**2), ("EPSG:4326", 0.001, None),
])  # fmt: skip
def test_a_pixels_area_is_in_metres_where_it_is_the_same_everywhere(tmp_path, crs, metre, expected):
    with open_raster(raster(tmp_path / "a.tif", 3, "uint8", crs=crs, metre=metre)) as opened:
        assert square_metres(opened) == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_without_rasterio_it_is_predicted_with_a_warning(runs, tmp_path, monkeypatch, caplog):
    path = raster(tmp_path / "field.tif", 4, "uint16")
    predict_images(runs[4], path, tmp_path / "geo", console=QUIET)
    monkeypatch.setattr("semiseg.data.rasters.find_spec", lambda name: None)
    made = predict_images(runs[4], path, tmp_path / "out", console=QUIET)
    assert made.count == 1
    assert "field.tif: its georeference is not kept without rasterio: pip install semiseg[geo]" in caplog.text
    assert not list((tmp_path / "out").rglob("*.tif"))
    mask = np.asarray(Image.open(tmp_path / "out/masks/field.png"))
    np.testing.assert_array_equal(mask, np.asarray(Image.open(tmp_path / "geo/masks/field.tif")))
    assert (mask[:9] == 255).all()
    assert (np.asarray(Image.open(tmp_path / "out/confidence/field.png"))[:9] == 0).all()
    assert "m2" not in (tmp_path / "out/areas.csv").read_text()


def test_a_plain_tiff_of_bands_gives_png(runs, tmp_path):
    save(tmp_path / "a.tif", drawn(4, "uint16"))
    predict_images(runs[4], tmp_path / "a.tif", tmp_path / "out", console=QUIET)
    assert np.asarray(Image.open(tmp_path / "out/masks/a.png")).shape == (40, 48)
    assert "m2" not in (tmp_path / "out/areas.csv").read_text()


def test_the_size_of_deep_files_is_known_before_they_are_read(runs, tmp_path):
    """So that they are grouped, and the bound on memory holds."""
    for number in range(3):
        save(tmp_path / f"{number}.tif", drawn(4, "uint16", number))
    bands = load_model(runs[4]).bands
    reading = Reading([(0, str(n), tmp_path / f"{n}.tif") for n in range(3)], lambda *_: False, 2**20, bands)
    with reading.groups() as groups:
        (group,) = groups
        assert group.size == (40, 48)
        assert [picture.held for picture in group.pictures] == [40 * 48] * 3
        for picture in group.pictures:
            reading.give_back(picture)


@pytest.mark.parametrize("large", [1 << 26, 1])
def test_broken_and_foreign_rasters_are_told_and_the_others_go_on(runs, tmp_path, monkeypatch, capsys, large):
    monkeypatch.setattr("semiseg.data.rasters.LARGE", large)
    into = tmp_path / "in"
    raster(into / "a.tif", 4, "uint16")
    raster(into / "z.tif", 4, "uint16", empty=False)
    cut = raster(into / "cut.tif", 4, "uint16", compress="deflate", BIGTIFF="NO")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    middle = raster(into / "middle.tif", 4, "uint16", compress="deflate")
    content = bytearray(middle.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = b"\xff" * 600
    middle.write_bytes(content)
    raster(into / "seven.tif", 7, "uint16")
    raster(into / "rgb.tif", 3, "uint8")
    assert main(["predict", str(runs[4]), str(into), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "4 of 6 images were left out" in said.err
    for name in ("cut.tif", "middle.tif"):
        assert f"{into / name} cannot be read as a picture" in said.err
    for name, what in (("seven.tif", "7 band(s) of uint16"), ("rgb.tif", "3 band(s) of uint8")):
        assert f"{into / name} has {what}" in said.err
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["a.tif", "z.tif"]
    assert {row["image"] for row in csv.DictReader((tmp_path / "out/areas.csv").open())} == {"a", "z"}


@pytest.mark.parametrize("large", [1 << 26, 1])
@pytest.mark.parametrize(("bands", "dtype"), KINDS)
def test_a_raster_without_any_data_is_told(runs, tmp_path, monkeypatch, bands, dtype, large):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr("semiseg.data.rasters.LARGE", large)
    path = raster(tmp_path / "in/void.tif", bands, dtype)
    with rasterio.open(path, "r+") as file:
        file.write(np.full((bands, *SIZE), EMPTY, dtype))
    raster(tmp_path / "in/field.tif", bands, dtype)
    made = predict_images(runs[bands], tmp_path / "in", tmp_path / "out", console=QUIET)
    assert made.count == 1
    assert made.failed[path].startswith(f"{path} has no data")
    assert [file.name for file in (tmp_path / "out/masks").iterdir()] == ["field.tif"]


@pytest.mark.parametrize("where", ["", "model"])
def test_a_run_and_its_model_folder_wherever_it_lies_predict_the_same(runs, tmp_path, where):
    save(tmp_path / "a.tif", drawn(4, "uint16"))
    shutil.copytree(runs[4] / where, tmp_path / "elsewhere")
    assert main(["predict", str(tmp_path / "elsewhere"), str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]) == 0
    label, _ = load_model(runs[4]).predict(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/masks/a.png")), label)
