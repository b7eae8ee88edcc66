"""A model on pictures of one's own: scored as validation scores it, each image in a table, the worst on a page."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import untrained_run
from support.tiny_run import QUIET

import semiseg
from semiseg.analysis.own_pictures import evaluate_pictures
from semiseg.cli.main import main
from semiseg.config.layers import flatten
from semiseg.data.sets.two_folders import open_pairs
from semiseg.evaluation.evaluator import Evaluator
from semiseg.evaluation.model import load_model
from semiseg.evaluation.statistics import interval_over_images
from semiseg.runtime.files import plain

SCENE = {"data__scenes__height": 32, "data__scenes__width": 40, "data__scenes__labeled": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run"), **SCENE)


@pytest.fixture
def root(tmp_path):
    """Five pictures of different sizes; class 5 is in no mask, and the mask of e is ignored throughout."""
    rng = np.random.default_rng(0)
    for number, name in enumerate("abcde"):
        size = (20 + number, 30)
        mask = rng.integers(0, 5, size).astype(np.uint8)
        mask[:2] = 255
        if name == "e":
            mask[:] = 255
        for folder, values, ending in (("images", rng.integers(0, 256, (*size, 3)), "png"), ("masks", mask, "png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{folder}/{name}.{ending}")
    return tmp_path


def evaluated(run, root, **options):
    return evaluate_pictures(run, root / "images", root / "masks", out=root / "out", console=QUIET, **options)


def rows(root):
    with (root / "out/images.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_scores_are_the_evaluators(run, root):
    document = evaluated(run, root)
    model = load_model(run)
    images = open_pairs(root / "images", root / "masks", model.classes, model.colors).images
    cpu = torch.device("cpu")
    expected = Evaluator(images, model.classes, model.scale, model.evaluation, "fp32", cpu)(model.predictor)
    assert flatten(plain(document["as_in_validation"])) == flatten(plain(expected.to_dict()))
    assert document["scores"]["miou"]["value"] == pytest.approx(expected.miou)
    absent = document["scores"]["classes"][model.classes[5]]
    assert absent["images"] == 0
    assert all(np.isnan(absent[kind]["value"]) for kind in ("iou", "dice", "boundary_f"))
    by_class = [each["dice"]["value"] for each in document["scores"]["classes"].values()]
    assert document["scores"]["dice"]["value"] == pytest.approx(np.nanmean(by_class))


def test_every_image_has_a_row_the_worst_first(run, root):
    document = evaluated(run, root, worst=2)
    table = rows(root)
    assert [row["name"] for row in table][-1] == "e"
    assert (table[-1]["miou"], table[-1]["labelled_pixels"]) == ("", "0")
    scores = [float(row["miou"]) for row in table[:-1]]
    assert scores == sorted(scores)
    assert document["worst"] == [row["name"] for row in table[:2]]
    for row in table[:-1]:
        ious = [float(value) for name, value in row.items() if name.startswith("iou ") and value]
        assert float(row["miou"]) == pytest.approx(np.mean(ious), abs=1e-3)


def test_what_is_written_repeats_itself_and_needs_no_other_file(run, root):
    evaluated(run, root)
    first = {path.name: path.read_bytes() for path in (root / "out").iterdir() if path.suffix in (".csv", ".png")}
    evaluated(run, root)
    assert first == {name: (root / "out" / name).read_bytes() for name in first}
    assert sorted(path.name for path in (root / "out").iterdir()) == sorted(
        ["scores.json", "images.csv", "worst.png", "evaluation.html"]
    )
    page = (root / "out/evaluation.html").read_text("utf-8")
    assert "http" not in page
    assert all(name in page for name in load_model(run).classes)
    assert json.loads((root / "out/scores.json").read_text("utf-8"))["count"] == 5


def test_the_interval_is_over_images(run, root):
    scores = evaluated(run, root)["scores"]
    shares = []
    for row in rows(root):
        if row["accuracy"]:
            pixels = float(row["labelled_pixels"])
            shares.append([float(row["accuracy"]) * pixels, pixels])
        else:
            shares.append([0.0, 0.0])
    order = np.argsort([row["name"] for row in rows(root)])
    share = lambda sums: sums[:, :1] / np.maximum(sums[:, 1:], 1)  # noqa: E731
    value, low, high = interval_over_images(np.array(shares)[order], share)[:, 0]
    found = scores["accuracy"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx((value, low, high), abs=1e-3)


def test_the_command_prints_a_table_and_lists_what_cannot_be_read(run, root, capsys):
    (root / "masks/a.png").write_bytes(b"none")
    words = ["evaluate", str(run), "--images", str(root / "images"), "--masks", str(root / "masks")]
    assert main([*words, "--out", str(root / "out"), "--worst", "1"]) == 1
    said = capsys.readouterr()
    assert "4 images, whole as in validation" in said.out
    assert "a.png" in said.err
    assert "1 file cannot be read" in said.err


def test_python_and_the_default_folder(run, root):
    images = root / "images"
    document = semiseg.evaluate(run, images=images, masks=root / "masks", console=QUIET)
    assert document["out"] == run / f"evaluation-{root.name}"
    assert (document["out"] / "scores.json").is_file()
    again = semiseg.Run(run).evaluate(images=images, masks=root / "masks", out=str(root / "out"), console=QUIET)
    assert again["scores"]["miou"] == document["scores"]["miou"]


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ("--images x", "--images and --masks belong together"),
        ("--out x", "--out is for pictures of your own"),
        ("--images x --masks y --set test", "--set is of the run's own images"),
        ("--images nowhere --masks y", "no folder nowhere"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(run, words, pattern, capsys):
    assert main(["evaluate", str(run), *words.split()]) == 2
    assert pattern in capsys.readouterr().err
    with pytest.raises(ValueError, match="images are given without masks"):
        semiseg.evaluate(run, images="x")


def test_a_tolerance_or_a_number_that_is_none_is_refused(run, root):
    with pytest.raises(ValueError, match=r"tolerance is 2; expected a share"):
        evaluated(run, root, tolerance=2)
    with pytest.raises(ValueError, match="worst"):
        evaluated(run, root, worst=0)
