"""One image at a time: it is enough for BatchNorm, or the run is refused before its first step with the repair."""

from dataclasses import replace

import pytest
import torch
from support.equality import same_tensors
from support.tiny import setting
from support.tiny_run import tiny_config
from support.variants import method_of

from semiseg.config.options import AugmentOptions, NetworkOptions, TrainOptions
from semiseg.methods import METHODS
from semiseg.networks import build
from semiseg.training.experiment import build_experiment, train
from semiseg.training.single import check_single_images

CPU = torch.device("cpu")
CROP = AugmentOptions(crop_height=33, crop_width=33)
ONE = TrainOptions(steps=6, batch_labeled=1, batch_unlabeled=1, precision="fp32")


def method_on(network: str, method: str = "supervised"):
    torch.manual_seed(0)
    made = build(NetworkOptions(name=network, encoder="resnet18", weights="none", channels=16), 3)
    return METHODS[method](made, METHODS[method].Options(), setting(total_steps=6)).train()


@pytest.mark.parametrize(
    ("network", "enough"),
    [("fpn", True), ("smp:Unet", True), ("deeplabv3plus", False), ("smp:DeepLabV3Plus", False), ("smp:UPerNet", False)],
)
def test_a_network_trains_on_one_image_or_is_refused_and_nothing_moves(network, enough):
    method = method_on(network)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    if enough:
        check_single_images(method, ONE, CROP, CPU)
    else:
        with pytest.raises(ValueError, match=r"with 1 labelled image at a time.*raise train\.batch_labeled to have"):
            check_single_images(method, ONE, CROP, CPU)
        check_single_images(method, replace(ONE, batch_labeled=2), CROP, CPU)
    same_tensors(method.state_dict(), before)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_tried_in_both_kinds_of_steps(method):
    made = method_of(method)
    before = {name: tensor.clone() for name, tensor in (*made.named_buffers(), *made.named_parameters())}
    check_single_images(made, ONE, CROP, CPU)
    same_tensors(dict((*made.named_buffers(), *made.named_parameters())), before)
    steps: list[int] = []
    made.register_forward_pre_hook(lambda _, given: steps.append(given[2].step))
    check_single_images(made, replace(ONE, batch_labeled=4), CROP, CPU)
    assert steps == ([0, 2] if made.uses_unlabeled else [])
    check_single_images(made, replace(ONE, batch_labeled=2, batch_unlabeled=2), CROP, CPU)
    assert len(steps) == 2 * made.uses_unlabeled  # nothing was tried where there are two


@pytest.mark.parametrize(
    ("method", "sizes", "repair"),
    [
        ("supervised", {"batch_labeled": 1}, "raise train.batch_labeled to"),
        ("cutmix", {"batch_labeled": 1}, "raise train.batch_labeled and train.batch_unlabeled to"),
        ("cutmix", {"accumulate": 2, "batch_unlabeled": 4}, "or lower train.accumulate (2) to"),
    ],
)
def test_a_run_is_refused_before_its_first_step(tmp_path, method, sizes, repair):
    config = tiny_config(tmp_path / "run", method, **sizes)
    with pytest.raises(ValueError, match="cannot train") as caught:
        train(config)
    assert repair in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_labelled_and_unlabelled_images_together_are_enough_where_no_step_sees_one_alone(tmp_path):
    config = tiny_config(tmp_path / "run", "cutmix", batch_labeled=1)
    experiment = build_experiment(replace(config, method_options=replace(config.method_options, warmup=0.0)))
    check_single_images(experiment.method, config.train, config.augment, CPU)
