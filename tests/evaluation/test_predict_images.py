"""Prediction of pictures in a folder: names, sizes, files that repeat, and what is refused."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from semiseg.config.recipe import load_config
from semiseg.data import open_dataset
from semiseg.data.files import FileSet
from semiseg.data.prepared import Prepared
from semiseg.evaluation.colors import colored
from semiseg.evaluation.model import load_model, save_model
from semiseg.evaluation.pictures import find_images
from semiseg.evaluation.segment import predict_images
from semiseg.training.experiment import build_method

QUIET = Console(quiet=True)
PARTS = ("masks", "overlays", "confidence")


@pytest.fixture(scope="module", autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose model works at half size; untrained, which is all that is needed here."""
    folder = tmp_path_factory.mktemp("run")
    overrides = {"method": "supervised", "data.scale": 0.5, "network.encoder": "test_resnet", "network.channels": 8}
    config = load_config("demo", overrides)
    dataset = open_dataset(config.data)
    save_model(folder / "model", build_method(config, dataset.classes).predictor, config, dataset)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Odd sizes, capital suffixes, a folder in a folder, a dot in a name, and things that are no pictures."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name, size in {"a.png": (45, 67), "Deep/b.c.JPG": (64, 33), "Deep/down/d.bmp": (31, 32)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / "._a.png").write_bytes(b"what a Mac leaves behind")
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_pictures(out):
    return {name: content for name, content in files(out).items() if "/" in name}


def test_nested_names_are_kept_and_every_picture_has_three_files(run, photos, tmp_path):
    assert predict_images(run, photos, tmp_path / "out", console=QUIET).count == 3
    names = {"masks": ".png", "overlays": ".jpg", "confidence": ".png"}
    expected = {f"{part}/{name}{names[part]}" for part in PARTS for name in ("a", "Deep/b.c", "Deep/down/d")}
    assert set(of_pictures(tmp_path / "out")) == expected


def test_sizes_are_the_pictures_and_masks_carry_the_models_colours(run, photos, tmp_path):
    predict_images(run, photos, tmp_path / "out", console=QUIET)
    model = load_model(run / "model")
    for name, size in {"a": (45, 67), "Deep/b.c": (64, 33), "Deep/down/d": (31, 32)}.items():
        mask = Image.open(tmp_path / "out/masks" / f"{name}.png")
        assert mask.mode == "P"
        indices, overlay = np.asarray(mask), Image.open(tmp_path / "out/overlays" / f"{name}.jpg")
        confidence = Image.open(tmp_path / "out/confidence" / f"{name}.png")
        assert indices.shape == size
        assert indices.max() < len(model.classes)
        assert (overlay.size, overlay.mode) == ((size[1], size[0]), "RGB")
        assert (confidence.size, confidence.mode) == ((size[1], size[0]), "L")
        assert np.asarray(confidence).min() >= 255 // len(model.classes)  # the largest of C shares is at least 1 / C
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), np.array(model.colors, np.uint8)[indices])


def test_the_mask_is_the_argmax_of_the_models_logits_at_native_size(run, photos):
    """Against the plain way: the picture as training prepares it, the model, logits enlarged, argmax."""
    model = load_model(run / "model")
    picture = np.asarray(Image.open(photos / "a.png"))
    small = Prepared(FileSet("predict", ["a"], [photos / "a.png"]), model.scale).image(0)
    np.testing.assert_array_equal(small, cv2.resize(picture, (34, 22), interpolation=cv2.INTER_AREA))
    normal = (small / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    image = torch.tensor(normal, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model.predictor(image)["linear"]
    large = torch.nn.functional.interpolate(logits, size=(45, 67), mode="bilinear")[0].softmax(0).numpy()
    label, confidence = model.predict(picture)
    assert (label == large.argmax(0)).mean() > 0.999  # ties and rounding
    np.testing.assert_allclose(confidence, large.max(0), atol=0.004)


def test_two_runs_give_the_same_bytes_even_into_the_folder_of_the_pictures(run, photos, tmp_path):
    predict_images(run, photos, tmp_path / "once", console=QUIET)
    predict_images(run, photos, tmp_path / "twice", console=QUIET)
    assert files(tmp_path / "once") == files(tmp_path / "twice")
    for _ in range(2):  # the second time its own masks lie among the pictures
        assert predict_images(run, photos, photos, console=QUIET).count == 3


@pytest.mark.parametrize("place", ["", "out", "Deep/masks", "runs/a/predictions"])
def test_predicted_again_into_the_pictures_folder_the_list_stays(run, photos, tmp_path, caplog, place):
    (photos / "overlays").mkdir()  # a folder of the user's own, of that name
    shutil.copy(photos / "a.png", photos / "overlays/own.png")
    tables = []
    for options in ({}, {}, {"objects": True}):
        made = predict_images(run, photos, photos / place, console=QUIET, **options)
        tables.append(sorted({line.split(",")[0] for line in (made.out / "areas.csv").read_text().splitlines()}))
        (made.out / "areas.csv").unlink()
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == (4 if place == "" else 5)  # with the heading
    assert caplog.text == ""
    assert predict_images(run, photos, tmp_path / "elsewhere", console=QUIET).count == len(tables[0]) - 1
    assert "`semiseg predict`" in caplog.text


def test_a_single_picture(run, photos, tmp_path):
    assert predict_images(run, photos / "Deep/b.c.JPG", tmp_path / "out", console=QUIET).count == 1
    assert set(of_pictures(tmp_path / "out")) == {"masks/b.c.png", "overlays/b.c.jpg", "confidence/b.c.png"}


def test_a_window_larger_than_the_picture_changes_nothing_and_a_small_one_covers_it(run, photos, tmp_path):
    for out, options in {"whole": {}, "large": {"window": 999}, "small": {"window": 16, "stride": 8}}.items():
        predict_images(run, photos, tmp_path / out, console=QUIET, **options)
    whole, large, small = (files(tmp_path / out / "confidence") for out in ("whole", "large", "small"))
    assert whole == large
    assert whole.keys() == small.keys()
    assert whole != small


@pytest.mark.parametrize(("protocol", "same"), [("slide", "small"), ("crop", "whole"), ("whole", "whole")])
def test_a_model_predicts_as_it_was_scored(run, photos, tmp_path, protocol, same):
    """Its scores would not hold otherwise; only the centre crop, which leaves pixels out, is taken whole."""
    shutil.copytree(run / "model", tmp_path / "scored/model")
    description = tmp_path / "scored/model/model.json"
    about = json.loads(description.read_text())
    about["evaluation"] |= {"protocol": protocol, "window": 16, "stride": 8}
    description.write_text(json.dumps(about))
    given = {"whole": {}, "small": {"window": 16, "stride": 8, "blend": "mean"}}[same]
    predict_images(run, photos, tmp_path / "given", console=QUIET, **given)
    predict_images(tmp_path / "scored", photos, tmp_path / "out", console=QUIET)
    assert of_pictures(tmp_path / "out") == of_pictures(tmp_path / "given")


def test_what_has_no_class_is_black():
    painted = colored(np.array([[0, 1, 255]], np.uint8), ((9, 9, 9), (1, 2, 3)))
    assert painted.tolist() == [[[9, 9, 9], [1, 2, 3], [0, 0, 0]]]


def test_names_that_differ_in_the_suffix_only_are_refused_before_anything_is_written(run, photos, tmp_path):
    Image.new("RGB", (40, 40)).save(photos / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png .*both become a\.png: rename one"):
        predict_images(run, photos, tmp_path / "out", console=QUIET)
    assert not (tmp_path / "out").exists()


def test_no_picture_no_folder_no_run_no_window(run, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no pictures in it; expected .*\.jpg"):
        find_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"model\.json is not there.*semiseg train"):
        predict_images(tmp_path, photos, tmp_path / "out", console=QUIET)
    with pytest.raises(ValueError, match="give --window too"):
        predict_images(run, photos, tmp_path / "out", stride=8, console=QUIET)
