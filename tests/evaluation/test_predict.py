"""Windows, crops and sizes on the way from an image to logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semiseg.config.options import EvaluationOptions
from semiseg.evaluation.windows import center_crop, predict_image, slide, starts
from semiseg.runtime.precision import precision_context


def whole_view(image: Tensor) -> dict[str, Tensor]:
    """Logits that depend on all that is seen and where it is seen: no two windows agree on a shared pixel."""
    height, width = image.shape[-2:]
    place = torch.arange(height * width, dtype=image.dtype).view(1, 1, height, width)
    first = image * image.mean() + place
    return {"linear": torch.cat([first, -first], 1), "prototype": torch.cat([first.square()] * 3, 1)}


def batch_view(images: Tensor) -> dict[str, Tensor]:
    """`whole_view` of each image of a batch apart."""
    views = [whole_view(image[None]) for image in images]
    return {name: torch.cat([view[name] for view in views]) for name in views[0]}


def slow_slide(image: Tensor, window: int, stride: int) -> dict[str, np.ndarray]:
    """Every window by its corner, found by walking; every pixel by itself."""
    height, width = image.shape[-2:]
    corners = [
        (min(top, max(height - window, 0)), min(left, max(width - window, 0)))
        for top in walk(height, window, stride)
        for left in walk(width, window, stride)
    ]
    views = [((top, left), whole_view(image[:, :, top : top + window, left : left + window])) for top, left in corners]
    result = {name: np.zeros((1, logits.shape[1], height, width)) for name, logits in views[0][1].items()}
    for name, out in result.items():
        for y in range(height):
            for x in range(width):
                seen = [
                    view[name][0, :, y - top, x - left].numpy()
                    for (top, left), view in views
                    if top <= y < top + window and left <= x < left + window
                ]
                out[0, :, y, x] = sum(seen) / len(seen)
    return result


def walk(length: int, window: int, stride: int) -> list[int]:
    """Step on until a window reaches the end."""
    found = [0]
    while found[-1] + window < length:
        found.append(found[-1] + stride)
    return found


def test_cityscapes_has_eight_windows():
    assert starts(1024, 769, 513) == [0, 255]
    assert starts(2048, 769, 513) == [0, 513, 1026, 1279]


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (5, 5, 2, [0]),
        (4, 5, 2, [0]),
        (6, 5, 5, [0, 1]),
        (10, 5, 5, [0, 5]),
        (11, 5, 5, [0, 5, 6]),
        (9, 5, 2, [0, 2, 4]),
    ],
)
def test_the_last_window_ends_at_the_border(length, window, stride, expected):
    assert starts(length, window, stride) == expected


@given(length=st.integers(1, 300), window=st.integers(1, 200), share=st.floats(0.01, 1))
def test_windows_cover_every_pixel_and_none_is_there_twice(length, window, share):
    stride = max(1, int(share * window))
    found = starts(length, window, stride)
    covered = {pixel for first in found for pixel in range(first, min(first + window, length))}
    assert covered == set(range(length))
    assert found == sorted(set(found))
    assert found[-1] + window == max(length, window)
    assert len(found) == len(walk(length, window, stride))


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 14), width=st.integers(1, 14), window=st.integers(2, 9), share=st.floats(0.2, 1))
def test_slide_is_the_mean_of_raw_logits_over_visits(height, width, window, share):
    stride = max(1, int(share * window))
    image = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(height), dtype=torch.float64)
    found, expected = slide(whole_view, image, window, stride), slow_slide(image, window, stride)
    assert list(found) == ["linear", "prototype"]
    for name, logits in found.items():
        np.testing.assert_allclose(logits.numpy(), expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
def test_windows_may_be_predicted_together(at_once):
    image = torch.randn(1, 1, 11, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = []

    def predict(images: Tensor) -> dict[str, Tensor]:
        sizes.append(len(images))
        return batch_view(images)

    found, expected = slide(predict, image, 5, 3, at_once), slow_slide(image, 5, 3)
    assert sum(sizes) == 12
    assert max(sizes) == min(at_once, 12)
    assert min(sizes[:-1], default=at_once) >= min(at_once, 12)
    for name, logits in found.items():
        np.testing.assert_allclose(logits.numpy(), expected[name], rtol=1e-12, atol=1e-12)


def test_slide_of_what_sees_single_pixels_is_the_whole_image():
    image = torch.randn(1, 2, 13, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = slide(lambda part: {"linear": part * 3 + 1}, image, 8, 5)["linear"]
    torch.testing.assert_close(found, image * 3 + 1, rtol=1e-12, atol=1e-12)


def test_an_image_smaller_than_the_window_is_seen_once_and_whole():
    calls = []

    def predict(part: Tensor) -> dict[str, Tensor]:
        calls.append(tuple(part.shape))
        return {"linear": part}

    image = torch.randn(1, 3, 5, 7)
    assert torch.equal(slide(predict, image, 9, 9)["linear"], image)
    assert calls == [(1, 3, 5, 7)]


def test_logits_come_back_at_native_size():
    image = torch.randn(1, 2, 6, 8)
    options = EvaluationOptions(protocol="whole")
    assert torch.equal(predict_image(lambda part: {"linear": part}, image, (6, 8), options)["linear"], image)
    ramp = torch.arange(4.0).expand(1, 1, 3, 4)
    found = predict_image(lambda part: {"linear": part}, ramp, (6, 8), options)["linear"]
    # Pixel x of the doubled map has its middle at x / 2 - 1 / 4 of the small one; the border is continued.
    assert found[0, 0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    assert found.shape == (1, 1, 6, 8)


def test_the_protocol_decides_about_windows():
    image = torch.randn(1, 1, 7, 7, dtype=torch.float64)
    slid = EvaluationOptions(protocol="slide", window=4, stride=3)
    found = predict_image(batch_view, image, (7, 7), slid)["linear"]
    assert torch.equal(found, slide(whole_view, image, 4, 3)["linear"])
    for protocol in ("whole", "crop"):
        options = EvaluationOptions(protocol=protocol, window=4, stride=3)
        assert torch.equal(predict_image(whole_view, image, (7, 7), options)["linear"], whole_view(image)["linear"])


def slow_crop(pixels: np.ndarray, side: int, fill: int) -> np.ndarray:
    """Pixel by pixel: where the crop's pixel lies in the image, if it lies there."""
    height, width = pixels.shape
    out = np.full((side, side), fill, pixels.dtype)
    top = (height - side) // 2 if height >= side else -((side - height) // 2)
    left = (width - side) // 2 if width >= side else -((side - width) // 2)
    for y in range(side):
        for x in range(side):
            if 0 <= y + top < height and 0 <= x + left < width:
                out[y, x] = pixels[y + top, x + left]
    return out


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), side=st.integers(1, 9), fill=st.sampled_from([0, 255]))
def test_the_centre_crop_pads_evenly_with_the_odd_pixel_last(height, width, side, fill):
    pixels = torch.arange(1, height * width + 1).view(height, width)
    expected = slow_crop(pixels.numpy(), side, fill)
    assert np.array_equal(center_crop(pixels, side, fill).numpy(), expected)
    stacked = center_crop(pixels.expand(1, 3, -1, -1), side, fill)
    assert np.array_equal(stacked.numpy(), np.broadcast_to(expected, (1, 3, side, side)))


def test_the_frame_of_a_voc_image_is_a_third_of_the_crop():
    """375 x 500 in 513 x 513: 28.8 % of the scored pixels are padding."""
    crop = center_crop(torch.ones(375, 500), 513, 0)
    assert (crop == 0).float().mean().item() == pytest.approx(0.288, abs=5e-4)


def test_precision_is_that_of_the_networks_only_on_demand():
    weight = torch.randn(4, 4)
    with precision_context("bf16", torch.device("cpu")):
        assert (weight @ weight).dtype == torch.bfloat16
    with precision_context("fp32", torch.device("cpu")):
        assert (weight @ weight).dtype == torch.float32
