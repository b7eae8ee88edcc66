"""The prototype predictor against the golden numbers of the design, and against plain loops."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import started_predictor as predictor
from torch import Tensor
from torch.nn import functional as F

import semiseg.parts.prototype_predictor
from semiseg.parts.losses import cross_entropy, kept_cross_entropy
from semiseg.parts.prototype_predictor import Assigned, PrototypePredictor
from semiseg.types import IGNORE

# Two classes, two prototypes each, three channels, T = 0.1; computed in float64 from the paper's formulas.
PROTOTYPES = [[[1.0, 0.2, 0.0], [0.3, 1.0, 0.1]], [[0.0, 0.1, 2.0], [0.5, 0.5, 0.5]]]
FEATURES = [[2.0, 1.0, 0.0], [0.2, 0.9, 0.4], [0.3, 0.1, 0.8], [0.6, 0.6, 0.6], [1.0, 0.0, 0.5], [0.5, 1.5, 0.2]]
LABEL = [0, 0, 1, 1, 0, IGNORE]
CONFIDENCE = [0.95, 0.85, 0.9, 0.7, 0.81, 0.99]
SIMILARITY = [
    [[0.964763821, 0.682242292], [0.022332781, 0.774596669]],
    [[0.370771411, 0.948730736], [0.442239096, 0.861727484]],
    [[0.364768602, 0.299261992], [0.934625939, 0.805387266]],
    [[0.67936622, 0.770674636], [0.605461428, 1.0]],
    [[0.877058019, 0.298481003], [0.446655624, 0.774596669]],
    [[0.49221683, 0.999086913], [0.172335062, 0.796975912]],
]
POSTERIOR = [
    [0.870080592, 0.129919408],
    [0.704752463, 0.295247537],
    [0.003339552, 0.996660448],
    [0.091683235, 0.908316765],
    [0.735870279, 0.264129721],
    [0.882995738, 0.117004262],
]
NEAREST = [[0, 1], [1, 1], [0, 0], [1, 1], [0, 1], [1, 1]]
GRADIENT = [
    [-0.033864552, 0.067729105, 0.083862617],
    [0.226671968, -0.219013218, 0.379443756],
    [0.011445691, 0.002061646, -0.00454984],
    [0.0, 0.0, 0.0],
    [-0.184026546, 0.225161459, 0.368053092],
    [0.0, 0.0, 0.0],
]
UPDATED = {
    "mean": [[[1.005, 0.203, 0.0025], [0.299, 0.999, 0.103]], [[0.003, 0.1, 1.988], [0.5, 0.5, 0.5]]],
    "per_pixel": [[[1.00995, 0.20597, 0.004975], [0.299, 0.999, 0.103]], [[0.003, 0.1, 1.988], [0.5, 0.5, 0.5]]],
}


def golden() -> tuple[PrototypePredictor, Tensor, Tensor, Tensor]:
    """The predictor, features (6, 3), labels (6,), kept (6,)."""
    return predictor(PROTOTYPES), torch.tensor(FEATURES), torch.tensor(LABEL), torch.tensor(CONFIDENCE) >= 0.8


def assign(head: PrototypePredictor, features: Tensor, label: Tensor, kept: Tensor) -> Assigned:
    return head.assign(features, head.similarity(features), label, kept)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / math.sqrt((left @ left) * (right @ right)))


# ---- Eq. 2 ----


def test_golden_similarity_and_posterior():
    head, features, *_ = golden()
    torch.testing.assert_close(head.similarity(features), torch.tensor(SIMILARITY), atol=1e-6, rtol=0)
    torch.testing.assert_close(head(features).softmax(-1), torch.tensor(POSTERIOR), atol=1e-6, rtol=0)
    assert head.similarity(features).argmax(-1).tolist() == NEAREST


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_the_nearest_prototype_speaks_for_its_class(seed):
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(3, 4, 5, generator=generator)
    features = torch.randn(6, 5, generator=generator)
    found = predictor(prototypes, temperature=0.25)(features)
    for n, c in np.ndindex(6, 3):
        best = max(cosine(features[n].numpy(), prototypes[c, k].numpy()) for k in range(4))
        assert float(found[n, c]) == pytest.approx(best / 0.25, abs=1e-4)


factors = st.just(1.0) | st.floats(0.01, 0.98) | st.floats(1.02, 100)


@given(factors, factors)
@settings(deadline=None, max_examples=30)
def test_lengths_do_not_matter_to_eq_2_but_to_eq_11(of_feature, of_prototype):
    head, features, label, kept = golden()
    scaled = features.clone()
    scaled[0] *= of_feature
    other = golden()[0]
    other.prototypes[1, 0] *= of_prototype
    torch.testing.assert_close(other(scaled), head(features), atol=1e-5, rtol=0)
    torch.testing.assert_close(assign(other, scaled, label, kept).counts, assign(head, features, label, kept).counts)
    head.update(assign(head, features, label, kept), 0.99)
    other.update(assign(other, scaled, label, kept), 0.99)
    assert torch.allclose(head.prototypes[0, 0], other.prototypes[0, 0]) == (of_feature == 1)
    assert torch.allclose(head.prototypes[1, 0], other.prototypes[1, 0]) == (of_prototype == 1)


def test_prototypes_compute_in_float32_under_autocast():
    head, features, label, kept = golden()
    features = features.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        similarity, logits = head.similarity(features), head(features)
        assigned = head.assign(features, similarity, label, kept)
        dense = head.dense_logits(features.T.view(1, 3, 2, 3), (2, 3))
    assert {tensor.dtype for tensor in (similarity, logits, dense, *assigned)} == {torch.float32}
    assert similarity.equal(head.similarity(features.float()))
    torch.testing.assert_close(dense.flatten(2)[0].T, logits, atol=1e-5, rtol=0)


# ---- gradients of Eq. 6 and 10 ----


def test_golden_loss_and_gradient_of_eq_10():
    head, features, label, kept = golden()
    features.requires_grad_()
    loss = kept_cross_entropy(head(features), label, kept & (label != IGNORE), torch.ones(6), "kept")
    loss.backward()
    assert loss.item() == pytest.approx(0.199781165, abs=1e-6)
    torch.testing.assert_close(features.grad, torch.tensor(GRADIENT), atol=1e-6, rtol=0)
    assert (features.grad * features.detach()).sum(1).abs().max() < 1e-6


def test_golden_loss_of_eq_6_and_its_gradient_by_finite_differences():
    head, features, label, _ = golden()
    features.requires_grad_()
    loss = cross_entropy(head(features), label)
    loss.backward()
    assert loss.item() == pytest.approx(0.179057352, abs=1e-6)
    step = 1e-2
    for n, d in np.ndindex(6, 3):
        shifted = [features.detach().clone() for _ in range(2)]
        shifted[0][n, d] += step
        shifted[1][n, d] -= step
        above, below = (float(cross_entropy(head(moved), label)) for moved in shifted)
        assert float(features.grad[n, d]) == pytest.approx((above - below) / (2 * step), abs=2e-3)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_gradients_are_orthogonal_to_their_features_and_none_reaches_the_prototypes(seed):
    generator = torch.Generator().manual_seed(seed)
    head = predictor(torch.rand(3, 2, 5, generator=generator))
    features = (torch.rand(8, 5, generator=generator) + 0.1).requires_grad_()
    cross_entropy(head(features), torch.arange(8) % 3).backward()
    assert (features.grad * features.detach()).sum(1).abs().max() < 1e-5
    assert features.grad.abs().sum(1).min() > 0
    assert not head.prototypes.requires_grad
    assert not list(head.parameters())


# ---- every pixel of a map ----


@pytest.mark.parametrize(
    ("small", "large"),
    [((5, 7), (17, 23)), ((4, 4), (13, 8)), ((3, 5), (3, 5)), ((6, 1), (9, 4))],
)
def test_dense_logits_equal_upsampling_the_features_first(small, large):
    generator = torch.Generator().manual_seed(0)
    head = predictor(torch.randn(3, 2, 40, generator=generator))
    head.ready[1, 0] = False
    features = torch.randn(2, 40, *small, generator=generator)
    upsampled = F.interpolate(features, size=large, mode="bilinear", align_corners=True)
    expected = head(upsampled.movedim(1, -1).flatten(0, 2)).view(2, *large, 3).movedim(-1, 1)
    torch.testing.assert_close(head.dense_logits(features, large), expected, atol=1e-5, rtol=0)


# ---- Eq. 11 ----


def test_golden_assignment():
    head, features, label, kept = golden()
    sums, counts = assign(head, features, label, kept)
    assert counts.tolist() == [[2, 1], [1, 0]]
    expected = [[[3.0, 1.0, 0.5], FEATURES[1]], [FEATURES[2], [0.0, 0.0, 0.0]]]
    torch.testing.assert_close(sums, torch.tensor(expected))


@pytest.mark.parametrize("rule", UPDATED)
def test_golden_update(rule):
    head, features, label, kept = golden()
    head.update(assign(head, features, label, kept), 0.99, rule)
    torch.testing.assert_close(head.prototypes, torch.tensor(UPDATED[rule]), atol=1e-6, rtol=0)


def slow_assignment(head: PrototypePredictor, features: Tensor, label: Tensor, kept: Tensor) -> dict:
    """(class, prototype) -> its features, in order."""
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for feature, number, keep in zip(features.double().numpy(), label.tolist(), kept.tolist(), strict=True):
        if keep and number != IGNORE:
            cosines = [cosine(feature, prototype) for prototype in head.prototypes[number].double().numpy()]
            found.setdefault((number, cosines.index(max(cosines))), []).append(feature)
    return found


def random_case(seed: int) -> tuple[PrototypePredictor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    head = predictor(torch.randn(3, 2, 4, generator=generator))
    features = torch.randn(20, 4, generator=generator)
    label = torch.tensor([0, 1, 2, IGNORE])[torch.randint(0, 4, (20,), generator=generator)]
    return head, features, label, torch.rand(20, generator=generator) < 0.6


MOST = 5  # pixels of one prototype whose every order is tried


def mean_over_orders(prototype: np.ndarray, pixels: list[np.ndarray], momentum: float) -> np.ndarray:
    """Eq. 11 as the paper writes it, one pixel after the other, averaged over all orders of the pixels."""
    ends = []
    for order in itertools.permutations(pixels):
        moved = prototype
        for pixel in order:
            moved = momentum * moved + (1 - momentum) * pixel
        ends.append(moved)
    return sum(ends) / len(ends)


def at_most(head: PrototypePredictor, features: Tensor, label: Tensor, kept: Tensor) -> Tensor:
    """`kept` with no prototype getting more than MOST pixels."""
    seen: dict[tuple[int, int], int] = {}
    kept = kept.clone()
    for n in range(len(kept)):
        for place in slow_assignment(head, features[n : n + 1], label[n : n + 1], kept[n : n + 1]):
            seen[place] = seen.get(place, 0) + 1
            kept[n] = seen[place] <= MOST
    return kept


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
@settings(deadline=None, max_examples=40)
def test_updates_equal_the_slow_twins(seed, momentum):
    head, features, label, kept = random_case(seed)
    kept = at_most(head, features, label, kept)
    expected = {rule: head.prototypes.double().numpy().copy() for rule in UPDATED}
    for place, assigned in slow_assignment(head, features, label, kept).items():
        mean = sum(assigned) / len(assigned)
        expected["mean"][place] = momentum * expected["mean"][place] + (1 - momentum) * mean
        expected["per_pixel"][place] = mean_over_orders(expected["per_pixel"][place], assigned, momentum)
    for rule, prototypes in expected.items():
        moved = copy.deepcopy(head)
        moved.update(assign(moved, features, label, kept), momentum, rule)
        np.testing.assert_allclose(moved.prototypes.numpy(), prototypes, atol=1e-5)


def test_an_update_that_keeps_nothing_changes_nothing():
    head, features, label, kept = golden()
    before = copy.deepcopy(head.state_dict())
    head.update(assign(head, features, label, torch.zeros_like(kept)), 0.99)
    head.update(assign(head, features, torch.full_like(label, IGNORE), kept), 0.99, "per_pixel")
    assert all(tensor.equal(before[name]) for name, tensor in head.state_dict().items())


def test_two_batches_are_pooled_before_the_mean():
    head, features, label, kept = random_case(3)
    parts = [assign(head, features[part], label[part], kept[part]) for part in (slice(0, 7), slice(7, 20))]
    whole = assign(head, features, label, kept)
    torch.testing.assert_close(Assigned(*(first + second for first, second in zip(*parts, strict=True))), whole)


def test_processes_pool_what_they_assigned(monkeypatch):
    head, features, label, kept = random_case(4)
    alone = copy.deepcopy(head)
    alone.update(assign(head, features, label, kept), 0.9, "per_pixel")
    mine, theirs = (assign(head, features[part], label[part], kept[part]) for part in (slice(0, 9), slice(9, 20)))
    remote = iter(theirs)
    monkeypatch.setattr(semiseg.parts.prototype_predictor, "sum_over_ranks_", lambda tensor: tensor + next(remote))
    head.update(mine, 0.9, "per_pixel")
    torch.testing.assert_close(head.state_dict(), alone.state_dict())
