"""Losses in slices of the batch: the same numbers with less kept for the backward pass."""

import pytest
import torch
from support.saved import saved_bytes
from support.tiny import batches, clock
from test_contract import ON_A_VIT, STEPS, VARIANTS, method_of, optimizer_of, train
from test_losses import IGNORE
from torch import Tensor
from torch.nn import functional as F

from semiseg.config.options import LossOptions
from semiseg.parts import losses
from semiseg.parts.losses import (
    cross_entropy,
    in_slices,
    kept_cross_entropy,
    kept_cross_entropy_sum,
    kept_divergence,
    ohem_cross_entropy,
    softmax_mse,
    softmax_squared_distance,
    supervised_loss,
)

BATCH, CLASSES = 5, 6
SLICES = (2, 3, BATCH, BATCH + 4)  # 5 images in 2 and 3 slices of different sizes, one by one, more slices than images


def case(classes: int = CLASSES, side: int = 7) -> dict[str, Tensor]:
    """Maps of BATCH images that have different numbers of labelled and kept pixels; the last has none."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, classes, (BATCH, side, side), generator=generator)
    for number in range(BATCH):
        label[number, : number * side // (BATCH - 1)] = IGNORE
    kept = (torch.rand(label.shape, generator=generator) < 0.5) & (label != IGNORE)
    return {
        "logits": 3 * torch.randn(BATCH, classes, side, side, generator=generator),
        "label": label,
        "kept": kept,
        "target": torch.randn(BATCH, classes, side, side, generator=generator).softmax(1),
    }


LOSSES = {
    "cross_entropy": lambda logits, label, kept, target, slices: cross_entropy(logits, label, slices),
    "ohem": lambda logits, label, kept, target, slices: ohem_cross_entropy(logits, label, 0.3, 20, slices),
    "kept_sum": lambda logits, label, kept, target, slices: kept_cross_entropy_sum(logits, label, kept, slices),
    "kept": lambda logits, label, kept, target, slices: kept_cross_entropy(
        logits, label.byte(), kept, label != IGNORE, "u2pl", slices
    ),
    "divergence": lambda logits, label, kept, target, slices: kept_divergence(
        logits, target, kept, label != IGNORE, slices
    ),
    "mse": lambda logits, label, kept, target, slices: softmax_mse(logits, target, kept, slices),
    "distance": lambda logits, label, kept, target, slices: softmax_squared_distance(
        logits, target, kept * 0.3, slices
    ),
}


def value_and_gradient(name: str, slices: int) -> tuple[Tensor, Tensor]:
    maps = case()
    logits = maps["logits"].requires_grad_()
    loss = LOSSES[name](**maps, slices=slices)
    loss.backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("slices", SLICES)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_one_slice(name, slices):
    (value, gradient), (expected, whole) = value_and_gradient(name, slices), value_and_gradient(name, 1)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, whole, rtol=1e-6, atol=1e-8)
    assert expected > 0


@pytest.mark.parametrize("slices", SLICES)
def test_in_double_precision_nothing_but_the_last_digits_differs(slices):
    """The losses themselves compute in float32."""
    found = []
    for count in (1, slices):
        maps = case()
        logits = maps["logits"].double().requires_grad_()
        parts = in_slices(lambda x, q: (x.softmax(1) - q).square().sum(1), count, logits, maps["target"].double())
        assert [len(part) for part in parts] == [len(part) for part in logits.chunk(count)]
        loss = (torch.cat(parts) * maps["kept"]).sum()
        loss.backward()
        found.append((loss.detach(), logits.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_less_is_kept_for_the_backward_pass(name):
    """Of 60 classes: a map as large as the logits, a softmax or its logarithm, is what goes."""
    maps = case(classes=60, side=16)
    maps["logits"].requires_grad_()
    size = maps["logits"].numel() * 4
    whole, sliced = (
        saved_bytes(lambda slices=slices: LOSSES[name](**maps, slices=slices), *maps.values()) for slices in (1, BATCH)
    )
    assert whole >= size
    assert sliced < 0.1 * whole


def test_a_slice_is_computed_again_when_its_gradient_is_wanted():
    calls = []

    def function(part: Tensor) -> Tensor:
        calls.append(len(part))
        return part.exp().sum()

    logits = torch.zeros(BATCH, 2, requires_grad=True)
    loss = torch.stack(in_slices(function, 2, logits)).sum()
    assert calls == [3, 2]
    loss.backward()
    assert sorted(calls) == [2, 2, 3, 3]
    calls.clear()
    in_slices(function, 1, logits)[0].backward()
    assert calls == [BATCH]


@pytest.mark.parametrize("kind", ["ce", "ohem"])
def test_the_options_reach_the_supervised_loss(kind, monkeypatch):
    maps, slices = case(), []
    original = losses.in_slices
    monkeypatch.setattr(
        losses, "in_slices", lambda function, count, *rest: slices.append(count) or original(function, count, *rest)
    )
    supervised_loss(maps["logits"], maps["label"], LossOptions(kind=kind, slices=3))
    assert slices == [3]
    with pytest.raises(ValueError, match=r"loss\.slices is 0; expected 1 or more"):
        LossOptions(slices=0)


def test_what_processes_share_is_counted_outside_of_slices(monkeypatch):
    """A sum over processes in the backward pass would meet another process's sum of something else."""
    sums = []
    monkeypatch.setattr(losses, "sum_over_ranks", lambda tensor: sums.append(1) or tensor)
    monkeypatch.setattr(losses, "joined", lambda tensor: sums.append(1) or tensor)
    for name, loss in LOSSES.items():
        maps = case()
        maps["logits"].requires_grad_()
        sums.clear()
        loss(**maps, slices=1)
        before = len(sums)
        sums.clear()
        value = loss(**maps, slices=BATCH)
        assert len(sums) == before, name
        value.backward()
        assert len(sums) == before, name


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.endswith(ON_A_VIT)])
def test_every_method_takes_its_full_size_losses_in_slices(variant, monkeypatch):
    """Those of the supervised part, of the auxiliary head and of the unlabelled images."""
    found = []
    for slices in (1, 2):
        method = method_of(variant)
        train(method, optimizer_of(method), 0, STEPS - 1)
        object.__setattr__(method.setting, "loss", LossOptions(slices=slices))
        result = method(*batches(seed=STEPS), clock(STEPS - 1, STEPS))
        result.loss.backward()
        gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        found.append(({name: loss.detach() for name, loss in result.losses.items()}, gradients))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)

    whole, seen = F.cross_entropy, []

    def keep(logits):
        if torch.is_grad_enabled():  # what is only looked at is not kept for a backward pass
            seen.append(logits)

    monkeypatch.setattr(F, "cross_entropy", lambda logits, *rest, **more: keep(logits) or whole(logits, *rest, **more))
    method(*batches(4, 4, seed=STEPS), clock(STEPS - 1, STEPS))
    full = [len(logits) for logits in seen if logits.shape[-2:] == (9, 11)]
    together = variant.startswith("cps plain")  # a loss of labelled and unlabelled images: half of 8
    assert set(full) <= ({2, 4} if together else {2})
    assert bool(full) == (variant != "prototype alone")
