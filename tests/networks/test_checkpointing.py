"""Blocks computed again in the backward pass: the same losses, gradients and statistics, with less kept."""

import copy

import pytest
import torch
from support.saved import saved_bytes
from support.slow_prototype import options_of
from support.tiny import CLASSES, batches, clock, optimizer_of, setting, train_step
from torch import Tensor, nn

from semiseg.config.options import NetworkOptions
from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.networks import build, checkpointing
from semiseg.networks.checkpointing import CountingNothing, encoder_blocks, recompute
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.precision import precision_context

STEPS = 4
ENCODERS = ("test_resnet", "test_efficientnet", "test_convnext")  # BatchNorm and ReLU; both in one layer; LayerNorm
CPU = torch.device("cpu")


def network(checkpoint: bool, encoder: str = "test_resnet", **changes) -> Segmentor:
    """Dropout and auxiliary head included; the weights do not depend on `checkpoint`."""
    options = {"output_stride": 32, "multi_grid": False, "channels": 8, "aspp_rates": (1, 2, 3), "dropout": 0.4}
    torch.manual_seed(0)
    return build(
        NetworkOptions(encoder=encoder, weights="none", aux=True, checkpoint=checkpoint, **(options | changes)),
        len(CLASSES),
    ).train()


def method(student: Segmentor, **changes) -> Method:
    options = options_of(**{"warmup": 1 / STEPS, "threshold": 0.4, "per_class": 2, "grid": 4, **changes})
    return METHODS["prototype"](student, options, setting(STEPS)).train()


def trained(checkpoint: bool, encoder: str, precision: str) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """The losses of STEPS steps, warm-up and unlabelled ones; weights and all buffers after them."""
    made = method(network(checkpoint, encoder))
    optimizer, losses = optimizer_of(made), []
    for step in range(STEPS):
        with precision_context(precision, CPU):
            result = train_step(made, optimizer, batches(2, 2, size=(64, 64), seed=step), clock(step, STEPS))
        losses.append({name: loss.detach() for name, loss in result.losses.items()})
    return losses, dict(made.state_dict())


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_losses_weights_and_buffers_are_the_same_to_the_bit(encoder, precision):
    (losses, state), (expected, plain) = (trained(checkpoint, encoder, precision) for checkpoint in (True, False))
    for found, wanted in zip(losses, expected, strict=True):
        same(found, wanted)
    same(state, plain)
    counters = [name for name in state if name.startswith("student.") and name.endswith("num_batches_tracked")]
    assert counters
    assert all(state[name] == STEPS for name in counters)


@pytest.mark.parametrize("changes", [{}, {"output_stride": 8, "multi_grid": True}])
def test_gradients_of_the_papers_family_are_the_same_to_the_bit(changes):
    gradients = []
    for checkpoint in (False, True):
        student = network(checkpoint, "resnet50s", **changes)
        torch.manual_seed(1)
        output = student(torch.randn(2, 3, 65, 65))
        torch.rand(5)  # what is drawn between the passes must not matter
        (output.logits.square().mean() + output.features.mean() + output.aux.square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in student.named_parameters()})
    same(gradients[1], gradients[0])
    assert any(gradient.any() for gradient in gradients[0].values())


@pytest.mark.parametrize("encoder", ["test_vit", "vit_small_patch16_dinov3"])
def test_gradients_of_vits_are_the_same_to_the_bit(encoder):
    gradients, sizes, image = [], [], torch.randn(2, 3, 64, 48)
    for checkpoint in (False, True):
        student = network(checkpoint, encoder, name="dpt")
        sizes.append(saved_bytes(lambda student=student: student(image).logits, image, *student.parameters()))
        torch.manual_seed(1)
        output = student(image)
        (output.logits.square().mean() + output.features.mean() + output.aux.square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in student.named_parameters()})
    same(gradients[1], gradients[0])
    assert sizes[1] < 0.5 * sizes[0]


def test_dropout_draws_the_same_in_both_passes():
    """The gradient is 0 exactly where the output was dropped."""
    features = torch.ones(4, 16, 3, 3, requires_grad=True)
    layers = nn.Sequential(nn.Dropout(0.5))
    recompute(layers)
    out = layers(features)
    torch.rand(9)
    out.sum().backward()
    assert torch.equal(features.grad, out.detach())


@pytest.mark.parametrize("encoder", ["resnet26d", "test_efficientnet", "test_convnext"])
def test_less_is_kept_for_the_backward_pass(encoder):
    image, sizes = torch.randn(2, 3, 64, 64), {}
    for checkpoint in (False, True):
        student = network(checkpoint, encoder)
        sizes[checkpoint] = saved_bytes(lambda student=student: student(image).logits, image, *student.parameters())
    assert sizes[True] < 0.5 * sizes[False]


def test_every_part_is_computed_a_second_time_and_once_only():
    student = network(True)
    calls: list[str] = []
    for name, layer in student.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    output = student(torch.randn(2, 3, 64, 64))
    first = list(calls)
    assert len(set(first)) == len(first) > 10
    calls.clear()
    (output.logits.mean() + output.aux.mean()).backward()
    # The stem is kept; and a block is not computed further than its last kept activation.
    assert len(set(calls)) == len(calls) > 0.6 * len(first)
    assert not any("conv1." in name and "layer" not in name for name in calls)


def test_what_asks_for_no_gradient_keeps_nothing_and_counts_once(monkeypatch):
    """The teacher's pseudo-labels, its own statistics (`observe`), evaluation."""
    made = method(network(True), teacher_bn="own")
    plain = method(network(False), teacher_bn="own")
    monkeypatch.setattr(checkpointing, "checkpoint", lambda *_, **__: pytest.fail("a pass without gradient was kept"))
    image = torch.randn(2, 3, 64, 64)
    for each in (made, plain):
        torch.manual_seed(1)
        each.teacher.observe(image)
    assert torch.equal(made.teacher(image).logits, plain.teacher(image).logits)
    same(dict(made.teacher.state_dict()), dict(plain.teacher.state_dict()))
    with torch.no_grad():
        assert torch.equal(made.eval().predictor(image)["linear"], plain.eval().predictor(image)["linear"])


def test_two_micro_batches_count_twice():
    student = network(True)
    for seed in range(2):
        torch.manual_seed(seed)
        student(torch.randn(2, 3, 64, 64)).logits.mean().backward()
    assert student.decoder.low_conv[1].num_batches_tracked == 2
    assert student.encoder.layer1[0].bn1.num_batches_tracked == 2


def test_buffers_come_back_also_after_an_error():
    layers = nn.Sequential(nn.BatchNorm2d(3))
    before = dict(layers.named_buffers())
    with pytest.raises(ValueError, match="expected 4D"), CountingNothing(layers):
        layers(torch.randn(2, 3))
    with CountingNothing(layers):
        layers(torch.randn(2, 3, 4, 4))
        assert layers[0].num_batches_tracked == 1
    after = dict(layers.named_buffers())
    assert all(after[name] is buffer for name, buffer in before.items())
    assert layers[0].num_batches_tracked == 0


def test_names_of_weights_stay_and_copies_stand_on_their_own():
    made, plain = network(True), network(False)
    assert list(made.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in plain.named_parameters()]
    plain.load_state_dict(made.state_dict())
    twin = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin(torch.randn(2, 3, 64, 64)).logits.mean().backward()
    assert all(parameter.grad is None for parameter in made.parameters())
    assert made.encoder.layer1[0].bn1.num_batches_tracked == 0
    assert twin.encoder.layer1[0].bn1.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("encoder", "blocks"),
    [
        *(("resnet18", 8), ("resnet101s", 33), ("convnext_atto", 12), ("efficientnet_b0", 16)),
        *(("regnetx_002", 13), ("test_vit", 6)),
    ],
)
def test_blocks_are_the_residual_ones(encoder, blocks):
    with torch.device("meta"):
        student = network(False, encoder, name="dpt" if "vit" in encoder else "deeplabv3plus")
    assert len(encoder_blocks(student.encoder)) == blocks


def test_without_residual_blocks_stages_are_taken():
    with torch.device("meta"):
        student = network(False, "densenet121")
    assert [type(stage).__name__ for stage in encoder_blocks(student.encoder)] == ["DenseBlock"] * 4


def test_an_encoder_with_neither_is_refused():
    with pytest.raises(ValueError, match=r"network\.checkpoint finds neither residual blocks nor stages"):
        encoder_blocks(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def test_members_of_a_list_are_called_and_the_list_is_not():
    stage = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    encoder = nn.Sequential(nn.ModuleDict({"stem": nn.Conv2d(3, 3, 3), "blocks": nn.ModuleList([stage, stage])}))
    assert encoder_blocks(encoder) == [stage, stage]
