"""Every loss against plain loops and the golden numbers of the design; what is left out must not matter."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semiseg.config.options import LossOptions
from semiseg.parts.losses import (
    cross_entropy,
    kept_cross_entropy,
    kept_cross_entropy_sum,
    kept_divergence,
    ohem_cross_entropy,
    softmax_mse,
    softmax_squared_distance,
    supervised_loss,
    unlabeled_denominator,
)
from semiseg.types import IGNORE

seeds = st.integers(0, 10_000)
DENOMINATORS = ("all", "kept", "u2pl")

# Eq. 2 on six points: similarity of each class's best prototype; T = 0.1.
SIMILARITY = [
    (0.964763821, 0.774596669),
    (0.948730736, 0.861727484),
    (0.364768602, 0.934625939),
    (0.770674636, 1.0),
    (0.877058019, 0.774596669),
    (0.999086913, 0.796975912),
]
LABEL = [0, 0, 1, 1, 0, IGNORE]
CONFIDENCE = [0.95, 0.85, 0.9, 0.7, 0.81, 0.99]


def golden() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (6, 2), labels (6,), kept (6,) at tau = 0.8."""
    return torch.tensor(SIMILARITY) / 0.1, torch.tensor(LABEL), torch.tensor(CONFIDENCE) >= 0.8


def case(seed: int, classes: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (2, C, 3, 5), labels with some IGNORE, kept and valid; a kept pixel is valid."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 3, 5, generator=generator)
    label = torch.randint(0, classes, (2, 3, 5), generator=generator)
    label[torch.rand(2, 3, 5, generator=generator) < 0.2] = IGNORE
    valid = torch.rand(2, 3, 5, generator=generator) < 0.8
    return logits, label, valid & (torch.rand(2, 3, 5, generator=generator) < 0.5) & (label != IGNORE), valid


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def pixels(logits: Tensor) -> list[list[float]]:
    """(B, C, H, W) -> one list of C numbers per pixel."""
    return logits.movedim(1, -1).flatten(0, -2).tolist()


def losses_by_pixel(logits: Tensor, label: Tensor) -> list[float | None]:
    """-log of the true class's probability per pixel; None where there is no class."""
    rows = zip(pixels(logits), label.flatten().tolist(), strict=True)
    return [None if number == IGNORE else -math.log(softmax(row)[number]) for row, number in rows]


# ---- cross-entropy ----


def test_golden_cross_entropy_of_eq_6():
    logits, label, _ = golden()
    per_pixel = [0.139169437, 0.349908654, 0.003345141, 0.096162101, 0.306701427]
    for i, expected in enumerate(per_pixel):
        assert float(cross_entropy(logits[i : i + 1], label[i : i + 1])) == pytest.approx(expected, abs=1e-6)
    assert float(cross_entropy(logits, label)) == pytest.approx(0.179057352, abs=1e-6)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_cross_entropy_is_the_mean_over_labelled_pixels(seed):
    logits, label, *_ = case(seed)
    found = [loss for loss in losses_by_pixel(logits, label) if loss is not None]
    assert float(cross_entropy(logits, label)) == pytest.approx(sum(found) / len(found), rel=1e-5)
    flat = cross_entropy(logits.movedim(1, -1).flatten(0, 2), label.flatten())
    torch.testing.assert_close(flat, cross_entropy(logits, label))


# ---- hard examples ----


def of_probability(values: list[float]) -> Tensor:
    """Logits (N, 2) whose class 0 has these probabilities."""
    return torch.tensor([(math.log(p / (1 - p)), 0.0) for p in values])


@pytest.mark.parametrize(
    ("min_kept", "kept", "loss"),
    [(2, {2, 5}, 0.948560), (4, {1, 2, 4, 5}, 0.628327), (5, {0, 1, 2, 4, 5}, 0.523733)],
)
def test_golden_hard_examples(min_kept, kept, loss):
    logits = of_probability([0.9, 0.75, 0.3, 0.95, 0.72, 0.5]).requires_grad_()
    found = ohem_cross_entropy(logits, torch.zeros(6, dtype=torch.long), threshold=0.7, min_kept=min_kept)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    found.backward()
    assert set(logits.grad.abs().sum(1).nonzero()[:, 0].tolist()) == kept


@given(seeds, st.integers(1, 40), st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=60)
def test_hard_examples_equal_the_slow_twin(seed, min_kept, threshold):
    logits, label, *_ = case(seed)
    losses = sorted((loss for loss in losses_by_pixel(logits, label) if loss is not None), reverse=True)
    if len(losses) >= min_kept:
        limit = max(threshold, math.exp(-losses[min_kept - 1]))
        losses = [loss for loss in losses if math.exp(-loss) <= limit * (1 + 1e-6)]
    found = float(ohem_cross_entropy(logits, label, threshold, min_kept))
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_with_fewer_pixels_than_asked_for_all_are_hard():
    logits, label, *_ = case(0)
    torch.testing.assert_close(ohem_cross_entropy(logits, label, 0.01, 31), cross_entropy(logits, label))
    labelled = int((label != IGNORE).sum())
    torch.testing.assert_close(ohem_cross_entropy(logits, label, 0.01, labelled), cross_entropy(logits, label))


def test_the_options_name_the_supervised_loss():
    logits, label, *_ = case(0)
    assert supervised_loss(logits, label, LossOptions()) == cross_entropy(logits, label)
    options = LossOptions(kind="ohem", ohem_threshold=0.3, ohem_min_kept=4)
    assert supervised_loss(logits, label, options) == ohem_cross_entropy(logits, label, 0.3, 4)
    assert supervised_loss(logits, label, options) != cross_entropy(logits, label)


# ---- pseudo-labels ----


@pytest.mark.parametrize(
    ("denominator", "valid", "loss"),
    [
        ("all", [True] * 6, 0.133187443),
        ("all", [True] * 5 + [False], 0.159824932),
        ("kept", [True] * 6, 0.199781165),
        ("u2pl", [True] * 6, 0.299672),
    ],
)
def test_golden_loss_of_eq_10(denominator, valid, loss):
    logits, label, kept = golden()
    kept = kept & (label != IGNORE)
    assert kept.tolist() == [True, True, True, False, True, False]
    assert float(kept_cross_entropy_sum(logits, label, kept)) == pytest.approx(0.79912466, abs=1e-5)
    found = kept_cross_entropy(logits, label, kept, torch.tensor(valid), denominator)
    assert float(found) == pytest.approx(loss, abs=1e-6)


@given(seeds, st.sampled_from(DENOMINATORS))
@settings(deadline=None, max_examples=60)
def test_kept_cross_entropy_equals_the_slow_twin(seed, denominator):
    logits, label, kept, valid = case(seed)
    triples = zip(losses_by_pixel(logits, label), kept.flatten().tolist(), strict=True)
    losses = [loss for loss, chosen in triples if chosen]
    n_valid = sum(valid.flatten().tolist())
    if denominator == "all":
        expected = sum(losses) / n_valid
    elif denominator == "kept":
        expected = sum(losses) / max(len(losses), 1)
    else:
        expected = n_valid / len(losses) * (sum(losses) / len(losses)) if losses else 0.0
    assert float(kept_cross_entropy(logits, label, kept, valid, denominator)) == pytest.approx(expected, rel=1e-5)


def test_labels_may_be_bytes():
    logits, label, kept, _ = case(0)
    expected = kept_cross_entropy_sum(logits, label, kept)
    assert kept_cross_entropy_sum(logits, label.byte(), kept).equal(expected)


def test_denominators_in_numbers():
    kept = torch.tensor([True, True, False, False, False, False])
    valid = torch.tensor([True, True, True, True, True, False])
    assert [float(unlabeled_denominator(kept, valid, name)) for name in DENOMINATORS] == pytest.approx([5, 2, 4 / 5])
    with pytest.raises(AssertionError, match="mean"):
        unlabeled_denominator(kept, valid, "mean")


# ---- distances of distributions ----


@given(seeds, st.booleans())
@settings(deadline=None, max_examples=30)
def test_squared_distances_equal_the_slow_twin(seed, weighted):
    logits, _, _, valid = case(seed)
    target = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed)).softmax(1)
    weight = torch.rand(2, 3, 5) * valid if weighted else valid
    total = 0.0
    for row, goal, share in zip(pixels(logits), pixels(target), weight.flatten().tolist(), strict=True):
        total += share * sum((p - q) ** 2 for p, q in zip(softmax(row), goal, strict=True))
    expected = total / sum(weight.flatten().tolist())
    assert float(softmax_squared_distance(logits, target, weight)) == pytest.approx(expected, rel=1e-4)
    assert float(softmax_mse(logits, target, weight)) == pytest.approx(expected / 4, rel=1e-4)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_divergence_equals_the_slow_twin(seed):
    logits, _, kept, valid = case(seed)
    target = case(seed + 1)[0].softmax(1)
    target[0, 0] = 0.0  # a class that is impossible takes no part
    total = 0.0
    for b, y, x in np.argwhere(kept.numpy()):
        p = softmax(logits[b, :, y, x].tolist())
        total += sum(q * math.log(q / p[c]) for c, q in enumerate(target[b, :, y, x].tolist()) if q > 0)
    expected = total / max(int(valid.sum()), 1)
    assert float(kept_divergence(logits, target, kept, valid)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_scaling_all_weights_leaves_a_distance():
    logits, _, _, valid = case(0)
    target = torch.full((2, 4, 3, 5), 0.25)
    found = [softmax_squared_distance(logits, target, factor * valid.float()) for factor in (1, 7)]
    torch.testing.assert_close(*found)


# ---- what every loss promises ----


def nowhere(mask: Tensor) -> Tensor:
    return torch.zeros_like(mask, dtype=torch.bool)


def every_loss(logits: Tensor, label: Tensor, kept: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """All losses with `label` for the supervised ones, `kept` for those of pseudo-labels, `valid` for distances."""
    target = torch.linspace(0, 1, logits[0].numel()).view_as(logits[0]).softmax(0).expand_as(logits)
    return {
        "cross_entropy": cross_entropy(logits, label),
        "ohem": ohem_cross_entropy(logits, label, 0.7, 5),
        "kept_sum": kept_cross_entropy_sum(logits, label, kept),
        **{name: kept_cross_entropy(logits, label, kept, valid, name) for name in DENOMINATORS},
        "mse": softmax_mse(logits, target, valid),
        "distance": softmax_squared_distance(logits, target, valid),
        "divergence": kept_divergence(logits, target, kept, valid),
        "distance_float": softmax_squared_distance(logits, target, valid.float()),
    }


@pytest.mark.parametrize("name", every_loss(*case(0)))
def test_an_empty_mask_gives_0_and_no_gradient(name):
    logits, label, kept, valid = case(0)
    logits.requires_grad_()
    loss = every_loss(logits, torch.full_like(label, IGNORE), nowhere(kept), nowhere(valid))[name]
    loss.backward()
    assert loss == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("name", DENOMINATORS)
def test_no_kept_pixel_among_valid_ones_gives_0_and_no_gradient(name):
    logits, label, kept, valid = case(0)
    logits.requires_grad_()
    loss = kept_cross_entropy(logits, label, nowhere(kept), valid, name)
    loss.backward()
    assert loss == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("name", every_loss(*case(0)))
def test_logits_of_pixels_left_out_do_not_matter(name):
    logits, label, kept, valid = case(0)
    used = {"cross_entropy": label != IGNORE, "ohem": label != IGNORE}.get(name)
    if used is None:
        used = valid if name in ("mse", "distance", "distance_float") else kept
    wild = torch.where(used[:, None], logits, 50 * torch.randn_like(logits)).requires_grad_()
    loss = every_loss(wild, label, kept, valid)[name]
    torch.testing.assert_close(loss, every_loss(logits, label, kept, valid)[name])
    loss.backward()
    assert wild.grad.movedim(1, -1)[~used].eq(0).all()
    assert wild.grad.movedim(1, -1)[used].any()


@pytest.mark.parametrize("name", every_loss(*case(0)))
def test_losses_compute_in_float32(name):
    logits, *masks = case(0)
    logits = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = every_loss(logits, *masks)[name]
    assert loss.dtype == torch.float32
    assert loss == every_loss(logits.float(), *masks)[name]


@pytest.mark.parametrize("name", every_loss(*case(0)))
def test_the_order_of_images_does_not_matter(name):
    together = case(0)
    logits, label, kept, valid = (tensor.flip(0) for tensor in together)
    torch.testing.assert_close(every_loss(logits, label, kept, valid)[name], every_loss(*together)[name])


def test_the_gradient_is_softmax_minus_one_hot_on_kept_pixels():
    logits, label, kept, valid = case(1)
    logits = logits.double().requires_grad_()
    loss = every_loss(logits, label, kept, valid)["kept"]
    loss.backward()
    softmaxes = logits.detach().softmax(1)
    one_hot = torch.nn.functional.one_hot(label.where(kept, 0), 4).movedim(-1, 1)
    expected = (softmaxes - one_hot) * kept[:, None] / kept.sum()
    np.testing.assert_allclose(logits.grad, expected, atol=1e-6)
