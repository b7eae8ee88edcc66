"""Dice, boundary F and the interval over images, each against a slow obvious twin and against other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import f1_score

from semiseg.evaluation.boundary import boundary_f, boundary_matches, tolerance_pixels
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.statistics import interval_over_images
from semiseg.types import IGNORE

CASES = 1000


def random_case(seed):
    """Prediction, truth, classes and tolerance; some cases have ignored pixels, absent classes, or nothing labelled."""
    rng = np.random.default_rng(seed)
    classes, shape = int(rng.integers(2, 5)), tuple(rng.integers(1, 9, 2))
    drawn = int(rng.integers(1, classes + 1))  # the others are absent
    truth = rng.integers(0, drawn, shape).astype(np.uint8)
    if seed % 3:  # regions instead of noise
        truth = np.repeat(np.repeat(truth, 3, 0), 3, 1)[: shape[0], : shape[1]]
    prediction = np.where(rng.random(shape) < 0.8, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < (0, 0.1, 0.4, 1)[seed % 4 if seed % 40 == 3 else seed % 3]] = IGNORE
    return prediction, truth, classes, int(rng.integers(1, 4))


def slow_boundary(label, truth, number):
    """Pixels (row, column) of the class beside a labelled pixel of another one."""
    height, width = label.shape
    found = set()
    for row in range(height):
        for column in range(width):
            if truth[row, column] == IGNORE or label[row, column] != number:
                continue
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                y, x = row + down, column + right
                if 0 <= y < height and 0 <= x < width and truth[y, x] != IGNORE and label[y, x] != number:
                    found.add((row, column))
    return found


def slow_matches(prediction, truth, classes, tolerance):
    ignored = list(zip(*np.nonzero(truth == IGNORE), strict=True))
    counts = []
    for number in range(classes):
        both = [slow_boundary(label, truth, number) for label in (prediction, truth)]
        figures = []
        for own, other in (both, both[::-1]):
            counted = [a for a in own if all(math.dist(a, b) > tolerance for b in ignored)]
            figures += [len(counted), sum(any(math.dist(a, b) <= tolerance for b in other) for a in counted)]
        counts.append(figures)
    return np.array(counts)


def test_boundary_counts_are_the_slow_twins():
    kinds = set()
    for seed in range(CASES):
        prediction, truth, classes, tolerance = random_case(seed)
        counts = boundary_matches(prediction, truth, classes, tolerance)
        assert counts.tolist() == slow_matches(prediction, truth, classes, tolerance).tolist(), seed
        kinds |= {(truth == IGNORE).all(), "absent" if len(np.unique(truth[truth != IGNORE])) < classes else "all"}
    assert kinds == {np.True_, np.False_, "absent", "all"}


@pytest.mark.parametrize("seed", range(5))
def test_boundary_f_is_what_scipys_distances_give(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 60, 80)), (0, 5, 5))
    truth, prediction = ((each > 0).astype(np.uint8) for each in (smooth[0], smooth[0] + 0.3 * smooth[1]))
    lines = []
    for label in (prediction, truth):
        mask = label == 1
        lines.append(mask & ~ndimage.binary_erosion(mask, border_value=1))
    away = [ndimage.distance_transform_edt(~line) for line in lines]
    precision, recall = (away[1][lines[0]] <= 2).mean(), (away[0][lines[1]] <= 2).mean()
    found = boundary_f(boundary_matches(prediction, truth, 2, 2))
    assert found[1] == pytest.approx(2 * precision * recall / (precision + recall))


def test_dice_is_sklearns_f1_of_the_pixels():
    for seed in range(CASES):
        prediction, truth, classes, _ = random_case(seed)
        matrix = ConfusionMatrix.of(*(torch.from_numpy(each.astype(np.int64)) for each in (prediction, truth)), classes)
        known = truth != IGNORE
        shown = np.unique(truth[known])
        dice = matrix.dice()
        assert np.flatnonzero(np.isfinite(dice)).tolist() == shown.tolist()
        if len(shown):
            expected = f1_score(truth[known], prediction[known], labels=shown, average=None, zero_division=0)
            np.testing.assert_allclose(dice[shown], expected, atol=1e-12)


def test_a_shift_within_the_tolerance_costs_nothing():
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    scores = [boundary_f(boundary_matches(np.roll(truth, shift, 1), truth, 2, 2))[1] for shift in (0, 2, 6)]
    assert scores[:2] == [1, 1]
    assert scores[2] < 0.8


def test_turning_both_changes_nothing():
    prediction, truth, classes, tolerance = random_case(8)
    plain = boundary_matches(prediction, truth, classes, tolerance)
    assert (boundary_matches(prediction.T.copy(), truth.T.copy(), classes, tolerance) == plain).all()


def test_what_lies_under_ignored_pixels_does_not_matter():
    prediction, truth, classes, tolerance = random_case(7)
    other = np.where(truth == IGNORE, (prediction + 1) % classes, prediction).astype(np.uint8)
    first, second = (boundary_matches(each, truth, classes, tolerance) for each in (prediction, other))
    assert (first == second).all()


def test_an_image_of_one_class_has_no_boundary_and_no_score():
    blank = np.zeros((5, 5), np.uint8)
    assert np.isnan(boundary_f(boundary_matches(blank, blank, 2, 1))).all()


@pytest.mark.parametrize(("shape", "pixels"), [((480, 854), 8), ((3, 4), 1), ((1, 1), 1)])
def test_the_tolerance_is_a_share_of_the_diagonal(shape, pixels):
    assert tolerance_pixels(shape) == pixels


def mean(sums):
    """Of figure and count."""
    return sums[:, :1] / sums[:, 1:]


def test_an_interval_is_the_one_of_a_slow_bootstrap():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(10, 3, 40), np.ones(40)], 1)
    value, low, high = interval_over_images(values, mean, draws=4000)[:, 0]
    draws = [rng.choice(values[:, 0], 40).mean() for _ in range(4000)]
    assert value == pytest.approx(values[:, 0].mean())
    np.testing.assert_allclose([low, high], np.percentile(draws, [2.5, 97.5]), atol=0.1)


def test_an_interval_leaves_out_draws_without_a_score_and_follows_from_its_seed():
    counts = np.array([[1.0, 1.0], [0.0, 0.0]])  # the second image does not show the class

    def share(sums):
        found = np.full((len(sums), 2), np.nan)
        found[sums[:, 1] > 0, 0] = 1.0
        return found

    first = interval_over_images(counts, share, draws=100)
    assert first[:, 0].tolist() == [1, 1, 1]
    assert np.isnan(first[:, 1]).all()
    np.testing.assert_array_equal(first, interval_over_images(counts, share, draws=100))
    with pytest.raises(ValueError, match="no image"):
        interval_over_images(counts[:0], share)
