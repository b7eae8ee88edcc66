"""Runs with ViTs and with networks of segmentation-models-pytorch: training, model folder, evaluation, estimates."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_run
from support.benches import step_bench

from semiseg.config.options import AugmentOptions, EvaluationOptions, NetworkOptions
from semiseg.config.recipe import Config, load_config
from semiseg.costs.estimate import count_step
from semiseg.evaluation.model import load_model
from semiseg.networks import ViTEncoder, build
from semiseg.networks.smp import SmpSegmentor
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.timing import peak_bytes
from semiseg.training.experiment import build_method, train
from semiseg.training.finished import load_run

NETWORKS = {
    "vit": NetworkOptions(name="dpt", encoder="test_vit", layers=(0, 1, 3, 5), channels=8, weights="none"),
    "smp": NetworkOptions(name="smp:FPN", encoder="tu-test_resnet", weights="none"),
}
IMAGE = torch.randn(2, 3, 33, 41, generator=torch.Generator().manual_seed(0))


def config(folder: Path, network: str, **changes) -> Config:
    made = tiny_run.tiny_config(folder, steps=6, **changes)
    return replace(made, network=NETWORKS[network])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_leaves_a_model_that_predicts_as_it_does(tmp_path, network):
    slide = EvaluationOptions(protocol="slide", window=29, stride=17)
    run = train(config(tmp_path / "run", network, evaluation=slide), console=tiny_run.QUIET)
    model, method = load_model(run / "model"), load_run(run).method
    expected_class = {"vit": (Segmentor, ViTEncoder), "smp": (SmpSegmentor, object)}[network]
    assert isinstance(model.predictor.segmentor, expected_class[0])
    assert isinstance(model.predictor.segmentor.encoder, expected_class[1])
    with torch.inference_mode():
        found, expected = (made.eval()(IMAGE) for made in (model.predictor, method.predictor))
    assert list(found) == list(expected) == ["linear", "prototype"]
    for name in found:
        assert found[name].shape[-2:] == (33, 41)
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)
    assert json.loads((run / "model/model.json").read_text())["network"]["name"] == NETWORKS[network].name
    assert 0 <= json.loads((run / "result.json").read_text())["last"]["val"]["miou"] <= 100


@pytest.mark.parametrize("network", NETWORKS)
def test_learning_rates_go_to_the_encoder_and_to_everything_else(network):
    made = build(NETWORKS[network], 3)
    names = {id(each): name.split(".")[0] for name, each in made.named_parameters()}
    assert {names[id(each)] for each in made.encoder_parameters()} == {"encoder"}
    assert {names[id(each)] for each in made.head_parameters()} == {"decoder"}


def test_crops_are_held_against_the_patch_that_the_network_has(tmp_path):
    """The name of `test_vit` does not tell its 16 pixels."""
    made = replace(config(tmp_path, "vit"), augment=AugmentOptions(crop_height=48, crop_width=40))
    with pytest.raises(ValueError, match=r"augment\.crop_width is 40, .*patches of 16 pixels: .*32 or 48"):
        build_method(made, ("a", "b"))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_memory_of_a_vits_step_is_that_of_a_step_that_is_run(tmp_path, checkpoint):
    size = {"network.name": "dpt", "network.encoder": "test_vit", "network.channels": 8}
    size |= {"augment.crop_height": 96, "augment.crop_width": 112, "network.checkpoint": checkpoint}
    bench = step_bench("prototype", tmp_path, **size)
    bench.step()
    measured = peak_bytes(bench.step, torch.device("cpu"))
    assert count_step(bench.config, 6).memory == pytest.approx(measured + bench.held(), rel=0.2)


def test_dinov2s_operations_follow_from_its_tokens_and_attention_is_not_written_out():
    """Per image 1370 tokens, 12 blocks, and every pair of tokens twice."""
    cost = count_step(load_config("voc-classic", {"data.root": ".", "preset": "dinov2", "method": "supervised"}))
    tokens, width, blocks, images = 37 * 37 + 1, 384, 12, 16
    products, pairs = 2 * tokens * 12 * width**2 * blocks, 4 * tokens**2 * width * blocks
    encoder = images * (3 * products + 3.5 * pairs)  # in the backward pass attention computes its matrix once more
    assert encoder < cost.flops < 1.4 * encoder
    matrices = images * blocks * 6 * tokens**2 * 2  # bytes, of one matrix per head in bf16
    assert cost.memory < 2 * matrices < 9e9
