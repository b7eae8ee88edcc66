"""Losses for rare classes against plain loops; ignored pixels do not matter, and even classes change nothing."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.config.options import LossOptions
from semiseg.parts.losses import class_weights, cross_entropy, dice_loss, log_shares, supervised_loss
from semiseg.types import IGNORE

counts = st.lists(st.integers(0, 10**7), min_size=2, max_size=8).filter(any)
BY_CLASS = [
    {"class_weights": "sqrt"},
    {"class_weights": "effective"},
    {"logit_adjust": 1.0},
    {"class_weights": "sqrt", "logit_adjust": 0.5},
    {"kind": "ohem", "ohem_min_kept": 5, "class_weights": "sqrt"},
    {"kind": "ohem", "ohem_min_kept": 5, "logit_adjust": 2.0},
]


def case(seed, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 3, 5, generator=generator)
    label = torch.randint(0, classes, (2, 3, 5), generator=generator)
    label[torch.rand(2, 3, 5, generator=generator) < 0.2] = IGNORE
    return logits, label


def slow_weights(pixels, kind):
    shown = [n for n in pixels if n]
    share = {n: n / sum(pixels) for n in shown}
    if kind == "sqrt":
        raw = {n: 1 / math.sqrt(share[n]) for n in shown}
    else:
        rest = len(shown) / sum(shown)  # 1 - beta; the series 1 + beta + beta^2 + ... of n terms is Cui's E
        raw = {n: rest / -math.expm1(n * math.log1p(-rest)) if rest < 1 else 1.0 for n in shown}
    mean = sum(share[n] * raw[n] for n in shown)
    return [raw[n] / mean if n else 1.0 for n in pixels]


def slow_loss(logits, label, options, pixels):
    """Mean over pixels, one after the other; of OHEM with a threshold of 0.7 and at least 5 kept."""
    weights = slow_weights(pixels, options.class_weights) if options.class_weights != "none" else [1.0] * len(pixels)
    shift = [options.logit_adjust * math.log(n / sum(pixels)) if n else 0.0 for n in pixels]
    rows = []
    for b, y, x in np.ndindex(*label.shape):
        number = int(label[b, y, x])
        if number != IGNORE:
            shifted = [float(value) + add for value, add in zip(logits[b, :, y, x], shift, strict=True)]
            largest = max(shifted)
            log_sum = largest + math.log(sum(math.exp(value - largest) for value in shifted))
            rows.append((log_sum - shifted[number], weights[number]))
    if options.kind == "ohem":
        chances = sorted(math.exp(-loss) for loss, _ in rows)
        limit = max(0.7, chances[min(5, len(chances)) - 1])
        rows = [(loss, weight) for loss, weight in rows if math.exp(-loss) <= limit]
    return sum(loss * weight for loss, weight in rows) / len(rows)


@pytest.mark.parametrize("changes", BY_CLASS, ids=str)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 10**6), min_size=4, max_size=4).filter(any))
def test_the_loss_is_the_slow_twins(changes, seed, pixels):
    logits, label = case(seed)
    options = LossOptions(**changes)
    found = supervised_loss(logits, label, options, class_pixels=torch.tensor(pixels))
    assert float(found) == pytest.approx(slow_loss(logits, label, options, pixels), rel=1e-4)


@pytest.mark.parametrize("kind", ["sqrt", "effective"])
@given(counts)
def test_weights_are_the_slow_twins_and_their_mean_over_labelled_pixels_is_1(kind, pixels):
    found = class_weights(torch.tensor(pixels), kind)
    np.testing.assert_allclose(found, slow_weights(pixels, kind), rtol=1e-4)
    total = sum(n * float(weight) for n, weight in zip(pixels, found, strict=True))
    assert total == pytest.approx(sum(pixels), rel=1e-4)
    shown = sorted((n, -float(weight)) for n, weight in zip(pixels, found, strict=True) if n)
    assert all(one[1] <= other[1] + 1e-4 for one, other in itertools.pairwise(shown)), "the rarer, the more"
    larger = class_weights(torch.tensor(pixels) * 1000, kind)
    np.testing.assert_allclose(found, larger, rtol=0.5 if min(filter(None, pixels)) < 10 else 0.1)


@pytest.mark.parametrize("changes", BY_CLASS[:2], ids=str)
def test_equally_common_classes_are_as_without_weights_to_the_bit(changes):
    pixels = torch.full((4,), 5000)
    for seed in range(5):
        logits, label = case(seed)
        logits.requires_grad_()
        plain = cross_entropy(logits, label)
        found = supervised_loss(logits, label, LossOptions(**changes), class_pixels=pixels)
        assert torch.equal(plain, found)
        assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (plain, found)))


def test_off_the_loss_is_as_it_was_to_the_bit():
    for kind in ("ce", "ohem"):
        options = LossOptions(kind=kind, ohem_min_kept=5)
        logits, label = case(3)
        counted = supervised_loss(logits, label, options, class_pixels=torch.tensor([9, 1, 0, 5]))
        assert torch.equal(supervised_loss(logits, label, options), counted)


@pytest.mark.parametrize("changes", BY_CLASS, ids=str)
def test_what_an_ignored_pixel_says_does_not_matter(changes):
    logits, label = case(1)
    other = torch.where((label == IGNORE)[:, None], -7 * logits, logits)
    for loss in (
        lambda x: supervised_loss(x, label, LossOptions(**changes), class_pixels=torch.tensor([90, 7, 3, 0])),
        lambda x: dice_loss(x, label),
    ):
        assert torch.equal(loss(logits), loss(other))
    nothing = torch.full_like(label, IGNORE)
    assert float(supervised_loss(logits, nothing, LossOptions(**changes), class_pixels=torch.ones(4))) == 0


def test_a_class_without_a_label_is_pushed_down_as_before():
    shift = log_shares(torch.tensor([999, 1, 0]))
    np.testing.assert_allclose(shift, [math.log(0.999), math.log(0.001), 0], rtol=1e-5)
    assert torch.isfinite(log_shares(torch.tensor([0, 0]))).all()


def test_logit_adjustment_makes_the_loss_smallest_at_balanced_posteriors():
    """With shares (9, 1) a pixel that is class 1 in one of ten cases is at balance: its best logits are equal."""
    logits = torch.zeros(1, 2, 1, 10, requires_grad=True)
    label = torch.tensor([[[0] * 9 + [1]]])
    loss = supervised_loss(logits, label, LossOptions(logit_adjust=1.0), class_pixels=torch.tensor([900, 100]))
    assert torch.autograd.grad(loss, logits)[0].sum(3).abs().max() < 1e-7


# ---- Dice ----


def slow_dice(logits, label):
    probability = logits.double().softmax(1).numpy()
    losses = []
    for image, mask in zip(probability, label.numpy(), strict=True):
        for number in range(logits.shape[1]):
            places = [place for place in np.ndindex(*mask.shape) if mask[place] != IGNORE]
            target = [float(mask[place] == number) for place in places]
            if sum(target):
                p = [image[(number, *place)] for place in places]
                overlap = sum(a * t for a, t in zip(p, target, strict=True))
                losses.append(1 - 2 * overlap / (sum(a * a for a in p) + sum(t * t for t in target)))
    return sum(losses) / len(losses) if losses else 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_dice_is_the_slow_twins(seed):
    logits, label = case(seed)
    assert float(dice_loss(logits, label)) == pytest.approx(slow_dice(logits, label), rel=1e-4)


def test_dice_of_a_perfect_prediction_is_0_and_without_a_label_too():
    _, label = case(0)
    perfect = 100.0 * torch.stack([label == number for number in range(4)], 1)
    assert float(dice_loss(perfect, label)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(-perfect, label)) > 0.9
    logits = torch.randn(2, 4, 3, 5, requires_grad=True)
    nothing = dice_loss(logits, torch.full_like(label, IGNORE))
    assert float(nothing) == 0
    assert torch.isfinite(torch.autograd.grad(nothing, logits)[0]).all()
