"""Boundary IoU and consistency within objects: loops over pixels as twins, and what must not change them."""

import numpy as np
import pytest

from semiseg.analysis.boxes import Box, difference_boxes
from semiseg.analysis.pictures import choose
from semiseg.analysis.scores import (
    SMALLEST,
    band_width,
    boundary_band,
    boundary_counts,
    consistency,
    object_counts,
    right,
)
from semiseg.analysis.tally import Tally
from semiseg.types import IGNORE


def blobs(seed, shape=(23, 31), classes=3, ignored=True):
    """Smooth regions of every class, and a few pixels without a label."""
    rng = np.random.default_rng(seed)
    height, width = shape
    places = rng.uniform(0, 1, (9, 2)) * shape
    rows, columns = np.mgrid[:height, :width]
    away = [(rows - top) ** 2 + (columns - left) ** 2 for top, left in places]
    label = (np.argmin(away, 0) % classes).astype(np.uint8)
    if ignored:
        label[rng.uniform(size=shape) < 0.03] = IGNORE
    return label


def slow_band(mask, width):
    """Pixels of the mask with a pixel outside, or the image's border, at most `width` rows and columns away."""
    found = np.zeros_like(mask)
    padded = np.pad(mask, width)
    for row, column in np.argwhere(mask):
        found[row, column] = not padded[row : row + 2 * width + 1, column : column + 2 * width + 1].all()
    return found


def slow_boundary(prediction, truth, number, width):
    """Boundary IoU of one class, pixel by pixel."""
    labelled = truth != IGNORE
    bands = [slow_band((each == number) & labelled, width) for each in (prediction, truth)]
    both = sum(bool(one and other) for one, other in zip(*(band.flat for band in bands), strict=True))
    either = sum(bool(one or other) for one, other in zip(*(band.flat for band in bands), strict=True))
    return both / either


def slow_objects(truth, smallest):
    """Lists of pixels that are connected and of one class, grown from their first pixel."""
    left = {(int(r), int(c)) for r, c in np.argwhere(truth != IGNORE)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        own, grow = [], [start]
        while grow:
            row, column = grow.pop()
            own.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            near = {place for place in near if truth[place] == truth[start]}
            left -= near
            grow += near
        found.append(own)
    return [own for own in found if len(own) >= smallest]


def slow_consistency(prediction, own):
    """Share of the ordered pairs of an object's pixels, each with itself too, that are predicted as one class."""
    values = [prediction[place] for place in own]
    return sum(one == other for one in values for other in values) / len(values) ** 2


def iou(prediction, truth, width=2, classes=3):
    both, either, _ = boundary_counts(prediction, truth, classes, width).T
    return both / either


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_band_is_the_slow_one(width):
    mask = blobs(0, ignored=False) == 1
    assert 0 < slow_band(mask, width).sum() <= mask.sum()
    assert np.array_equal(boundary_band(mask, width), slow_band(mask, width))


def test_the_band_ends_at_its_width_and_runs_along_the_images_border():
    mask = np.zeros((12, 12), bool)
    mask[2:, 2:] = True
    inner = mask & ~boundary_band(mask, 3)
    assert np.array_equal(np.argwhere(inner).min(0), [5, 5])
    assert np.array_equal(np.argwhere(inner).max(0), [8, 8])


def test_the_width_is_two_per_cent_of_the_diagonal():
    assert band_width((375, 500)) == 12  # 0.02 x 625 is 12.5, and halves go to the even number
    assert band_width((1024, 2048)) == 46
    assert band_width((8, 6)) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_boundary_iou_is_the_slow_one(seed):
    truth, prediction = blobs(seed), blobs(seed + 10, ignored=False)
    found = iou(prediction, truth)
    assert found == pytest.approx([slow_boundary(prediction, truth, number, 2) for number in range(3)])
    assert 0 < found.min() < found.max() < 1


def test_what_is_predicted_without_a_label_does_not_matter():
    truth, prediction = blobs(3), blobs(4, ignored=False)
    other = np.where(truth == IGNORE, (prediction + 1) % 3, prediction)
    assert np.array_equal(boundary_counts(other, truth, 3), boundary_counts(prediction, truth, 3))
    assert all(map(np.array_equal, object_counts(other, truth, 3), object_counts(prediction, truth, 3)))


def test_a_perfect_prediction_is_perfect_and_a_shift_by_a_pixel_is_not():
    truth = blobs(5, ignored=False)
    assert iou(truth, truth).tolist() == [1, 1, 1]
    shifted = np.roll(truth, 1, axis=1)
    assert (iou(shifted, truth) < 1).all()
    assert (iou(shifted, truth) < iou(np.where(np.arange(31) < 28, truth, shifted), truth)).all()


def test_boundary_iou_is_harder_on_a_shift_than_iou():
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:50] = 1
    shifted = np.roll(truth, 2, axis=0)
    whole = (truth & shifted).sum() / (truth | shifted).sum()
    assert iou(shifted, truth, 3, 2)[1] < whole - 0.2


@pytest.mark.parametrize("seed", [6, 7])
def test_consistency_and_right_pixels_are_the_slow_ones(seed):
    truth, prediction = blobs(seed), blobs(seed + 20, ignored=False)
    classes, counts = object_counts(prediction, truth, 3)
    objects = slow_objects(truth, SMALLEST)
    expected = sorted(
        (int(truth[own[0]]), slow_consistency(prediction, own), np.mean([prediction[p] == truth[p] for p in own]))
        for own in objects
    )
    found = sorted(zip(classes.tolist(), consistency(counts), right(classes, counts), strict=True))
    assert len(expected) > 3
    assert np.array(found) == pytest.approx(np.array(expected))


def test_consistency_ranges_from_one_class_to_an_even_share_whatever_the_class():
    counts = np.array([[30, 0, 0], [0, 30, 0], [10, 10, 10], [15, 15, 0]])
    assert consistency(counts) == pytest.approx([1, 1, 1 / 3, 1 / 2])
    assert right(np.array([0, 0, 0, 1]), counts) == pytest.approx([1, 0, 1 / 3, 1 / 2])


def test_where_objects_lie_does_not_matter():
    truth, prediction = blobs(8), blobs(9, ignored=False)
    turned = [np.ascontiguousarray(each[::-1, ::-1].T) for each in (prediction, truth)]
    one, other = (consistency(object_counts(*each, 3)[1]) for each in ((prediction, truth), turned))
    assert sorted(one) == pytest.approx(sorted(other))
    swapped = [np.roll(each, 15, axis=1) for each in square_pair()]
    assert sorted(object_counts(*swapped, 2)[1].tolist()) == sorted(object_counts(*square_pair(), 2)[1].tolist())


def square_pair():
    """Prediction and truth: two squares of class 1, one half found, the other whole; the image is 30 wide."""
    truth = np.zeros((12, 30), np.uint8)
    truth[3:9, 4:11] = truth[3:9, 19:26] = 1
    prediction = truth.copy()
    prediction[3:6, 4:11] = 0
    return prediction, truth


def test_pixels_that_touch_at_a_corner_are_one_object_and_specks_are_none():
    truth = np.full((16, 16), IGNORE, np.uint8)
    truth[:5, :5] = truth[5:10, 5:10] = 1
    truth[12:14, 12:14] = 0
    classes, counts = object_counts(np.ones_like(truth), truth, 2)
    assert (classes.tolist(), counts.tolist()) == ([1], [[0, 50]])


def test_an_image_without_labels_has_no_objects():
    classes, counts = object_counts(np.zeros((4, 4), np.uint8), np.full((4, 4), IGNORE, np.uint8), 3)
    assert (classes.shape, counts.shape) == ((0,), (0, 3))


# Over images ----------------------------------------------------------------------------------------------------------


def tally_of(pairs, classes=("ground", "nucleus")):
    found = Tally(classes)
    for prediction, truth in pairs:
        found.add(prediction, truth)
    return found


def test_the_scores_of_a_set_are_those_of_its_images_put_together():
    prediction, truth = square_pair()
    found = tally_of([(prediction, truth), (truth, truth)])
    width = band_width(truth.shape)
    each = [slow_boundary(prediction, truth, number, width) for number in (0, 1)]
    scores = found.to_dict()
    assert scores["boundary_iou"]["mean_of_images"] == pytest.approx(100 * (np.mean(each) + 1) / 2)
    one, other = (boundary_counts(each, truth, 2) for each in (prediction, truth))
    pooled = (one + other)[:, 0] / (one + other)[:, 1]
    assert scores["boundary_iou"]["mean"] == pytest.approx(100 * pooled.mean())
    assert scores["boundary_iou"]["classes"]["nucleus"] == {"iou": pytest.approx(100 * pooled[1]), "images": 2}
    inside = scores["consistency"]
    assert (inside["objects"], inside["classes"]["nucleus"]["objects"]) == (6, 4)
    assert inside["mean"] == pytest.approx(
        100 * 5.5 / 6
    )  # of two grounds and four nuclei, one nucleus is half and half
    assert inside["right"] == pytest.approx(100 * 5.5 / 6)
    assert inside["classes"]["nucleus"]["mean"] == pytest.approx(100 * 3.5 / 4)
    assert inside["mean_of_classes"] == pytest.approx(100 * (1 + 3.5 / 4) / 2)
    assert np.array_equal(found.prediction(0), prediction)


def test_a_class_that_the_truth_does_not_show_is_not_counted_against_an_image():
    truth = np.zeros((20, 20), np.uint8)
    prediction = truth.copy()
    prediction[:2, :2] = 1
    found = tally_of([(prediction, truth)])
    assert found.boundary() == pytest.approx([slow_boundary(prediction, truth, 0, 1)])
    assert found.to_dict()["boundary_iou"]["classes"]["nucleus"]["images"] == 0


def test_images_are_chosen_by_the_gain_of_the_last_run_and_only_where_there_is_a_score():
    half, truth = square_pair()
    nothing = np.full_like(truth, IGNORE)
    first = tally_of([(half, truth), (truth, truth), (truth, nothing), (np.zeros_like(truth), truth)])
    last = tally_of([(truth, truth), (half, truth), (truth, nothing), (truth, truth)])
    assert choose([first, last], "boundary", 9) == [3, 0, 1]
    assert choose([first, last], "boundary", 1) == [3]
    assert choose([first], "boundary", 2) == [3, 0]  # of one run, the lowest


def test_an_object_that_becomes_wrong_throughout_is_no_gain_in_consistency():
    half, truth = square_pair()
    missed = np.zeros_like(truth)
    first, last = tally_of([(half, truth), (half, truth)]), tally_of([(missed, truth), (truth, truth)])
    assert (last.consistency() > first.consistency()).all()
    assert choose([first, last], "consistency", 9) == [1]


def test_boxes_hold_the_regions_where_one_is_right_and_the_other_wrong():
    truth = np.zeros((100, 100), np.uint8)
    first, last = truth.copy(), truth.copy()
    first[10:20, 10:30] = 1  # the last is right there
    last[60:66, 70:76] = 1  # the first is
    first[90:, 90:] = last[90:, 90:] = 1  # both are wrong
    first[40, 40] = 1  # a speck
    truth[30:40, 70:90] = IGNORE
    first[30:40, 70:90] = 1
    assert difference_boxes(first, last, truth) == [Box(8, 8, 22, 32, True), Box(58, 68, 68, 78, False)]
    assert difference_boxes(first, last, truth, most=1) == [Box(8, 8, 22, 32, True)]
    assert difference_boxes(first, first, truth) == []


def test_a_box_within_another_is_left_out():
    truth = np.zeros((200, 200), np.uint8)
    first = truth.copy()
    first[20:180, 20:30] = first[20:30, 20:180] = first[170:180, 20:180] = first[20:180, 170:180] = 1
    first[90:110, 90:110] = 1
    assert len(difference_boxes(first, truth, truth)) == 1
