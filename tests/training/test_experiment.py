"""From a config to a finished run folder, and what can be done with one."""

import hashlib
import json
import math
import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support import tiny, tiny_run

from semiseg.config.options import DataOptions, EvaluationOptions
from semiseg.config.recipe import Config, load_config, save_config
from semiseg.data.sets.scenes import CLASSES
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.training.checkpoint import load_checkpoint, save_checkpoint
from semiseg.training.experiment import train
from semiseg.training.finished import evaluate
from semiseg.training.record import read_record


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the paper's method."""
    return train(tiny_run.tiny_config(tmp_path_factory.mktemp("runs") / "prototype"), console=tiny_run.QUIET)


@pytest.fixture(scope="module")
def result(run) -> dict:
    return json.loads((run / "result.json").read_text())


@pytest.fixture
def copied(run, tmp_path) -> Path:
    """A copy of the run, to be written to."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def evaluations(run: Path) -> list[dict]:
    return [entry for entry in read_record(run / "metrics.jsonl") if entry["kind"] == "evaluation"]


# The run folder -------------------------------------------------------------------------------------------------------


def test_a_finished_run_has_its_files_and_no_others(run):
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoints, model = {"checkpoints/best.pt", "checkpoints/last.pt"}, {"model/model.json", "model/model.safetensors"}
    assert files == {".lock", "config.yaml", "metrics.jsonl", "result.json", "confusions.npz"} | checkpoints | model


def test_the_result_says_where_it_came_from(result):
    assert (result["method"], result["recipe"], result["seed"], result["steps"]) == ("prototype", "tiny", 3, 12)
    assert result["accumulate"] == 1
    for name, count in (("labeled", 4), ("unlabeled", 8), ("val", 3)):
        ids = "".join(f"{name}-{index:04d}\n" for index in range(count))
        split = result["split"][name]
        assert split["sha256"] == hashlib.sha256(ids.encode()).hexdigest()
        assert (split["name"], split["count"]) == ("scenes, seed 0", count)
    assert {"python", "semiseg", "torch", "timm", "numpy"} <= set(result["versions"])
    assert result["versions"]["torch"] == torch.__version__
    assert result["hardware"]["threads"] == 1
    assert result["hardware"]["device"]
    assert 0 < result["seconds"] < 600
    assert result["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", result["commit"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result["date"])
    assert result["classes"] == list(CLASSES)


def test_the_result_says_what_it_took(run, result):
    state = load_checkpoint(run / "checkpoints/last.pt")["state"]
    assert 0 < state["evaluating"] < state["seconds"]
    images = 12 * (2 + 2)  # labelled and unlabelled, of twelve steps
    assert result["images_per_second"] == pytest.approx(images / (state["seconds"] - state["evaluating"]))
    assert 2**26 < result["peak_bytes"] < 2**34
    weights = state_of_the_student(run)
    assert result["parameters"]["trained"] == weights
    assert result["parameters"]["used"] >= weights  # the teacher, which has as many, and the prototypes are none


def state_of_the_student(run: Path) -> int:
    """How many weights it has, counted in the checkpoint: all but BatchNorm's statistics."""
    state = load_checkpoint(run / "checkpoints/last.pt")["method"]
    kept = ("running_mean", "running_var", "num_batches_tracked", "pixel_mean", "pixel_std")
    return sum(t.numel() for name, t in state.items() if name.startswith("student.") and not name.endswith(kept))


def test_the_counts_of_every_image_add_up_to_the_score(run, result):
    scores = result["last"]["val"]
    with np.load(run / "confusions.npz") as counts:
        assert counts["names"].tolist() == [f"val-{index:04d}" for index in range(3)]
        assert sorted(counts) == ["linear", "names", "prototype"]
        for predictor in ("linear", "prototype"):
            each = counts[predictor]
            assert each.dtype == np.int64
            assert each.sum((1, 2)).tolist() == [32 * 40] * 3
            assert 100 * ConfusionMatrix(each.sum(0)).miou() == scores[predictor]["miou"]


def test_best_and_last_are_named_and_are_those_of_the_record(run, result):
    scores = {entry["step"]: entry for entry in evaluations(run)}
    assert list(scores) == [5, 10, 12]
    assert result["last"]["step"] == 12
    assert result["best"]["step"] == max(scores, key=lambda step: (scores[step]["miou"], -step))
    for name in ("best", "last"):
        found, recorded = result[name]["val"], scores[result[name]["step"]]
        predictors = {"linear", "prototype"}
        assert set(found) - predictors == {"headline", "miou", "calibration_error", "calibration", "pseudo_labels"}
        assert all(found[key] == recorded[key] for key in found)


def test_what_is_printed_names_both_checkpoints_and_predictors(tmp_path):
    text = StringIO()
    train(tiny_run.tiny_config(tmp_path / "run", steps=6, evaluate_every=6), console=Console(file=text))
    assert re.search(
        r"prototype best checkpoint \(step 6\): val mIoU [\d.]+ \(linear\), [\d.]+ \(prototype\)\n", text.getvalue()
    )
    assert re.search(
        r"prototype last checkpoint \(step 6\): val mIoU [\d.]+ \(linear\), [\d.]+ \(prototype\)\n", text.getvalue()
    )


def test_training_from_its_config_repeats_a_run(run, tmp_path):
    again = train(load_config(run / "config.yaml", {"run": str(tmp_path / "again")}), console=tiny_run.QUIET)
    ours, theirs = (load_checkpoint(folder / "checkpoints/last.pt")["method"] for folder in (again, run))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_another_seed_is_another_run(run, tmp_path):
    config = replace(tiny_run.tiny_config(tmp_path / "other", steps=1), seed=4)
    other = load_checkpoint(train(config, console=tiny_run.QUIET) / "checkpoints/last.pt")["method"]
    ours = load_checkpoint(run / "checkpoints/last.pt")["method"]
    name = "student.decoder.classifier.0.weight"
    assert not torch.equal(other[name], ours[name])


def test_a_finished_run_that_is_resumed_is_scored_again(copied, result):
    (copied / "result.json").unlink()
    train(tiny_run.tiny_config(copied), resume=True, console=tiny_run.QUIET)
    again = json.loads((copied / "result.json").read_text())
    assert (again["best"], again["last"], again["seconds"]) == (result["best"], result["last"], result["seconds"])


# Evaluating a run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_evaluating_a_run_finds_the_scores_of_its_result(copied, result, checkpoint):
    found = evaluate(copied, checkpoint=checkpoint, console=tiny_run.QUIET)
    assert (found["checkpoint"], found["subset"], found["evaluation"]["protocol"]) == (checkpoint, "val", "whole")
    written = json.loads((copied / f"evaluation-{checkpoint}-val-whole.json").read_text())
    assert all(written[key] == value for key, value in result[checkpoint]["val"].items())
    assert written["miou"] == found["miou"]
    assert written["split"] == result["split"]
    assert written["versions"] == result["versions"]


def test_evaluating_with_other_options(copied):
    first = evaluate(copied, evaluation={"images": 1}, console=tiny_run.QUIET)
    assert first["evaluation"]["images"] == 1
    assert first["linear"] != evaluate(copied, console=tiny_run.QUIET)["linear"]
    options = {"protocol": "slide", "window": 24, "stride": 16, "windows_at_once": 2}
    assert evaluate(copied, evaluation=options, console=tiny_run.QUIET)["evaluation"] == options | {
        "blend": "mean",
        "images": None,
    }
    assert (copied / "evaluation-best-val-slide-24-16.json").is_file()
    assert (copied / "evaluation-best-val-whole-first1.json").is_file()


def test_a_limit_on_images_is_for_training_only(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "supervised", evaluation=EvaluationOptions(images=1))
    run = train(config, console=tiny_run.QUIET)
    result, recorded = json.loads((run / "result.json").read_text()), evaluations(run)[-1]
    assert result["last"]["val"]["linear"]["accuracy"] != recorded["linear"]["accuracy"]
    found = evaluate(run, checkpoint="last", console=tiny_run.QUIET)
    assert found["linear"]["accuracy"] == result["last"]["val"]["linear"]["accuracy"]
    assert found["evaluation"]["images"] is None


def test_what_cannot_be_evaluated(run, tmp_path):
    with pytest.raises(ValueError, match=r"has no test images; it has labeled, unlabeled, val"):
        evaluate(run, subset="test")
    with pytest.raises(ValueError, match="there is no checkpoint 'first'; expected best or last"):
        evaluate(run, checkpoint="first")
    with pytest.raises(ValueError, match=r"is not a run folder: expected .*checkpoints; `semiseg train` makes one"):
        evaluate(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"best\.pt is not there; training writes .* best\.pt at its first evaluation"):
        evaluate(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_from_a_machine_with_a_gpu_is_evaluated_without(copied, result):
    path = copied / "checkpoints/last.pt"
    saved = load_checkpoint(path)
    saved["config"]["train"]["device"] = "cuda:1"
    save_checkpoint(path, saved)
    found = evaluate(copied, checkpoint="last", console=tiny_run.QUIET)
    assert found["miou"] == result["last"]["val"]["miou"]


# Before anything is written -------------------------------------------------------------------------------------------


def refused(config: Config, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        train(config, console=tiny_run.QUIET)
    assert not config.run_folder.exists()


def test_a_mistake_leaves_no_run_folder(tmp_path):
    refused(
        tiny_run.tiny_config(tmp_path / "run", device="gpu"), r"train\.device is 'gpu'; expected auto, cpu or cuda:N"
    )
    half = replace(tiny_run.tiny_config(tmp_path).data, scale=0.5)
    crop = EvaluationOptions(protocol="crop", window=32, stride=32)
    refused(tiny_run.tiny_config(tmp_path / "run", data=half, evaluation=crop), r"evaluation\.protocol is crop")
    refused(tiny_run.tiny_config(tmp_path / "run", data=DataOptions(root=tmp_path / "none")), "none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    refused(tiny_run.tiny_config(tmp_path / "run", device="cuda"), r"torch sees no GPU here; use --train\.device cpu")


# Own images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path) -> Path:
    """Five images, all with masks, and an empty list."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(tmp_path / f"images/p{index}.png")
        Image.fromarray(rng.integers(0, 2, (36, 40), dtype=np.uint8)).save(tmp_path / f"masks/p{index}.png")
    (tmp_path / "none.txt").write_text("")
    (tmp_path / "test.txt").write_text("p3\np4\n")
    return tmp_path


def test_a_method_that_needs_no_unlabelled_images_may_have_none(photos):
    data = DataOptions(root=photos, unlabeled="none.txt")
    run = train(tiny_run.tiny_config(photos / "run", "supervised", data=data, steps=2), console=tiny_run.QUIET)
    result = json.loads((run / "result.json").read_text())
    assert result["split"]["unlabeled"]["count"] == 0
    assert math.isfinite(result["last"]["val"]["miou"])
    assert evaluate(run, subset="test", console=tiny_run.QUIET)["miou"] == result["best"]["test"]["miou"]


def test_the_test_set_is_scored_for_best_and_last(photos):
    data = DataOptions(root=photos, unlabeled="none.txt")
    run = train(tiny_run.tiny_config(photos / "run", "supervised", data=data, steps=2), console=tiny_run.QUIET)
    result = json.loads((run / "result.json").read_text())
    assert set(result["best"]) == set(result["last"]) == {"step", "val", "test"}
    assert result["split"]["test"]["count"] == 2
    assert "test" not in evaluations(run)[0]


def test_a_method_that_needs_unlabelled_images_says_so(photos):
    config = tiny_run.tiny_config(photos / "run", data=DataOptions(root=photos, unlabeled="none.txt"))
    refused(config, r"there are no unlabeled images .*--method supervised")


# Data that change under a run -----------------------------------------------------------------------------------------


def more_photos(root: Path, count: int = 4) -> None:
    for index in range(count):
        for folder in ("images", "masks"):
            shutil.copy(root / folder / "p0.png", root / folder / f"q{index}.png")


def test_a_run_does_not_go_on_with_other_images(photos):
    data = DataOptions(root=photos, unlabeled="none.txt")
    config = tiny_run.tiny_config(photos / "run", "supervised", data=data, steps=2)
    before = (train(config, console=tiny_run.QUIET) / "result.json").read_bytes()
    more_photos(photos)
    with pytest.raises(ValueError, match=r"the labeled images are not the images of the run in .*: there were 2 .*now"):
        train(config, resume=True, console=tiny_run.QUIET)
    assert (photos / "run/result.json").read_bytes() == before


def test_a_run_is_not_scored_on_images_it_was_trained_on(photos):
    data = DataOptions(root=photos, unlabeled="none.txt")
    run = train(tiny_run.tiny_config(photos / "run", "supervised", data=data, steps=2), console=tiny_run.QUIET)
    more_photos(photos, 12)
    with pytest.raises(ValueError, match=r"the val images are not the images of the run .*were 1 .*now there are"):
        evaluate(run, console=tiny_run.QUIET)


def test_a_run_finds_its_data_where_they_are_now(photos, tmp_path_factory):
    data = DataOptions(root=photos, unlabeled="none.txt")
    config = tiny_run.tiny_config(photos / "run", "supervised", data=data, steps=2)
    result = json.loads((train(config, console=tiny_run.QUIET) / "result.json").read_text())
    moved = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.move(photos, moved)
    found = evaluate(moved / "run", root=moved, console=tiny_run.QUIET)
    assert found["miou"] == result["best"]["val"]["miou"]
    again = replace(config, run=moved / "run", data=replace(data, root=moved))
    assert train(again, resume=True, console=tiny_run.QUIET) == moved / "run"


def test_a_run_refused_before_its_first_step_may_start_anew(photos):
    config = tiny_run.tiny_config(photos / "run", "supervised", data=DataOptions(root=photos, unlabeled="none.txt"))
    (photos / "run").mkdir()
    save_config(config, photos / "run/config.yaml")
    train(replace(config, seed=3), console=tiny_run.QUIET)
    assert json.loads((photos / "run/result.json").read_text())["seed"] == 3


def test_the_encoders_normalisation_is_saved_with_the_weights_and_changes_on_request_only(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "supervised", steps=2)
    config = replace(config, network=replace(config.network, mean=None, std=None))
    run = train(config, console=tiny_run.QUIET)
    state = load_checkpoint(run / "checkpoints/last.pt")["method"]
    assert state["student.pixel_mean"].tolist() == state["student.pixel_std"].tolist() == [0.5, 0.5, 0.5]  # timm's
    about = json.loads((run / "model/model.json").read_text())
    assert about["encoder_mean"] == about["encoder_std"] == [0.5, 0.5, 0.5]
    assert about["mean"] == [0.485, 0.456, 0.406]  # of the images that the network is given
    train(config, resume=True, console=tiny_run.QUIET)
    other = replace(config, network=replace(config.network, mean=(0.4, 0.4, 0.4), std=(0.5, 0.5, 0.5)))
    with pytest.raises(ValueError, match=r"network\.mean was None and is \[0\.4, 0\.4, 0\.4\]"):
        train(other, resume=True, console=tiny_run.QUIET)


def test_another_encoder_over_a_runs_config_has_its_own_normalisation(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "supervised", steps=1)
    run = train(replace(config, network=replace(config.network, mean=None, std=None)), console=tiny_run.QUIET)
    again = load_config(run / "config.yaml", {"network.encoder": "resnet18", "run": tmp_path / "again"})
    state = load_checkpoint(train(again, console=tiny_run.QUIET) / "checkpoints/last.pt")["method"]
    torch.testing.assert_close(state["student.pixel_mean"], torch.tensor([0.485, 0.456, 0.406]))


def test_a_run_of_before_goes_on_and_is_scored_under_imagenets_normalisation(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "supervised", steps=2)
    expected = evaluate(train(config, console=tiny_run.QUIET), checkpoint="last", console=tiny_run.QUIET)
    plain = replace(config, run=tmp_path / "plain", network=replace(config.network, mean=None, std=None))
    shutil.copytree(config.run_folder, plain.run_folder)
    path = plain.run_folder / "checkpoints/last.pt"
    state = torch.load(path, weights_only=True)
    for key in ("student.pixel_mean", "student.pixel_std"):
        del state["method"][key]
    for key in ("mean", "std"):
        del state["config"]["network"][key]
    torch.save(state, path)
    found = evaluate(plain.run_folder, checkpoint="last", console=tiny_run.QUIET)
    assert json.dumps(found["linear"]) == json.dumps(expected["linear"])  # a class may have no score, NaN
    train(plain, resume=True, console=tiny_run.QUIET)


def test_the_normalisation_of_a_network_given_as_an_object_is_given_with_it(tmp_path):
    config = tiny_run.tiny_config(tmp_path / "run", "supervised", steps=2)
    with pytest.raises(ValueError, match=r"give `normalisation` to semiseg\.wrap"):
        train(config, network=tiny.segmentor(len(CLASSES)), console=tiny_run.QUIET)
