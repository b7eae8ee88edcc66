"""Where prototypes start, what becomes of a class that was absent then, and how their health is told."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from support.tiny import started_predictor as predictor
from torch import Tensor

from semiseg.parts.prototype_predictor import Assigned, PrototypePredictor
from semiseg.types import IGNORE


def assign(head: PrototypePredictor, features: Tensor, label: Tensor) -> Assigned:
    return head.assign(features, head.similarity(features), label, torch.ones_like(label, dtype=torch.bool))


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
    before = head.prototypes.clone()
    nearest = torch.nn.functional.cosine_similarity(features[:, None], before[2], dim=-1).argmax(1)
    assert set(nearest.tolist()) == {0, 1}
    head.update(assign(head, features, label), 0.99)
    for k in range(2):
        torch.testing.assert_close(head.prototypes[2, k], features[nearest == k].mean(0))
    assert head.ready.all()
    assert head.prototypes[:2].equal(before[:2])


def test_one_pixel_gives_one_place():
    head = started()
    feature = torch.rand(1, 4)
    head.update(assign(head, feature, torch.tensor([2])), 0.99)
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
    head = predictor(torch.eye(9).view(3, 3, 9)[:, :per_class])
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


def seen(head: PrototypePredictor, steps: int, shares: list[float], rule: str = "none") -> PrototypePredictor:
    """After steps in which 60 pixels of the third class went to its prototypes in these shares."""
    counts = torch.zeros(3, 3)
    counts[2] = 60 * torch.tensor(shares)
    for _ in range(steps):
        head.update(Assigned(torch.zeros(3, 3, 9), counts), 0.99, rule)
    return head


def test_dead_prototypes_are_named_by_class():
    (warning,) = seen(spread(), 300, [1.0, 0.0, 0.0]).health().warnings(NAMES)
    assert warning.startswith("2 of 3 prototypes of class 'bird' are dead")


def test_a_rare_prototype_is_not_dead():
    assert seen(spread(), 300, [0.9, 0.05, 0.05]).health().warnings(NAMES) == []


def test_no_prototype_is_called_dead_before_its_class_was_seen_often():
    fresh = spread()
    fresh.usage.zero_()
    assert seen(fresh, 99, [1.0, 0.0, 0.0]).health().warnings(NAMES) == []
    assert seen(fresh, 1, [1.0, 0.0, 0.0]).health().warnings(NAMES) != []


def test_fixed_prototypes_have_a_usage_too():
    head = spread()
    before = head.prototypes.clone()
    seen(head, 1000, [0.5, 0.5, 0.0])
    assert head.prototypes.equal(before)
    np.testing.assert_allclose(head.health().usage[2], [0.5, 0.5, 0.0], atol=1e-4)


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
    head, features = started(), torch.rand(6, 4)
    head.update(assign(head, features, torch.tensor([0, 1, 0, 1, 1, IGNORE])), 0.9)
    other = PrototypePredictor(3, 2, 4)
    other.load_state_dict(head.state_dict())
    assert other(features).equal(head(features))
    assert other.health().usage.tolist() == head.health().usage.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_start_nothing(value):
    head, features = PrototypePredictor(3, 2, 4), torch.rand(6, 4)
    features[4, 1] = value
    with pytest.raises(ValueError, match=r"features of labelled pixels are not finite \(classes 2\).*--optim\.lr"):
        head.start(features, torch.tensor([0, 0, 1, 1, 2, 2]), seed=0)
    assert not head.ready.any()
