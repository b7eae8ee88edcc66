"""The confusion matrix against counting pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semiseg.evaluation.metrics import BINS, Calibration, ConfusionMatrix
from semiseg.types import IGNORE

C = 4
predictions = arrays.arrays(np.int64, (3, 5), elements=st.integers(0, C - 1))
labels = arrays.arrays(np.int64, (3, 5), elements=st.sampled_from([*range(C), IGNORE]))


def of(prediction: np.ndarray, label: np.ndarray) -> ConfusionMatrix:
    return ConfusionMatrix.of(torch.from_numpy(prediction), torch.from_numpy(label), C)


def divided(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


@given(predictions, labels)
def test_every_score_equals_counting_pixels(prediction, label):
    counts = [[0] * C for _ in range(C)]
    for said, true in zip(prediction.flatten().tolist(), label.flatten().tolist(), strict=True):
        if true != IGNORE:
            counts[true][said] += 1
    found = of(prediction, label)
    assert found.counts.tolist() == counts
    assert found.counts.dtype == np.int64

    counted = label != IGNORE
    hits = [int(((prediction == c) & (label == c)).sum()) for c in range(C)]
    shown = [int((label == c).sum()) for c in range(C)]
    said = [int(((prediction == c) & counted).sum()) for c in range(C)]
    union = [int((((prediction == c) | (label == c)) & counted).sum()) if shown[c] else 0 for c in range(C)]
    iou = [divided(hits[c], union[c]) for c in range(C)]
    np.testing.assert_allclose(found.iou(), iou)
    np.testing.assert_allclose(found.recall(), [divided(hits[c], shown[c]) for c in range(C)])
    np.testing.assert_allclose(found.precision(), [divided(hits[c], said[c]) for c in range(C)])
    np.testing.assert_allclose(found.accuracy(), divided(sum(hits), int(counted.sum())))
    known = [value for value in iou if not math.isnan(value)]
    np.testing.assert_allclose(found.miou(), divided(sum(known), len(known)) if known else math.nan)


def test_a_class_that_no_label_shows_has_no_score_and_costs_the_class_it_was_taken_for():
    label, prediction = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 1, 1])
    found = of(prediction, label)
    np.testing.assert_allclose(found.iou(), [2 / 3, 1, *[math.nan] * (C - 2)])
    np.testing.assert_allclose(found.miou(), 5 / 6)


@given(predictions, labels, st.permutations(range(C)))
def test_renaming_the_classes_renames_the_scores(prediction, label, order):
    renamed = np.array([*order, *([IGNORE] * (IGNORE - C + 1))])
    before, after = of(prediction, label), of(renamed[prediction], renamed[label])
    np.testing.assert_array_equal(after.counts[np.ix_(order, order)], before.counts)
    np.testing.assert_allclose(after.miou(), before.miou())


@given(predictions, labels)
def test_matrices_of_parts_add_up_and_order_does_not_matter(prediction, label):
    whole = of(prediction, label)
    parts = sum((of(prediction[row], label[row]) for row in (2, 0, 1)), ConfusionMatrix.empty(C))
    np.testing.assert_array_equal(parts.counts, whole.counts)


@given(predictions, predictions, labels)
def test_what_is_predicted_on_ignored_pixels_does_not_matter(prediction, other, label):
    changed = np.where(label == IGNORE, other, prediction)
    np.testing.assert_array_equal(of(changed, label).counts, of(prediction, label).counts)


def test_scores_in_numbers():
    matrix = ConfusionMatrix(np.array([[3, 1], [2, 4]]))
    np.testing.assert_allclose(matrix.iou(), [3 / 6, 4 / 7])
    assert matrix.miou() == pytest.approx((3 / 6 + 4 / 7) / 2)
    np.testing.assert_allclose(matrix.recall(), [3 / 4, 4 / 6])
    np.testing.assert_allclose(matrix.precision(), [3 / 5, 4 / 5])
    assert matrix.accuracy() == 0.7


def test_a_perfect_prediction_scores_1_over_the_classes_there_are():
    label = np.array([[0, 0, 2]])
    assert of(label, label).iou().tolist()[::2] == [1, 1]
    assert np.isnan(of(label, label).iou()[[1, 3]]).all()
    assert of(label, label).miou() == 1


def test_nothing_scores_nan_without_a_warning():
    empty = ConfusionMatrix.empty(C)
    assert math.isnan(empty.miou())
    assert math.isnan(empty.accuracy())
    assert np.isnan(empty.iou()).all()


confidences = arrays.arrays(np.float64, (3, 5), elements=st.sampled_from([0.0, 1.0, *np.linspace(0.013, 0.987, 40)]))


@given(confidences, predictions, labels)
def test_the_calibration_error_equals_bin_by_bin(confidence, prediction, label):
    expected, counted = 0.0, int((label != IGNORE).sum())
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = (label != IGNORE) & ((confidence > low) | (number == 0)) & (confidence <= high)
        if inside.any():
            accuracy = (prediction == label)[inside].mean()
            expected += inside.sum() / counted * abs(accuracy - confidence[inside].mean())
    tensors = (torch.from_numpy(array) for array in (confidence, prediction, label))
    found = Calibration.of(*tensors)
    assert found.pixels.sum() == counted
    np.testing.assert_allclose(found.error(), expected if counted else math.nan, atol=1e-7)


@given(confidences, predictions, labels)
def test_what_is_written_of_the_calibration_equals_bin_by_bin(confidence, prediction, label):
    found = Calibration.of(*(torch.from_numpy(array) for array in (confidence, prediction, label))).to_dict()
    rows = [row for row in zip(confidence.flat, prediction.flat, label.flat, strict=True) if row[2] != IGNORE]
    for number in range(BINS):
        inside = [row for row in rows if max(math.ceil(BINS * row[0]) - 1, 0) == number]
        assert found["pixels"][number] == len(inside)
        assert found["right"][number] == sum(said == true for _, said, true in inside)
        mean = 100 * sum(sure for sure, _, _ in inside) / len(inside) if inside else math.nan
        np.testing.assert_allclose(found["confidence"][number], mean, atol=1e-5)


@given(confidences, predictions, labels)
def test_calibrations_of_parts_add_up(confidence, prediction, label):
    def calibration(rows: slice) -> Calibration:
        return Calibration.of(*(torch.from_numpy(array[rows]) for array in (confidence, prediction, label)))

    found, whole = calibration(slice(0, 1)) + calibration(slice(1, 3)) + Calibration.empty(), calibration(slice(0, 3))
    assert found.pixels.tolist() == whole.pixels.tolist()
    assert found.right.tolist() == whole.right.tolist()
    assert found.confidence.tolist() == whole.confidence.tolist()


def test_a_certain_and_right_prediction_is_calibrated_and_a_certain_and_wrong_one_is_not():
    certain, zeros = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.long)
    assert Calibration.of(certain, zeros, zeros).error() == 0
    assert Calibration.of(certain, zeros, zeros + 1).error() == 1
