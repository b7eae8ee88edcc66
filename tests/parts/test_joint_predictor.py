"""Several networks as one predictor: what it says by name, its scores, and its way through a model folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import drawn_pictures, tiny, tiny_run

from semiseg.data import open_dataset
from semiseg.evaluation.model import load_model, save_model
from semiseg.networks import build
from semiseg.parts.predictor import JointPredictor, Predictor, mean_prediction
from semiseg.parts.prototype_predictor import PrototypePredictor

IMAGE = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))


def member(seed: int, prototypes: bool = True) -> Predictor:
    segmentor = tiny.segmentor(seed=seed).eval()
    head = tiny.started_predictor(torch.randn(3, 2, 11)) if prototypes else None
    return Predictor(segmentor, head).eval()


def joint(reported: str, prototypes: bool = True) -> tuple[JointPredictor, dict[str, Predictor]]:
    members = {"left": member(1, prototypes), "right": member(2, prototypes)}
    return JointPredictor(members, reported).eval(), members


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum()


@torch.no_grad()
@pytest.mark.parametrize("reported", ["left", "right"])
def test_the_reported_network_speaks_first_and_each_by_its_name(reported):
    predictor, members = joint(reported)
    found = predictor(IMAGE)
    other = {"left": "right", "right": "left"}[reported]
    assert list(found) == ["linear", "prototype", reported, other, "mean"]
    assert predictor.headline == "linear"
    for name, one in members.items():
        assert found[name].equal(one(IMAGE)["linear"])
    for kind in ("linear", "prototype"):
        assert found[kind].equal(members[reported](IMAGE)[kind])
        assert predictor.headline_alone(IMAGE)[kind].equal(found[kind])
    assert not isinstance(predictor.headline_alone, JointPredictor)


@torch.no_grad()
def test_the_mean_is_that_of_the_probabilities():
    predictor, members = joint("mean")
    found = predictor(IMAGE)
    assert list(found) == ["linear", "prototype", "left", "right", "mean"]
    assert predictor.headline_alone is predictor
    assert found["linear"].equal(found["mean"])
    for kind in ("linear", "prototype"):
        alone = [one(IMAGE)[kind].double().numpy() for one in members.values()]
        for b, y, x in np.ndindex(2, 9, 12):
            expected = np.mean([softmax(logits[b, :, y, x]) for logits in alone], 0)
            assert softmax(found[kind][b, :, y, x].double().numpy()) == pytest.approx(expected, abs=1e-6)


def test_a_class_that_all_rule_out_has_a_finite_logit():
    certain = torch.tensor([500.0, 0.0, -500.0]).view(1, 3, 1, 1)
    assert mean_prediction([certain, certain]).isfinite().all()


def test_every_weight_is_held_once():
    predictor, members = joint("right")
    tensors = predictor.state_dict()
    assert len({tensor.data_ptr() for tensor in tensors.values() if tensor.numel()}) == len(tensors)
    assert len(tensors) == sum(len(one.state_dict()) for one in members.values())
    assert list(joint("right", prototypes=False)[0](IMAGE)) == ["linear", "right", "left", "mean"]


def test_all_are_scored_in_one_go_as_each_alone():
    predictor, members = joint("right", prototypes=False)
    score = drawn_pictures.evaluator(drawn_pictures.Pictures())
    scores = score(predictor, 0.4).to_dict()
    assert scores["headline"] == "linear"
    assert scores["miou"] == scores["right"]["miou"] == scores["linear"]["miou"]
    for name, one in members.items():
        assert scores[name] == score(one).to_dict()["linear"]
    assert scores["left"] != scores["right"] != scores["mean"]


@pytest.mark.parametrize("reported", ["left", "right", "mean"])
def test_the_model_folder_holds_all(tmp_path, reported):
    config = tiny_run.tiny_config(tmp_path / "run")
    dataset = open_dataset(config.data)
    torch.manual_seed(3)
    networks = {name: build(config.network, len(dataset.classes)) for name in ("left", "right")}
    members = {
        name: Predictor(network, PrototypePredictor(len(dataset.classes), 2, network.feature_channels))
        for name, network in networks.items()
    }
    for one in members.values():
        one.prototypes.prototypes.normal_()
        one.prototypes.ready.fill_(True)
    predictor = JointPredictor(members, reported).eval()
    save_model(tmp_path, predictor, config, dataset)
    loaded = load_model(tmp_path)
    image = torch.randn(1, 3, 33, 41)
    with torch.no_grad():
        found, expected = loaded.predictor(image), predictor(image)
    assert list(found) == list(expected)
    for name in found:
        torch.testing.assert_close(found[name], expected[name])
    assert json.loads((tmp_path / "model.json").read_text())["several"]["reported"] == reported

    picture = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    label, _ = loaded.predict(picture)
    alone = loaded.predictor.headline_alone if reported == "mean" else members[reported].eval()
    other, _ = replace(loaded, predictor=alone).predict(picture)
    assert (label == other).all()
