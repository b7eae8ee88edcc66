"""Masks over photographs: the photograph stays visible, and colours are told apart."""

import itertools

import numpy as np
import pytest

from semiseg.data.dataset import palette
from semiseg.evaluation.colors import lab
from semiseg.report.overlay import BRIGHT, background_of, distinct_colors, outline, over, overlay_colors
from semiseg.types import IGNORE


def apart(first, second):
    return float(np.linalg.norm(np.diff(lab(np.array([first, second], np.uint8)), axis=0)))


@pytest.mark.parametrize("count", [1, 2, 3, 11, 21])
def test_colours_differ_from_each_other_and_from_grey(count):
    found = distinct_colors(count)
    assert len(set(found)) == count
    greys = [(value,) * 3 for value in (0, 60, 128, 200, 255)]
    assert min((apart(*pair) for pair in itertools.combinations(found, 2)), default=99) >= 15
    assert min(apart(color, grey) for color in found for grey in greys) >= 20
    assert all(max(color) >= BRIGHT for color in found)


def test_more_classes_than_colours_still_have_one_each():
    assert len(distinct_colors(300)) == 300


def test_a_datasets_own_colours_are_kept_where_they_show():
    own = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert overlay_colors(own) == own
    assert overlay_colors(palette(5)) == distinct_colors(5)  # dark red on a dark picture is not seen
    assert overlay_colors(((250, 0, 0), (255, 0, 0))) == distinct_colors(2)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_the_photograph_stays_visible_inside_a_class(level):
    """Two pixels of a photograph that differ by 100 differ by most of it under the tint, on dark and on bright ones."""
    photograph = np.full((40, 60, 3), level, np.uint8)
    photograph[:, ::2] = abs(level - 100)
    label = np.zeros((40, 60), np.uint8)
    drawn = over(photograph, label, distinct_colors(2))
    differences = np.abs(drawn[:, 0].astype(int) - drawn[:, 1])
    assert differences.mean() >= 0.6 * abs(level - abs(level - 100))
    assert np.abs(drawn.astype(int) - photograph).max() > 10  # and the tint is seen


def test_borders_have_the_classes_colours_and_what_is_bare_or_ignored_stays():
    photograph = np.full((60, 90, 3), 100, np.uint8)
    label = np.zeros((60, 90), np.uint8)
    label[20:40, 30:60] = 1
    label[:5] = IGNORE
    colors = distinct_colors(2)
    drawn = over(photograph, label, colors, frozenset([0]))
    assert tuple(drawn[20, 45]) == colors[1]
    assert (drawn[2, 10] == 100).all()
    assert (drawn[50, 80] == 100).all()
    assert not (drawn[30, 45] == 100).all()
    assert not outline(np.zeros((9, 9), np.uint8), 1).any()


def test_a_background_is_left_bare():
    assert background_of(("background", "a", "b"), False) == {0}
    assert background_of(("sky", "road", "Other"), False) == {2}
    assert background_of(("no", "yes"), False) == {0}
    assert background_of(("sky", "road", "tree"), False) == frozenset()
