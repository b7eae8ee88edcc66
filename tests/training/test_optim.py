"""The optimizer's roles and arithmetic, and the schedule."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from semiseg.config.options import OptimOptions
from semiseg.training.optim import Optimizer, build_optimizer, learning_rate, set_learning_rate

POLY = OptimOptions(lr=1e-3, power=0.9)


def groups(*values: float) -> tuple[list[nn.Parameter], list[dict]]:
    """One parameter in the encoder, the others in the head."""
    parameters = [nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in values]
    return parameters, [{"role": "encoder", "params": parameters[:1]}, {"role": "head", "params": parameters[1:]}]


def step(optimizer: Optimizer, parameters: list[nn.Parameter], gradients: list[float], rate: float) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.full_like(parameter, gradient)
    set_learning_rate(optimizer, rate)
    optimizer.step()


@pytest.mark.parametrize(
    ("at", "power", "expected"),
    [(0, 0.9, 1e-3), (26_240, 0.9, 0.000535887), (26_240, 0.8, 0.000574349), (52_479, 0.9, 5.6e-8)],
)
def test_the_poly_schedule_of_the_voc_runs(at, power, expected):
    """52,480 steps are 80 epochs of the 92-image split."""
    found = learning_rate(at, 52_480, OptimOptions(lr=1e-3, power=power))
    assert found == pytest.approx(expected, rel=1e-2 if at == 52_479 else 1e-6)


def test_warm_up_rises_linearly_to_the_schedule():
    options = OptimOptions(lr=1e-3, power=0.9, warmup_steps=4)
    ratios = [learning_rate(at, 100, options) / learning_rate(at, 100, POLY) for at in range(6)]
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@given(total=st.integers(1, 10_000), power=st.floats(0.1, 3), warmup=st.integers(0, 500), share=st.floats(0, 1))
def test_the_rate_is_positive_and_never_above_its_option(total, power, warmup, share):
    at = min(int(share * total), total - 1)
    assert 0 < learning_rate(at, total, OptimOptions(lr=0.5, power=power, warmup_steps=warmup)) <= 0.5


def test_the_head_learns_by_its_factor():
    parameters, parts = groups(1.0, 1.0)
    optimizer = build_optimizer(parts, OptimOptions(lr=0.1, head_lr_factor=10, momentum=0, weight_decay=0))
    step(optimizer, parameters, [1.0, 1.0], rate=0.01)
    assert [parameter.item() for parameter in parameters] == pytest.approx([1 - 0.01, 1 - 0.1])


def test_sgd_is_heavy_ball_with_decay_on_everything():
    options = OptimOptions(lr=0.1, head_lr_factor=2, momentum=0.9, weight_decay=0.01)
    parameters, parts = groups(1.0, -2.0, 0.5)
    optimizer = build_optimizer(parts, options)
    values, velocity = [1.0, -2.0, 0.5], [0.0, 0.0, 0.0]
    for rate, gradients in ((0.1, [0.3, -0.2, 0.0]), (0.07, [0.1, 0.4, 0.0])):
        step(optimizer, parameters, gradients, rate)
        for i, factor in enumerate((1, 2, 2)):
            velocity[i] = 0.9 * velocity[i] + gradients[i] + 0.01 * values[i]
            values[i] -= rate * factor * velocity[i]  # Nesterov would look ahead by 0.9 velocity
    assert [parameter.item() for parameter in parameters] == pytest.approx(values, rel=1e-12)


def test_adamw_decays_apart_from_the_gradient():
    options = OptimOptions(kind="adamw", lr=0.1, head_lr_factor=3, weight_decay=0.05)
    parameters, parts = groups(1.0, -2.0)
    optimizer = build_optimizer(parts, options)
    values, first, second = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for t, (rate, gradients) in enumerate(((0.1, [0.3, -0.2]), (0.04, [0.1, 0.4])), 1):
        step(optimizer, parameters, gradients, rate)
        for i, factor in enumerate((1, 3)):
            first[i] = 0.9 * first[i] + 0.1 * gradients[i]
            second[i] = 0.999 * second[i] + 0.001 * gradients[i] ** 2
            values[i] *= 1 - rate * factor * 0.05
            mean, deviation = first[i] / (1 - 0.9**t), math.sqrt(second[i] / (1 - 0.999**t))
            values[i] -= rate * factor * mean / (deviation + 1e-8)
    assert [parameter.item() for parameter in parameters] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_schedule_still_governs_after_a_resume(kind):
    """U2PL's scheduler kept hold of groups that loading had replaced: the rate froze."""
    options = OptimOptions(kind=kind, lr=0.1, head_lr_factor=10)
    parameters, parts = groups(1.0, 1.0)
    optimizer = build_optimizer(parts, options)
    step(optimizer, parameters, [1.0, 1.0], rate=0.1)
    again_parameters, again_parts = groups(*(parameter.item() for parameter in parameters))
    resumed = build_optimizer(again_parts, options)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(optimizer, parameters, [0.5, -0.5], rate=0.03)
    step(resumed, again_parameters, [0.5, -0.5], rate=0.03)
    assert [group["lr"] for group in resumed.param_groups] == pytest.approx([0.03, 0.3])
    assert [p.item() for p in again_parameters] == [p.item() for p in parameters]


# ---- a group with an optimizer of its own ----


def with_own(*values: float) -> tuple[list[nn.Parameter], Optimizer]:
    """An encoder, a head, and a part with Adam at a fifth of the base rate."""
    parameters, parts = groups(*values)
    own = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    parts.append({"role": "head", "params": [own], "kind": "adam", "lr": 0.02, "betas": (0.9, 0.99)})
    return [*parameters, own], build_optimizer(parts, OptimOptions(lr=0.1, head_lr_factor=10, momentum=0.9))


def test_a_group_may_have_an_optimizer_of_its_own():
    parameters, optimizer = with_own(1.0, 1.0)
    assert [type(part) for part in optimizer.parts.values()] == [torch.optim.SGD, torch.optim.Adam]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 1.0, 0.02])
    adam = optimizer.parts["adam"].param_groups[0]
    assert (adam["betas"], adam["weight_decay"]) == ((0.9, 0.99), 0)
    step(optimizer, parameters, [1.0, 1.0, 5.0], rate=0.05)
    assert parameters[2].item() == pytest.approx(1 - 0.01)  # Adam's first step has the length of its rate
    assert optimizer.state[parameters[2]]["exp_avg"].item() == pytest.approx(0.5)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


def test_the_state_of_every_kind_comes_back():
    (parameters, optimizer), (others, resumed) = with_own(1.0, 2.0), with_own(1.0, 2.0)
    step(optimizer, parameters, [1.0, -1.0, 5.0], rate=0.05)
    with torch.no_grad():
        for mine, theirs in zip(others, parameters, strict=True):
            mine.copy_(theirs)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((optimizer, parameters), (resumed, others)):
        step(each, its, [0.5, 0.5, 0.5], rate=0.04)
    assert [p.item() for p in parameters] == [p.item() for p in others]


def test_a_saved_optimizer_gives_its_memory_and_not_its_options():
    """What a file says of rates and decay is not believed: the config says it."""
    made = [
        build_optimizer([{"role": "head", "params": [nn.Parameter(torch.ones(3))]}], OptimOptions()) for _ in range(2)
    ]
    made[0].param_groups[0]["params"][0].grad = torch.ones(3)
    made[0].step()
    state = made[0].state_dict()
    state["sgd"]["param_groups"][0] |= {"weight_decay": 1e3, "lr_factor": -1, "nesterov": True}
    made[1].load_state_dict(state)
    assert made[1].param_groups[0]["weight_decay"] == OptimOptions().weight_decay
    (memory,) = made[1].state.values()
    assert torch.equal(memory["momentum_buffer"], torch.ones(3) * (1 + OptimOptions().weight_decay))
    for wrong in (torch.ones(4), "text"):
        state["sgd"]["state"][0]["momentum_buffer"] = wrong
        with pytest.raises(ValueError, match="momentum_buffer is not of the shape"):
            made[1].load_state_dict(state)
