"""The prototype predictor against the golden numbers of the design, and against plain loops."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

import semiseg.prototypes
from semiseg.losses import cross_entropy, kept_cross_entropy
from semiseg.prototypes import Assigned, PrototypePredictor
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


def predictor(prototypes: Tensor | list, temperature: float = 0.1) -> PrototypePredictor:
    """A predictor that has started with these (C, K, D)."""
    values = torch.as_tensor(prototypes)
    made = PrototypePredictor(*values.shape, temperature)
    made.prototypes.copy_(values)
    made.ready.fill_(True)
    return made


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


@given(st.floats(0.01, 100), st.floats(0.01, 100))
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
    assert torch.allclose(head.prototypes[0, 0], other.prototypes[0, 0]) == (abs(of_feature - 1) < 1e-3)
    assert torch.allclose(head.prototypes[1, 0], other.prototypes[1, 0]) == (abs(of_prototype - 1) < 1e-4)


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


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
@settings(deadline=None, max_examples=40)
def test_updates_equal_the_slow_twins(seed, momentum):
    head, features, label, kept = random_case(seed)
    expected = {rule: head.prototypes.double().numpy().copy() for rule in UPDATED}
    for place, assigned in slow_assignment(head, features, label, kept).items():
        mean = sum(assigned) / len(assigned)
        expected["mean"][place] = momentum * expected["mean"][place] + (1 - momentum) * mean
        for _ in assigned:  # the paper's rule, pixel by pixel, with the mean for every pixel so that order is nothing
            expected["per_pixel"][place] = momentum * expected["per_pixel"][place] + (1 - momentum) * mean
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
    torch.testing.assert_close(parts[0].plus(parts[1]), whole)
    assert parts[0].plus(None) is parts[0]


def test_processes_pool_what_they_assigned(monkeypatch):
    head, features, label, kept = random_case(4)
    alone = copy.deepcopy(head)
    alone.update(assign(head, features, label, kept), 0.9, "per_pixel")
    mine, theirs = (assign(head, features[part], label[part], kept[part]) for part in (slice(0, 9), slice(9, 20)))
    remote = iter(theirs)
    monkeypatch.setattr(semiseg.prototypes, "sum_over_ranks", lambda tensor: tensor + next(remote))
    head.update(mine, 0.9, "per_pixel")
    torch.testing.assert_close(head.state_dict(), alone.state_dict())


# ---- a class that was absent at the start ----


def started(per_class: int = 2, label: Tensor | None = None) -> PrototypePredictor:
    """Three classes of which the last has no pixel."""
    features = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    head = PrototypePredictor(3, per_class, 4)
    head.start(features, torch.arange(40) % 2 if label is None else label, seed=0)
    return head


def test_a_class_without_a_place_is_silent():
    head = started()
    assert head.ready.all(1).tolist() == [True, True, False]
    features = torch.rand(10, 4)
    assert (head(features)[:, 2] == -10).all()
    assert (head.dense_logits(features.T.view(1, 4, 2, 5), (4, 9))[:, 2] == -10).all()
    assert head(features)[:, :2].min() > 0


def test_the_first_pixels_of_a_class_give_its_prototypes_their_places():
    head = started()
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(50, 4, generator=generator)
    label = torch.full((50,), 2)
    groups = slow_assignment(head, features, label, label == 2)
    assert set(groups) == {(2, 0), (2, 1)}
    before = head.prototypes.clone()
    head.update(assign(head, features, label, label == 2), 0.99)
    for place, assigned in groups.items():
        np.testing.assert_allclose(head.prototypes[place].numpy(), sum(assigned) / len(assigned), atol=1e-5)
    assert head.ready.all()
    assert head.prototypes[:2].equal(before[:2])


def test_one_pixel_gives_one_place():
    head = started()
    feature = torch.rand(1, 4)
    head.update(assign(head, feature, torch.tensor([2]), torch.tensor([True])), 0.99)
    assert head.ready[2].sum() == 1
    torch.testing.assert_close(head.prototypes[2][head.ready[2]], feature)
    assert float(head(feature)[0, 2]) == pytest.approx(10, abs=1e-4)


# ---- the K-means start ----


def clusters(centers: np.ndarray, each: int, seed: int) -> Tensor:
    noise = np.random.default_rng(seed).normal(0, 0.01, (len(centers), each, centers.shape[1]))
    return torch.from_numpy(centers[:, None] + noise).flatten(0, 1).float()


def test_centroids_are_the_means_of_separable_clusters():
    generator = np.random.default_rng(0)
    centers = generator.uniform(0, 1, (2, 4, 6))
    features = torch.cat([clusters(centers[0], 30, 1), clusters(centers[1], 50, 2)])
    label = torch.arange(2).repeat_interleave(torch.tensor([120, 200]))
    order = torch.randperm(320, generator=torch.Generator().manual_seed(0))
    head = PrototypePredictor(2, 4, 6)
    head.start(features[order], label[order], seed=0)
    assert head.ready.all()
    for number, each in enumerate((30, 50)):
        own = features[label == number].view(4, each, 6)
        apart = torch.cdist(head.prototypes[number], own.mean(1))
        assert sorted(apart.argmin(1).tolist()) == [0, 1, 2, 3]
        assert apart.amin(1).max() < 1e-5


def test_the_start_is_kmeans_within_each_class():
    generator = torch.Generator().manual_seed(0)
    features, label = torch.rand(200, 5, generator=generator), torch.randint(0, 3, (200,), generator=generator)
    label[::10] = IGNORE
    head = PrototypePredictor(3, 4, 5)
    head.start(features, label, seed=7)
    for number in range(3):
        own = features[label == number].numpy()
        expected = KMeans(4, n_init=10, max_iter=100, random_state=7).fit(own).cluster_centers_
        np.testing.assert_allclose(head.prototypes[number].numpy(), expected, atol=1e-5)


def test_the_start_repeats_with_its_seed():
    first, second = started(), started()
    assert first.prototypes.equal(second.prototypes)


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_pixels_than_prototypes_are_repeated_with_jitter(distinct):
    pixels = torch.rand(distinct, 4, generator=torch.Generator().manual_seed(distinct))
    for features in (pixels, pixels.repeat(5, 1)):
        head = PrototypePredictor(1, 4, 4)
        head.start(features, torch.zeros(len(features), dtype=torch.long), seed=0)
        apart = torch.cdist(head.prototypes[0], pixels)
        assert apart.amin(0).max() < 1e-6  # every pixel has a prototype
        assert apart.amin(1).max() < 0.1  # every prototype is near a pixel
        assert len(head.prototypes[0].unique(dim=0)) == 4
        assert head.ready.all()


def test_no_pixel_at_all_leaves_every_class_silent():
    head = PrototypePredictor(2, 3, 4)
    head.start(torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), seed=0)
    assert not head.ready.any()
    assert head.prototypes.isfinite().all()
    assert (head(torch.rand(5, 4)) == -10).all()


# ---- health ----


def spread(per_class: int = 3) -> PrototypePredictor:
    """Three classes whose prototypes are far apart and equally used."""
    head = predictor(torch.eye(9)[:, :].view(3, 3, 9)[:, :per_class])
    head.usage.fill_(1 / per_class)
    return head


NAMES = ("ground", "tree", "bird")


def test_healthy_prototypes_give_no_warning():
    assert spread().health().warnings(NAMES) == []
    assert spread(1).health().warnings(NAMES) == []
    assert started().health().warnings(NAMES) == []


def test_identical_prototypes_are_named_by_class():
    head = spread()
    head.prototypes[1, 2] = 3 * head.prototypes[1, 0]
    (warning,) = head.health().warnings(NAMES)
    assert "'tree'" in warning
    assert "identical" in warning


def test_dead_prototypes_are_named_by_class():
    head = spread()
    head.usage[2] = torch.tensor([1.0, 0.0, 0.0])
    (warning,) = head.health().warnings(NAMES)
    assert warning.startswith("2 of 3 prototypes of class 'bird' are dead")


def test_distances_are_over_the_pairs_that_have_a_place():
    head = spread()
    head.prototypes[0] = torch.tensor([[1.0, 0, 0], [1.0, 1.0, 0], [0, 0, 2.0]]) @ torch.eye(9)[:3]
    head.prototypes[1] = 1.0
    head.ready[1, 1:] = False
    found = head.health()
    near = 1 - 1 / math.sqrt(2)
    np.testing.assert_allclose(found.distance, [(near + 1 + 1) / 3, math.nan, 1], atol=1e-6)
    np.testing.assert_allclose(found.closest, [near, math.nan, 1], atol=1e-6)
    assert np.isnan(spread(1).health().closest).all()


def test_usage_is_a_running_share_of_each_class():
    head = PrototypePredictor(2, 2, 3)
    sums = torch.zeros(2, 2, 3)
    head.update(Assigned(sums, torch.tensor([[3.0, 1.0], [0.0, 0.0]])), 0.99)
    np.testing.assert_allclose(head.health().usage, [[0.75, 0.25], [0, 0]])
    head.update(Assigned(sums, torch.tensor([[0.0, 5.0], [2.0, 2.0]])), 0.99)
    np.testing.assert_allclose(head.health().usage, [[0.7425, 0.2575], [0.5, 0.5]], rtol=1e-6)
    head.update(Assigned(sums, torch.zeros(2, 2)), 0.99)
    np.testing.assert_allclose(head.health().usage, [[0.7425, 0.2575], [0.5, 0.5]], rtol=1e-6)


def test_everything_a_predictor_knows_is_in_its_state():
    head, features, label, kept = golden()
    head.update(assign(head, features, label, kept), 0.9)
    other = PrototypePredictor(2, 2, 3)
    other.load_state_dict(head.state_dict())
    assert other(features).equal(head(features))
    assert other.health().usage.tolist() == head.health().usage.tolist()
