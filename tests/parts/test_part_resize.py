"""A part of a resized picture has the bytes that it has in the whole."""

import cv2
import numpy as np
import pytest

from semiseg.parts import part_resize
from semiseg.parts.part_resize import resized_part

rng = np.random.default_rng(3)


def drawn(height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def window(size: tuple[int, int], most: int) -> tuple[slice, slice]:
    lengths = [int(rng.integers(1, min(side, most) + 1)) for side in size]
    starts = [int(rng.integers(0, side - length + 1)) for side, length in zip(size, lengths, strict=True)]
    rows, columns = (slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
    return rows, columns


@pytest.mark.parametrize("most", [12, 400])
def test_the_part_is_the_same_bytes(most, monkeypatch):
    assert part_resize._same_arithmetic()  # else all of this would compare OpenCV with itself
    monkeypatch.setattr(part_resize, "_DEARER", 0)
    for _ in range(150):
        image = drawn(*rng.integers(1, 300, 2))
        size = tuple(max(1, round(side * rng.uniform(0.3, 3))) for side in image.shape[:2])
        part = window(size, most)
        whole = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(resized_part(image, size, part), whole[part]), (image.shape, size, part)


@pytest.mark.parametrize("size", [(50, 60), (100, 120), (200, 240), (100, 60), (1, 1)])
def test_whole_factors_and_the_borders_too(size, monkeypatch):
    monkeypatch.setattr(part_resize, "_DEARER", 0)
    image = drawn(100, 120)
    whole = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    for rows in (slice(0, 1), slice(size[0] - 1, size[0]), slice(0, size[0])):
        assert np.array_equal(resized_part(image, size, (rows, slice(0, size[1]))), whole[rows])


def test_another_arithmetic_is_noticed_and_the_whole_is_resized(monkeypatch):
    part_resize._same_arithmetic.cache_clear()
    monkeypatch.setattr(part_resize, "_ONE", np.float32(1024))
    assert not part_resize._same_arithmetic()
    image, size, part = drawn(300, 400), (350, 470), (slice(3, 20), slice(5, 30))
    whole = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resized_part(image, size, part), whole[part])
    part_resize._same_arithmetic.cache_clear()


def test_a_small_part_of_a_large_picture_is_made_alone(monkeypatch):
    made = []
    monkeypatch.setattr(part_resize, "_part", lambda *given: made.append(given) or np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(part_resize, "_same_arithmetic", lambda: True)
    resized_part(drawn(600, 800), (700, 900), (slice(0, 8), slice(0, 8)))
    resized_part(drawn(60, 80), (70, 90), (slice(0, 64), slice(0, 64)))
    assert len(made) == 1
