"""Pictures of other bands than RGB: chosen for labelling, and scored, as the model's own images are read."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.deep_files import TINY, drawn, folder, save, save_mask
from support.tiny_run import QUIET

from semiseg.analysis.doubt import Measure, class_doubt
from semiseg.analysis.own_pictures import evaluate_pictures
from semiseg.analysis.suggest import suggest
from semiseg.cli.main import main
from semiseg.config.recipe import load_config
from semiseg.data import open_dataset
from semiseg.evaluation.model import load_model
from semiseg.parts.augment import as_batch
from semiseg.training.finished import evaluate

KINDS = {1: ("uint16", "png"), 4: ("uint8", "tif"), 5: ("float32", "tif")}
"""Bands -> type and ending of the files."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """Bands, the dataset's folder, and a run on it."""
    root = tmp_path_factory.mktemp("bands")
    folder(root / "data", request.param, *KINDS[request.param])
    words = ["train", "folder", "--method", "supervised", "--data.root", str(root / "data"), "--run", str(root / "run")]
    assert main([*words, *TINY]) in (0, None)
    return request.param, root / "data", root / "run"


def test_the_runs_unlabelled_images_are_suggested_by_their_bands(kind, tmp_path):
    _, data, run = kind
    own = suggest(run, 3, out=tmp_path / "own", console=QUIET)
    assert own.failed == {}
    assert {each.name for each in own.chosen} <= {"i5", "i6", "i7"}
    with Image.open(tmp_path / "own/suggestions.png") as sheet:
        assert sheet.size[0] > 1000
    named = suggest(run, 3, images=data / "images", out=tmp_path / "named", console=QUIET)
    assert [(each.name, each.score) for each in named.chosen] == [(each.name, each.score) for each in own.chosen]


def test_a_models_folder_suggests_pictures_of_its_bands_and_lists_others(kind, tmp_path):
    bands, _, run = kind
    dtype, ending = KINDS[bands]
    save(tmp_path / f"pool/new.{ending}", drawn(bands, dtype, 20))
    save(tmp_path / "pool/other.tif", drawn(bands + 1, dtype, 21))
    found = suggest(run / "model", images=tmp_path / "pool", out=tmp_path / "out", console=QUIET)
    assert [each.name for each in found.chosen] == ["new"]
    assert f"{bands + 1} band" in found.failed["other"]


def test_pictures_are_scored_as_validation_scores_them(kind, tmp_path):
    _, data, run = kind
    ending = KINDS[kind[0]][1]
    for name in open_dataset(load_config(run / "config.yaml").data).val.names:
        for part, end in (("images", ending), ("masks", "png")):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / f"{part}/{name}.{end}").write_bytes((data / f"{part}/{name}.{end}").read_bytes())
    found = evaluate_pictures(run, tmp_path / "images", tmp_path / "masks", out=tmp_path / "out", console=QUIET)
    assert found["failed"] == {}
    assert found["scores"]["miou"]["value"] == pytest.approx(evaluate(run)["miou"])
    with Image.open(tmp_path / "out/worst.png") as sheet:
        assert np.asarray(sheet).std() > 0


def test_pictures_of_other_bands_are_listed_and_left_out(kind, tmp_path, capsys):
    bands, _, run = kind
    dtype, ending = KINDS[bands]
    save(tmp_path / f"images/right.{ending}", drawn(bands, dtype, 20))
    save(tmp_path / "images/wrong.tif", drawn(bands + 1, dtype, 21))
    for name in ("right", "wrong"):
        save_mask(tmp_path / f"masks/{name}.png")
    words = ["evaluate", str(run), "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "1 images, slide as in validation" in said.out
    assert "wrong.tif has" in said.err
    (tmp_path / f"images/right.{ending}").unlink()
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "none of the pairs can be read. The first:" in capsys.readouterr().err


def test_pixels_without_data_have_no_doubt(kind):
    bands, _, run = kind
    measure = Measure(load_model(run).to("cpu"))
    image = np.random.default_rng(0).random((40, 48, bands), np.float32)
    image[:, :20] = np.nan
    probabilities = measure._look(image, torch.from_numpy(np.isnan(image).any(2)))[0]
    found = measure(image)
    assert found.doubt == pytest.approx(class_doubt(probabilities[:, :, 20:]))
    with torch.inference_mode():
        output = measure.predictor.segmentor(as_batch(image))
    labels = output.logits[0, :, :, 20:].argmax(0)  # of the pixels with data
    assert found.regions.label.tolist() == labels.unique().tolist()
    assert not measure.doubtful(image)[:, :20].any()
    with pytest.raises(ValueError, match="no pixel with data"):
        measure(np.full_like(image, np.nan))
