"""Table 5's traces: golden numbers, a twin that holds everything at once, and what must not change them."""

import numpy as np
import pytest

from semiseg.analysis.moments import Moments, traces

GOLDEN = np.array([[2, 1, 0], [0.2, 0.9, 0.4], [0.3, 0.1, 0.8], [0.6, 0.6, 0.6], [1, 0, 0.5]])
GOLDEN_LABEL = np.array([0, 0, 1, 1, 0])


def slow_traces(features, label, weights):
    """The formula, one class after the other; `weights` by class."""
    classes = np.unique(label)
    whole = sum(weights[c] for c in classes)
    means = {c: features[label == c].mean(0) for c in classes}
    middle = sum(weights[c] / whole * means[c] for c in classes)
    intra = inter = 0.0
    for c in classes:
        own = features[label == c]
        intra += weights[c] / whole * sum(((x - means[c]) ** 2).sum() for x in own) / len(own)
        inter += weights[c] / whole * ((means[c] - middle) ** 2).sum()
    return intra, inter


def streamed(features, label, num_classes, cuts=()):
    total = Moments.empty(num_classes, features.shape[1])
    for part, own in zip(np.split(features, cuts), np.split(label, cuts), strict=True):
        total += Moments.of(part, own, num_classes)
    return total


def example(seed=0, count=200, far=0.0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, count)
    label[label == 2] = 3  # class 2 is absent
    return rng.normal(far, 1 + label[:, None], (count, 6)) + label[:, None], label


def both(moments):
    by_pixels = traces(moments, moments.count)
    alike = traces(moments, np.ones(len(moments.count)))
    return np.array([by_pixels.intra, by_pixels.inter, by_pixels.ratio, alike.intra, alike.inter, alike.ratio])


@pytest.mark.parametrize("cuts", [(), (1,), (2, 2, 4)])
def test_golden_numbers(cuts):
    found = both(streamed(GOLDEN, GOLDEN_LABEL, 2, cuts))
    assert found == pytest.approx([0.512667, 0.148933, 0.290507, 0.443056, 0.155139, 0.350157], abs=1e-6)
    assert traces(streamed(GOLDEN, GOLDEN_LABEL, 2, cuts), np.array([3, 2])).to_dict()["total"] == pytest.approx(0.6616)


@pytest.mark.parametrize("cuts", [(), (50, 51, 120), tuple(range(1, 200))])
@pytest.mark.parametrize("weights", [None, (1, 1, 1, 1), (5.0, 0.5, 7.0, 2.0)])
def test_a_stream_gives_what_all_at_once_give(cuts, weights):
    features, label = example()
    weights = np.bincount(label, minlength=4) if weights is None else np.array(weights)
    found = traces(streamed(features, label, 4, cuts), weights)
    assert (found.intra, found.inter) == pytest.approx(slow_traces(features, label, weights), rel=1e-12)


def test_within_and_between_add_up_to_the_total_variance():
    features, label = example(1)
    found = traces(streamed(features, label, 4), np.bincount(label, minlength=4)).to_dict()
    assert found["total"] == pytest.approx(features.var(0).sum(), rel=1e-12)


def test_order_rotation_and_place_do_not_matter():
    features, label = example(2)
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    order = rng.permutation(len(label))
    expected = both(streamed(features, label, 4, (70,)))
    for changed, own in ((features[order], label[order]), (features @ rotation, label), (features + 1e6, label)):
        assert both(streamed(changed, own, 4, (70,))) == pytest.approx(expected, rel=1e-8)


def test_longer_features_change_the_traces_and_not_their_ratio():
    features, label = example(4)
    expected = both(streamed(features, label, 4))
    assert both(streamed(3 * features, label, 4)) == pytest.approx(expected * [9, 9, 1, 9, 9, 1])


def test_features_without_variance_have_no_ratio():
    found = traces(streamed(np.ones((4, 2)), np.array([0, 0, 1, 1]), 2), np.ones(2))
    assert (found.intra, found.inter) == (0, 0)
    assert np.isnan(found.ratio)
    assert np.isnan(Moments.empty(2, 3).variance()).all()
