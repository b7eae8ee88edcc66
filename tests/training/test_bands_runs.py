"""Runs on images of other bands than RGB: trained, resumed, loaded, predicted and scored by one range of values."""

import json

import numpy as np
import pytest
from support.deep_files import TINY, drawn, folder, save
from torch import nn

import semiseg
from semiseg.cli.main import main
from semiseg.config.recipe import load_config
from semiseg.evaluation.model import load_model
from semiseg.training.finished import evaluate
from semiseg.types import IGNORE

KINDS = [(4, "uint16", "tif"), (7, "float32", "tif"), (16, "float32", "tif"), (1, "uint16", "png")]


def trained(root, run, *options):
    return main(["train", "folder", "--data.root", str(root), "--run", str(run), *TINY, *options])


@pytest.mark.parametrize(("bands", "dtype", "ending"), KINDS)
def test_a_run_on_bands_trains_and_predicts_by_what_it_learnt(tmp_path, bands, dtype, ending):
    root, run = folder(tmp_path / "data", bands, dtype, ending), tmp_path / "run"
    assert trained(root, run) in (0, None)
    learnt, about = load_config(run / "config.yaml"), json.loads((run / "model/model.json").read_text("utf-8"))
    assert learnt.network.bands == learnt.data.bands.count == about["network"]["bands"] == bands
    assert about["bands"] == {"dtype": dtype, "low": [*learnt.data.bands.low], "high": [*learnt.data.bands.high]}
    model = load_model(run)
    label, confidence = model.predict(root / f"images/i7.{ending}")
    assert label.shape == confidence.shape == (40, 48)
    again, _ = model.predict(drawn(bands, dtype, 7))
    np.testing.assert_array_equal(label, again)


def test_a_run_on_bands_is_resumed_scored_and_reported_by_its_own_range(tmp_path):
    root, run = folder(tmp_path / "data", 7, "uint16"), tmp_path / "run"
    assert trained(root, run) in (0, None)
    before = load_config(run / "config.yaml").data.bands
    save(root / "images/i6.tif", drawn(7, "uint16", 6) * 3)  # an unlabelled image: it would teach another range
    assert trained(root, run, "--resume") in (0, None)
    assert load_config(run / "config.yaml").data.bands == before
    assert trained(root, run, "--resume", "--data.bands.low", "0", "--data.bands.high", "9") == 2
    assert evaluate(run)["miou"] == pytest.approx(json.loads((run / "result.json").read_text())["best"]["val"]["miou"])
    assert "report.html" in {path.name for path in run.iterdir()}


def test_predictions_have_255_where_there_is_no_data(tmp_path):
    def change(values, index):
        values[:6] = np.nan
        return values

    root, run = folder(tmp_path / "data", 2, "float32", change=change), tmp_path / "run"
    assert trained(root, run, "--data.scale", "0.5") in (0, None)
    label, confidence = load_model(run).predict(root / "images/i7.tif")
    assert (label[:6] == IGNORE).all()
    assert (confidence[:6] == 0).all()
    assert (label[8:] < 2).all()


def test_a_picture_of_other_bands_is_refused_by_the_model(tmp_path):
    root, run = folder(tmp_path / "data", 2, "uint16"), tmp_path / "run"
    assert trained(root, run, "--method", "supervised") in (0, None)
    alien = save(tmp_path / "alien.tif", drawn(3, "uint16"))
    with pytest.raises(ValueError, match=r"alien.tif has 3 band\(s\) of uint16, and the model's images 2 bands of"):
        load_model(run).predict(alien)
    with pytest.raises(ValueError, match=r"has 2 band\(s\) of float32"):
        load_model(run).predict(drawn(2, "float32"))


def test_a_given_network_for_other_bands_is_refused_before_it_trains(tmp_path):
    class Net(nn.Module):
        def __init__(self, bands):
            super().__init__()
            self.first = nn.Conv2d(bands, 6, 3, 2, 1)
            self.last = nn.Conv2d(6, 2, 1)

        def forward(self, image):
            return self.last(self.first(image).relu())

    root = folder(tmp_path / "data", 5, "uint16")
    small = {"steps": 2, "crop_height": 32, "crop_width": 32, "workers": 0, "batch_labeled": 2, "batch_unlabeled": 2,
             "root": root, "device": "cpu"}  # fmt: skip
    with pytest.raises(ValueError, match=r"takes images of 3 band\(s\), and these have 5.*wrap\(..., bands=5\)"):
        semiseg.train("folder", network=semiseg.wrap(Net(3), "first"), run=tmp_path / "a", **small)
    network = semiseg.wrap(Net(5), "first", bands=5)
    run = semiseg.train("folder", network=network, run=tmp_path / "b", **small)
    assert run.predict(root / "images/i7.tif")[0].shape == (40, 48)


def test_a_model_whose_bands_do_not_fit_its_network_is_refused(tmp_path):
    run = tmp_path / "run"
    assert trained(folder(tmp_path / "data", 2, "uint16"), run, "--method", "supervised") in (0, None)
    path = run / "model/model.json"
    about = json.loads(path.read_text("utf-8"))
    for wrong, words in (
        (None, "network.bands is 2, but bands are null"),
        (about["bands"] | {"low": [0.0]}, "expected 2 values each"),
        (about["bands"] | {"high": about["bands"]["low"]}, "each low below its high"),
        (about["bands"] | {"dtype": "object"}, "bands.dtype"),
    ):
        path.write_text(json.dumps(about | {"bands": wrong}), "utf-8")
        with pytest.raises(ValueError, match=words):
            load_model(run)


def test_a_model_of_a_version_without_bands_loads(tmp_path):
    run = tmp_path / "run"
    root = folder(tmp_path / "data", 3, "uint8", "png")
    assert trained(root, run, "--method", "supervised") in (0, None)
    path = run / "model/model.json"
    about = json.loads(path.read_text("utf-8"))
    assert about.pop("bands") is None
    assert about["network"].pop("bands") == 3
    path.write_text(json.dumps(about), "utf-8")
    assert load_model(run).bands is None
    assert load_model(run).predict(root / "images/i7.png")[0].shape == (40, 48)
