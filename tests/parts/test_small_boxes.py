"""UniMatch's boxes: inside, as large and as long as they should be, for every second image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semiseg.parts.mixing import small_boxes

seeds = st.integers(0, 10_000)


def boxes_of(count: int, height: int, width: int, seed: int) -> Tensor:
    image = torch.empty(1, 1, 1, 1).expand(count, 3, height, width)
    return small_boxes(image, torch.Generator().manual_seed(seed))


def sides_of(mask: Tensor) -> tuple[int, int]:
    """Height and width of the rectangle that a mask (H, W) is; fails where it is none."""
    height, width = int(mask.any(1).sum()), int(mask.any(0).sum())
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert mask[rows[0] : rows[0] + height, columns[0] : columns[0] + width].all()
    assert mask.sum() == height * width
    return height, width


@given(st.integers(24, 80), st.integers(24, 80), seeds)
@settings(deadline=None, max_examples=50)
def test_boxes_have_their_area_and_aspect_and_are_inside(height, width, seed):
    """Sides are rounded down, by less than a pixel; a mask that is a whole rectangle of its sides is inside."""
    for mask in boxes_of(6, height, width, seed):
        if mask.any():
            tall, wide = sides_of(mask)
            assert tall * wide <= 0.4 * height * width + 1e-3
            assert (tall + 1) * (wide + 1) >= 0.02 * height * width - 1e-3
            assert (tall + 1) / wide >= 0.3 - 1e-6
            assert tall / (wide + 1) <= 1 / 0.3 + 1e-6


def test_half_of_the_images_have_one_and_areas_are_uniform():
    masks = boxes_of(4000, 64, 64, 0)
    areas = masks.flatten(1).double().mean(1)
    there = areas > 0
    assert float(there.double().mean()) == pytest.approx(0.5, abs=0.03)
    quartiles = torch.quantile(areas[there], torch.tensor([0.25, 0.5, 0.75]).double())
    assert quartiles.tolist() == pytest.approx([0.02 + 0.38 * q for q in (0.25, 0.5, 0.75)], abs=0.02)


def test_small_boxes_may_lie_anywhere():
    masks = boxes_of(4000, 48, 48, 1)
    covered = masks.any(0)
    assert covered.all()
    seen = masks.double().mean(0)
    assert float(seen[24, 24]) > 3 * float(seen[0, 0])  # corners are seldom reached from inside


def test_rejection_is_that_of_the_slow_twin():
    """Of boxes tried one after the other, aspect and corner drawn anew, the first that is inside."""
    generator, count = torch.Generator().manual_seed(5), 6
    coin, area = torch.rand(2, count, generator=generator)
    aspect, down, right = torch.rand(3, count, 256, generator=generator)
    for image, mask in enumerate(boxes_of(count, 50, 70, 5)):
        expected = torch.zeros(50, 70, dtype=torch.bool)
        for tried in range(256 if coin[image] < 0.5 else 0):
            ratio = 0.3 + (1 / 0.3 - 0.3) * float(aspect[image, tried])
            pixels = (0.02 + 0.38 * float(area[image])) * 50 * 70
            tall, wide = int((pixels * ratio) ** 0.5), int((pixels / ratio) ** 0.5)
            top, left = int(down[image, tried] * 50), int(right[image, tried] * 70)
            if top + tall <= 50 and left + wide <= 70:
                expected[top : top + tall, left : left + wide] = True
                break
        assert mask.equal(expected)


def test_where_no_box_fits_there_is_none():
    masks = boxes_of(400, 4, 400, 0)
    assert 0 < int(masks.flatten(1).any(1).sum()) < 200
    for mask in masks:
        sides_of(mask) if mask.any() else None
