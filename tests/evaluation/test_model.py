"""The model folder: what a finished run leaves for use."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny_run

from semiseg.data.sets.scenes import CLASSES, COLORS
from semiseg.evaluation.evaluator import Evaluation
from semiseg.evaluation.model import load_model
from semiseg.networks import wrap
from semiseg.training import experiment
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.finished import load_run
from semiseg.training.trainer import Trainer

IMAGE = torch.randn(2, 3, 33, 41, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the paper's method."""
    return train(tiny_run.tiny_config(tmp_path_factory.mktemp("runs") / "prototype"), console=tiny_run.QUIET)


@pytest.fixture
def copied(run, tmp_path) -> Path:
    """A copy of the run, to be written to."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


@torch.inference_mode()
def logits_of(predictor: torch.nn.Module) -> dict[str, torch.Tensor]:
    return predictor.eval()(IMAGE)


@dataclass
class Marked:
    """Scores whose headline was made up."""

    scores: Evaluation
    miou: float

    def to_dict(self) -> dict:
        return self.scores.to_dict()


def test_the_model_is_that_of_the_best_step(tmp_path, monkeypatch):
    """The first of three evaluations is made the best."""
    marks, trainer = iter([90.0, 10.0, 20.0]), experiment.build_trainer

    def marking(*arguments) -> Trainer:
        made = trainer(*arguments)
        return replace(made, evaluate=lambda method: Marked(made.evaluate(method), next(marks)))

    monkeypatch.setattr(experiment, "build_trainer", marking)
    run = train(tiny_run.tiny_config(tmp_path / "run"), console=tiny_run.QUIET)
    assert load_checkpoint(run / "checkpoints/best.pt")["state"]["step"] == 5
    best, last = (logits_of(load_run(run, name).method.predictor)["linear"] for name in ("best", "last"))
    found = logits_of(load_model(run / "model").predictor)["linear"]
    torch.testing.assert_close(found, best)
    assert (found - last).abs().max() > 1e-3
    assert json.loads((run / "result.json").read_text())["best"]["step"] == 5


def test_the_model_folder_predicts_as_the_run_does(run):
    model = load_model(run / "model")
    found, expected = logits_of(model.predictor), logits_of(load_run(run).method.predictor)
    assert list(found) == list(expected) == ["linear", "prototype"]
    for name in found:  # not to the bit: the model is loaded in another memory layout
        torch.testing.assert_close(found[name], expected[name])
    assert (model.classes, model.colors, model.scale) == (CLASSES, COLORS, 1.0)
    assert not model.predictor.training


def test_a_method_without_prototypes_makes_a_model_without(tmp_path):
    run = train(tiny_run.tiny_config(tmp_path / "run", "supervised", steps=1), console=tiny_run.QUIET)
    model = load_model(run / "model")
    assert json.loads((run / "model/model.json").read_text())["prototypes"] is None
    assert list(logits_of(model.predictor)) == ["linear"]
    expected = logits_of(load_run(run).method.predictor)["linear"]
    torch.testing.assert_close(logits_of(model.predictor)["linear"], expected)


def test_loading_a_model_draws_no_random_number(run):
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    load_model(run / "model")
    assert torch.rand(()) == expected


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_missing_file_of_the_model_is_named(copied, file):
    (copied / "model" / file).unlink()
    with pytest.raises(
        ValueError, match=rf"model/{re.escape(file)} is not there; a finished `semiseg train` writes it"
    ):
        load_model(copied / "model")


def test_a_model_of_before_keeps_the_normalisation_it_was_trained_with(copied):
    """Every network had ImageNet's, and its weights do not say so."""
    about, path = json.loads((copied / "model/model.json").read_text()), copied / "model/model.safetensors"
    assert about["first_weights"] == {"from": "none", "licence": None}
    expected = logits_of(load_model(copied).predictor)["linear"]
    weights = {key: value for key, value in load_file(path).items() if "pixel_" not in key}
    save_file(weights, path)
    about["network"] |= {"mean": None, "std": None}
    del about["weights_sha256"]
    (copied / "model/model.json").write_text(json.dumps(about))
    assert torch.equal(logits_of(load_model(copied).predictor)["linear"], expected)


def test_a_model_of_an_object_has_the_normalisation_of_its_training(tmp_path):
    """Whatever the object says that is given to load it."""

    def network(**options):
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, len(CLASSES), 1))
        return wrap(module, features="0", **options)

    config = tiny_run.tiny_config(tmp_path / "run", "supervised", steps=1)
    config = replace(config, network=replace(config.network, mean=None, std=None))
    figures = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    run = train(config, console=tiny_run.QUIET, network=network(normalisation=figures))
    about = json.loads((run / "model/model.json").read_text())
    assert (about["encoder_mean"], about["encoder_std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert about["first_weights"] is None
    found = load_model(run, network=network()).predictor.segmentor
    assert [round(value, 6) for value in found.pixel_mean.tolist()] == [0.1, 0.2, 0.3]
    assert not found.as_in_batches
