"""Crops drawn around rare classes and quarter turns, against every window of a small mask; off, nothing is drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.config.options import AugmentOptions
from semiseg.parts.augment import weak_view
from semiseg.parts.focus import focused
from semiseg.types import IGNORE

MASK = np.array(
    [
        [0, 0, 0, 0, 0, 2],
        [0, 1, 0, 0, 0, 2],
        [0, 0, 0, 0, 0, 0],
        [255, 255, 0, 2, 0, 0],
        [255, 255, 0, 0, 0, 0],
    ],
    np.uint8,
)
STILL = {"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0, "crop_height": 32, "crop_width": 32}
ELSEWHERE = (slice(0, 0), slice(0, 0))


def slow_windows(mask, crop):
    """Every window of `crop` -> its probability, class by class, pixel by pixel, window by window."""
    height, width = mask.shape
    counts = Counter(mask[mask != IGNORE].tolist())
    common = min(counts, key=lambda number: (-counts[number], number))
    sides = (min(crop[0], height), min(crop[1], width))
    tops, lefts = range(height - sides[0] + 1), range(width - sides[1] + 1)
    found: Counter = Counter()
    for rare in sorted(set(counts) - {common}):
        pixels = [place for place in np.ndindex(*mask.shape) if mask[place] == rare]
        for row, column in pixels:
            holding = [
                (top, left)
                for top, left in product(tops, lefts)
                if top <= row < top + sides[0] and left <= column < left + sides[1]
            ]
            for window in holding:
                found[window] += Fraction(1, (len(counts) - 1) * len(pixels) * len(holding))
    return found


@pytest.mark.parametrize("crop", [(2, 3), (1, 1), (4, 9), (9, 2)])
def test_windows_are_as_likely_as_class_pixel_and_place_make_them(crop):
    expected, draws, rng = slow_windows(MASK, crop), 6000, np.random.default_rng(0)
    assert sum(expected.values()) == 1
    windows = [focused(MASK, MASK.shape, crop, ELSEWHERE, share=1.0, rng=rng) for _ in range(draws)]
    seen = Counter((rows.start, columns.start) for rows, columns in windows)
    assert set(seen) == set(expected)
    squares = sum((seen[place] - draws * float(p)) ** 2 / (draws * float(p)) for place, p in expected.items())
    degrees = len(expected) - 1
    assert squares <= degrees + 5 * max(1, 2 * degrees) ** 0.5, "chi squared, five deviations above its mean"
    sizes = {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in windows}
    assert sizes == {(min(crop[0], 5), min(crop[1], 6))}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_focused_crops_is_the_option(share):
    rng = np.random.default_rng(1)
    moved = [focused(MASK, MASK.shape, (2, 2), ELSEWHERE, share=share, rng=rng) != ELSEWHERE for _ in range(4000)]
    assert np.mean(moved) == pytest.approx(share, abs=0.03)
    assert share not in (0, 1) or np.mean(moved) == share


@pytest.mark.parametrize("mask", [np.zeros((4, 5), np.uint8), np.full((4, 5), IGNORE, np.uint8)])
def test_a_mask_of_one_class_or_none_leaves_the_window_where_it_was(mask):
    window = (slice(1, 3), slice(2, 4))
    rng = np.random.default_rng(2)
    assert all(focused(mask, (8, 9), (2, 2), window, share=1.0, rng=rng) == window for _ in range(20))


def marked(height: int, width: int, seed: int):
    """An image whose red is its label: 1 and 2 in a block of 6 x 6 each, the rest 0, and a row of IGNORE."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for value in (1, 2):
        top, left = rng.integers(height - 6), rng.integers(width - 6)
        label[top : top + 6, left : left + 6] = value
    label[rng.integers(height)] = IGNORE
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[..., 0] = label
    return image, label


@settings(max_examples=60, deadline=None)
@given(
    st.integers(24, 90), st.integers(24, 90), st.integers(0, 1000), st.sampled_from([(32, 32), (32, 48)]), st.booleans()
)
def test_a_focused_view_shows_a_rare_class_whatever_else_is_done(height, width, seed, crop, still):
    image, label = marked(height, width, seed)
    scales = {"scale_min": 1.0, "scale_max": 1.0} if still else {"scale_min": 0.4, "scale_max": 2.0}
    options = AugmentOptions(
        crop_height=crop[0], crop_width=crop[1], flip=0.5, flip_vertical=0.5, turn=0.5, focus=1.0, **scales
    )
    view, target, valid = weak_view(image, label, options, IGNORE, np.random.default_rng(seed))
    assert view.shape == (*crop, 3)
    assert target.shape == valid.shape == crop
    shown = set(target[valid].tolist()) - {IGNORE}
    assert shown & {1, 2}, "of a block, three rows after one another at least are left: one is there at a scale of 0.4"
    assert (target[~valid] == IGNORE).all()
    if still:
        assert torch.equal(view[..., 0][valid], target[valid]), "image and label went the same way"


def test_off_nothing_changes_and_nothing_more_is_drawn():
    options = AugmentOptions(**{**STILL, "crop_width": 40, "flip": 0.5, "flip_vertical": 0.5})
    digest = hashlib.sha256()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
        label = rng.integers(0, 3, (50, 60), dtype=np.uint8)
        for part in weak_view(image, label, options, 255, np.random.default_rng([7, seed])):
            digest.update(part.numpy().tobytes())
    # Of the views as they were before there were focus and turn.
    assert digest.hexdigest() == "b2d21a72e8b4f2faf2e067fc810a0684e2364fb120db5ee47bbcf2532f457668"


def test_unlabelled_views_do_not_know_of_focus_and_draws_do_not_depend_on_the_mask():
    image, label = marked(60, 70, 3)
    plain, focus = AugmentOptions(**STILL), AugmentOptions(**STILL, focus=0.5)
    for seed in range(5):
        one = weak_view(image, None, plain, IGNORE, np.random.default_rng(seed))
        two = weak_view(image, None, focus, IGNORE, np.random.default_rng(seed))
        assert torch.equal(one[0], two[0])
        after = []
        for mask in (label, np.zeros_like(label), np.full_like(label, IGNORE)):
            rng = np.random.default_rng(seed)
            weak_view(image, mask, focus, IGNORE, rng)
            after.append(rng.random())
        assert len(set(after)) == 1


def test_turns_and_flips_give_all_eight_positions_alike():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    positions = [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]
    options = AugmentOptions(**{**STILL, "flip": 0.5}, flip_vertical=0.5, turn=0.5)
    seen: Counter = Counter()
    for seed in range(800):
        view, _, _ = weak_view(image, None, options, IGNORE, np.random.default_rng(seed))
        seen[next(n for n, position in enumerate(positions) if np.array_equal(position, view))] += 1
    assert sorted(seen) == list(range(8))
    assert max(seen.values()) < 145
    assert min(seen.values()) > 60


def test_a_turned_view_of_an_oblong_crop_is_a_turned_window():
    image, label = marked(70, 90, 5)
    image[..., 1], image[..., 2] = np.mgrid[:70, :90]
    options = AugmentOptions(**{**STILL, "crop_width": 48}, turn=1.0)
    sides = set()
    for seed in range(20):
        view, target, valid = weak_view(image, label, options, IGNORE, np.random.default_rng(seed))
        assert valid.all()
        row, column = (view[..., channel].numpy() for channel in (1, 2))
        np.testing.assert_array_equal(view, image[row, column])
        np.testing.assert_array_equal(target, label[row, column])
        assert (np.ptp(row), np.ptp(column)) == (47, 31), "48 rows and 32 columns of the image, on their side"
        sides.add(int(row[0, 0]) > int(row[0, -1]))
    assert sides == {True, False}, "turned to either side"
