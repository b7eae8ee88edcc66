"""`semiseg train FOLDER` from end to end, on few steps: folds, verdict, the model that is kept, and going on."""

import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.examined import CLASSES, TINY, drawn_folder
from support.tiny_run import QUIET

import semiseg
from semiseg.cli.main import main
from semiseg.config.recipe import load_config
from semiseg.runtime.progress import Progress
from semiseg.runtime.stopping import Stopped
from semiseg.studies.own.begin import train_folder
from semiseg.studies.own.trainings import read_plan
from semiseg.studies.own.verdict import judge
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.finished import evaluate
from semiseg.training.record import run_behind


def typed(options):
    return [word for key, value in options.items() for word in (f"--{key}", str(value).lower())]


def trained(root, run, console=QUIET, **wishes):
    options = {**TINY, "run": str(run), **wishes.pop("options", {})}
    return train_folder(root, options, console=console, **wishes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn_folder(tmp_path_factory.mktemp("own") / "discs", masks=6, images=9)


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """Six masks, on the command line: the run, and what was printed."""
    run = tmp_path_factory.mktemp("folds") / "run"
    printed = io.StringIO()
    trained(data, run, Console(file=printed, width=200))
    return run, printed.getvalue()


@pytest.fixture(scope="module")
def plenty(tmp_path_factory):
    """24 masks, of which 20 validate: no folds."""
    root = drawn_folder(tmp_path_factory.mktemp("plenty") / "discs", masks=24, images=28)
    run = tmp_path_factory.mktemp("plenty-run") / "run"
    trained(root, run, options={"data.val_fraction": 0.84})
    return root, run


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


# Few masks ------------------------------------------------------------------------------------------------------------


def test_every_mask_validates_once_and_the_last_training_has_all(folds, data):
    run, _ = folds
    names = sorted(path.stem for path in (data / "masks").iterdir())
    validated = []
    for number in (1, 2, 3):
        for kind in ("method", "baseline"):
            folder = run / "folds" / f"fold{number}-{kind}"
            found = np.load(folder / "confusions.npz")["names"].tolist()
            split = json.loads((folder / "result.json").read_text())["split"]
            assert split["labeled"]["count"] + split["val"]["count"] == len(names)
            assert split["unlabeled"]["count"] == 3
        validated += found
    assert sorted(validated) == names
    final = json.loads((run / "final/result.json").read_text())
    assert final["split"]["labeled"]["count"] == len(names)


def test_the_verdict_is_of_the_folds_and_the_model_of_the_last_training(folds):
    run, _ = folds
    verdict = json.loads((run / "verdict.json").read_text())
    runs = [[run / f"folds/fold{number}-{kind}" for number in (1, 2, 3)] for kind in ("method", "baseline")]
    found = judge(*runs)
    assert verdict["difference"] == pytest.approx(100 * found.interval.difference)
    assert verdict["verdict"] == found.interval.verdict
    assert verdict["chosen"] == found.chosen
    assert (verdict["model"], verdict["folds"], len(verdict["images"])) == ("final", 3, 6)
    assert set(verdict["method"]["iou"]) == set(CLASSES)
    chosen = {"method": "prototype", "baseline": "supervised"}[found.chosen]
    assert load_config(run / "final/config.yaml").method == chosen
    assert weights(run) == weights(run / "final")


def test_the_screen_tells_what_was_found_chosen_and_came_out(folds):
    run, printed = folds
    before, _, after = printed.partition("Training 1 of 7: fold 1 of 3, masks alone (baseline), 3 steps")
    for words in (
        "9, 6 of them with a mask",
        "crop       32 x 32 pixels: as asked",
        "each of the 6 masks",
        "recipe.yaml",
    ):
        assert words in before
    for words in (
        "Training 7 of 7: all masks",
        "Verdict: The unlabelled images",
        "6 images are few",
        "once more, on all 6",
    ):
        assert words in after
    assert f"Next:   semiseg predict {run} PICTURES" in after
    assert "masks validate (" not in printed  # the lists of every fold
    assert (run / "report.html").is_file()


def test_the_page_has_the_verdict_the_plan_and_every_fold(folds):
    run, _ = folds
    page = (run / "report.html").read_text("utf-8")
    assert "fold 3" in page
    assert "3 folds: each of the 6 masks validates once" in page
    assert main(["report", str(run)]) == 0


def test_the_written_recipe_trains_again(folds, tmp_path):
    run, _ = folds
    recipe = load_config(run / "recipe.yaml")
    assert recipe == read_plan(run).config
    assert {key: recipe.augment.__dict__[key] for key in ("crop_height", "hue", "flip_vertical")} == {
        "crop_height": 32, "hue": 0.05, "flip_vertical": 0.0,
    }  # fmt: skip
    again = semiseg.train(run / "recipe.yaml", run=tmp_path / "again", steps=1, console=QUIET)
    assert again.result["steps"] == 1


def test_the_run_is_one_for_python_for_evaluation_and_for_predict(folds, data, tmp_path):
    run = semiseg.Run(folds[0])
    picture = next((data / "images").iterdir())
    labels, confidence = run.predict(picture)
    assert labels.shape == confidence.shape == (48, 64)
    assert (semiseg.load_model(run).predict(picture)[0] == labels).all()
    assert main(["predict", str(folds[0]), str(picture), "--out", str(tmp_path / "out")]) == 0
    assert (np.asarray(Image.open(tmp_path / f"out/masks/{picture.stem}.png")) == labels).all()
    assert run.verdict is not None
    assert run.result["split"]["labeled"]["count"] == 6
    assert run.config.run_folder == folds[0] / "final"
    with pytest.raises(ValueError, match=r"trained on its validation images.*verdict\.json.*--images and --masks"):
        evaluate(folds[0], console=QUIET)
    assert not list((folds[0] / "final").glob("evaluation-*.json"))
    assert evaluate(folds[0] / "folds/fold1-method", console=QUIET)["subset"] == "val"


def test_images_to_label_are_suggested_of_it(folds, tmp_path):
    found = semiseg.Run(folds[0]).suggest(count=2, out=tmp_path)
    assert len(found.chosen) == 2


def test_every_checkpoint_can_be_read_again(folds):
    found = sorted(folds[0].rglob("checkpoints/*.pt"))
    assert len(found) >= 14
    for path in found:
        assert load_checkpoint(path)["state"]["step"] >= 1


def test_a_finished_one_is_not_trained_again(folds, data, capsys, monkeypatch):
    run, _ = folds
    before = weights(run)
    (run / "report.html").unlink()
    monkeypatch.setattr("semiseg.training.experiment.train", None)
    trained(data, run, resume=True)
    assert weights(run) == before
    assert (run / "report.html").is_file()


# Enough masks ---------------------------------------------------------------------------------------------------------


def test_with_enough_masks_there_are_two_trainings_and_the_better_is_kept(plenty):
    _, run = plenty
    assert not (run / "folds").exists()
    verdict = json.loads((run / "verdict.json").read_text())
    assert len(verdict["images"]) == 20
    scores = {kind: verdict[kind]["miou"] for kind in ("method", "baseline")}
    assert verdict["model"] == verdict["chosen"] == max(scores, key=lambda kind: (scores[kind], kind == "baseline"))
    assert weights(run) == weights(run / verdict["chosen"])


def test_going_on_gives_what_would_have_been_without_the_stop(plenty, tmp_path, monkeypatch):
    root, whole = plenty
    run, shown = tmp_path / "run", Progress.evaluation

    def stop(self, step, *rest):
        shown(self, step, *rest)
        if self.title == "prototype" and step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Progress, "evaluation", stop)
    with pytest.raises(Stopped):
        trained(root, run, options={"data.val_fraction": 0.84})
    assert (run / "baseline/result.json").is_file()
    assert not (run / "method/result.json").exists()
    with pytest.raises(ValueError, match="not finished"):
        run_behind(run)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="already holds a training: go on with it by --resume"):
        trained(root, run, options={"data.val_fraction": 0.84})
    with pytest.raises(ValueError, match=r"augment\.hue was None and is 0\.3"):
        trained(root, run, options={"data.val_fraction": 0.84, "augment.hue": 0.3}, resume=True)
    trained(root, run, options={"data.val_fraction": 0.84}, resume=True)
    for kind in ("baseline", "method"):
        assert weights(run / kind) == weights(whole / kind)
    same = [json.loads((folder / "verdict.json").read_text()) for folder in (run, whole)]
    assert same[0] == same[1]


def test_without_a_baseline_one_training_is_all_and_no_verdict_is_claimed(plenty, tmp_path, monkeypatch, capsys):
    root, _ = plenty
    monkeypatch.chdir(tmp_path)
    options = typed({**TINY, "data.val_fraction": 0.84, "method": "cutmix"})
    assert main(["train", str(root), "--baseline", "off", "--guard", "off", "--run", "r", *options]) == 0
    printed = capsys.readouterr().out
    assert "not known: no baseline was trained" in " ".join(printed.split())
    verdict = json.loads((tmp_path / "r/verdict.json").read_text())
    assert (verdict["model"], "verdict" in verdict) == ("method", False)
    assert load_config(tmp_path / "r/method/config.yaml").method == "cutmix"
    assert not (tmp_path / "r/baseline").exists()


def test_steps_are_measured_where_none_are_given(data, tmp_path):
    (tmp_path / "val.txt").write_text(min(path.name for path in (data / "masks").iterdir()))  # one training, no folds
    options = {key: value for key, value in TINY.items() if key != "train.steps"}
    options |= {"run": tmp_path / "r", "data.val": tmp_path / "val.txt"}
    run = train_folder(data, options, minutes=0.05, baseline=False, console=QUIET)
    plan = json.loads((run / "plan.json").read_text())
    assert 0 < plan["speed"]["supervised"] < 60
    assert plan["speed"]["unlabeled"] > 0
    assert plan["short"]
    assert load_config(run / "recipe.yaml").train.steps >= 1


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_trained_on_is_refused_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = drawn_folder(tmp_path / "discs", masks=2, images=3)
    shutil.rmtree(root / "masks")
    assert main(["train", "discs"]) == 2
    assert "cannot be trained on yet" in capsys.readouterr().err
    assert not (tmp_path / "runs/discs").exists()


def test_a_folder_with_the_name_of_a_recipe_is_told_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid").mkdir()
    assert main(["train", "camvid", "--data.root", "nowhere"]) == 2
    assert "camvid is taken for the recipe of that name; ./camvid is the folder" in capsys.readouterr().err


def test_words_for_a_folder_are_refused_for_a_recipe(capsys):
    assert main(["train", "folder", "--minutes", "3", "--baseline", "off"]) == 2
    assert "--minutes, --baseline: for a training on a folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="minutes: for a training on a folder"):
        semiseg.train("folder", minutes=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.root", "elsewhere"], "leave --data.root out"),
        (["--devices", "2"], "planned and trained in one process"),
        (["--minutes", "0"], "expected a number above 0"),
        (["--minutes", "1e9"], "above 0 and below 1,000,000"),
        (["--train.stepps", "3"], "train.steps"),
    ],
)
def test_options_that_do_not_fit_are_told_before_anything_is_done(data, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(data), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_run_in_a_folders_place_is_told_from_one(folds, tmp_path, capsys):
    run, _ = folds
    assert main(["train", str(run)]) == 2
    assert "recipe.yaml to train by its plan" in capsys.readouterr().err
    assert main(["train", str(run / "final")]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_the_next_images_to_label_are_those_of_the_chosen_training(folds, data, tmp_path, capsys):
    run, _ = folds
    unlabelled = {path.stem for path in (data / "images").iterdir()} - {
        path.stem for path in (data / "masks").iterdir()
    }
    found = semiseg.Run(run).suggest(2, out=str(tmp_path / "of_run"), console=QUIET)
    assert found.pool == len(unlabelled) == 3
    assert {each.name for each in found.chosen} <= unlabelled
    assert (tmp_path / "of_run/suggestions.png").is_file()
    again = semiseg.Run(run).suggest(2, images=str(data / "images"), out=str(tmp_path / "of_folder"), console=QUIET)
    assert [each.name for each in again.chosen] == [each.name for each in found.chosen]  # labelled files are left out
    assert main(["suggest", str(run), "--count", "2", "--out", str(tmp_path / "typed")]) == 0
    assert all(each.name in capsys.readouterr().out for each in found.chosen[:1])


def test_a_run_of_one_training_is_not_written_into(data, tmp_path):
    (tmp_path / "config.yaml").write_text("method: supervised\n")
    with pytest.raises(ValueError, match="already holds a run"):
        trained(data, tmp_path)
