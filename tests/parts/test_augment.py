"""The weak view against resize-then-crop-then-pad in torch, the strong view against one pixel at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from semiseg.config.options import AugmentOptions
from semiseg.parts import augment
from semiseg.parts.augment import (
    BLUR_RADIUS,
    MEAN,
    STD,
    as_batch,
    denormalise,
    draw_strong,
    normalise,
    some_strong_views,
    strong_view,
    weak_view,
)

STILL = {"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0}  # a weak view that only crops
GRAY = {"jitter_probability": 0.0, "gray_probability": 1.0, "blur_probability": 0.0}
NO_COLOUR = {"jitter_probability": 0.0, "gray_probability": 0.0, "blur_probability": 0.0}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours(batch: int = 6, size: int = 40) -> torch.Tensor:
    """Normalised images whose RGB stays well inside [0, 1]."""
    rgb = 0.3 + 0.4 * torch.rand(batch, 3, size, size, generator=generator(9))
    return (rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_normalise_follows_the_formula_and_denormalise_undoes_it():
    image = picture(7, 9)
    expected = (image / 255 - np.array(MEAN)) / np.array(STD)
    found = normalise(torch.from_numpy(image))
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-5)
    np.testing.assert_allclose(denormalise(found).permute(1, 2, 0), image / 255, atol=1e-6)


def test_every_device_looks_up_the_same_values():
    every_byte = torch.arange(256, dtype=torch.uint8)[:, None, None].expand(256, 2, 3)
    assert torch.equal(augment._looked_up_on_cpu(every_byte), augment._looked_up(every_byte))


def test_a_batch_is_normalised_image_by_image_with_its_channels_last():
    images = torch.from_numpy(np.stack([picture(7, 9, seed) for seed in range(3)]))
    found = normalise(images)
    assert (found.shape, found.dtype) == ((3, 3, 7, 9), torch.float32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, one in zip(images, found, strict=True):
        assert torch.equal(as_batch(image.numpy()), one[None])
    assert as_batch(images[0].numpy()).is_contiguous()


def middle(position, resized, original):
    """The original pixel that holds the middle of a resized one, in exact arithmetic."""
    return math.floor((position + Fraction(1, 2)) * Fraction(original, resized))


def slow_weak_views(image, label, options, scale, pad_label):
    """Every view that a resize by `scale` can give, as (image, label, valid): resize, flip, crop and pad in turn."""
    height, width = (int(side * scale) for side in label.shape)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    pixels = functional.interpolate(pixels[None], (height, width), mode="bilinear", align_corners=False)[0]
    classes = torch.tensor(
        [
            [int(label[middle(y, height, label.shape[0]), middle(x, width, label.shape[1])]) for x in range(width)]
            for y in range(height)
        ]
    )
    down, right = max(options.crop_height - height, 0), max(options.crop_width - width, 0)
    pad = [right // 2, right - right // 2, down // 2, down - down // 2]
    for flips in ((), (-1,), (-2,), (-1, -2)):
        for top in range(max(height - options.crop_height, 0) + 1):
            for left in range(max(width - options.crop_width, 0) + 1):
                rows, columns = slice(top, top + options.crop_height), slice(left, left + options.crop_width)
                part, part_label = pixels.flip(flips)[:, rows, columns], classes.flip(flips)[rows, columns]
                valid = functional.pad(torch.ones_like(part_label), pad).bool()
                yield functional.pad(part, pad), functional.pad(part_label, pad, value=pad_label).byte(), valid


@settings(max_examples=20, deadline=None)
@given(st.integers(16, 44), st.integers(16, 44), st.sampled_from([0, 255]), st.integers(0, 10**6))
def test_weak_view_is_one_of_the_slow_views(height, width, pad_label, seed):
    options = AugmentOptions(crop_height=32, crop_width=33, scale_max=1.3, flip_vertical=0.5)
    image = picture(height, width, seed)
    label = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    view, classes, valid = weak_view(image, label, options, pad_label, np.random.default_rng(seed))

    coin, position = np.random.default_rng(seed).random(2)
    scale = 0.5 + position * 0.5 if coin < 0.5 else 1 + position * 0.3
    candidates = slow_weak_views(image, label, options, scale, pad_label)
    same_label = [candidate for candidate in candidates if torch.equal(candidate[1], classes)]
    assert same_label, "the label is no flipped crop of the resized label"
    slow_image, _, slow_valid = same_label[0]
    assert torch.equal(valid, slow_valid)
    error = (normalise(view) - slow_image)[:, valid].abs().max()
    assert error < 1.1 / 255 / min(STD)  # the fast one rounds to bytes: up to one level
    assert (view[~valid] == 0).all()


def test_the_label_moves_with_the_image():
    """An image whose gray is its label: without resizing the two stay equal pixel by pixel."""
    label = np.random.default_rng(3).integers(0, 256, (50, 60), dtype=np.uint8)
    options = AugmentOptions(crop_height=40, crop_width=40, scale_min=1, scale_max=1, flip_vertical=0.5)
    for seed in range(10):
        view, classes, _ = weak_view(
            np.repeat(label[..., None], 3, 2), label, options, 255, np.random.default_rng(seed)
        )
        assert torch.equal(view[..., 0], classes)


def test_the_frame_is_0_and_odd_pixels_go_right_and_below():
    image, label = picture(37, 36), np.full((37, 36), 255, np.uint8)
    options = AugmentOptions(crop_height=40, crop_width=41, **STILL)
    view, classes, valid = weak_view(image, label, options, 0, np.random.default_rng(0))
    expected = torch.zeros(40, 41, dtype=torch.bool)
    expected[1:38, 2:38] = True  # 3 missing rows: 1 above, 2 below; 5 missing columns: 2 left, 3 right
    assert torch.equal(valid, expected)
    assert (view[~valid] == 0).all()
    assert (classes[~valid] == 0).all()
    assert (classes[valid] == 255).all(), "an ignored pixel inside the image stays ignored, whatever the frame is"


def test_pad_label_is_the_only_difference_between_its_two_values():
    image, label = picture(30, 50), np.zeros((30, 50), np.uint8)
    options = AugmentOptions(crop_height=64, crop_width=64)
    view, ignored, valid = weak_view(image, label, options, 255, np.random.default_rng(5))
    twin, trained, twin_valid = weak_view(image, label, options, 0, np.random.default_rng(5))
    assert torch.equal(view, twin)
    assert torch.equal(valid, twin_valid)
    assert (ignored[~valid] == 255).all()
    assert (trained[~valid] == 0).all()
    assert not valid.all()


def test_without_a_label_the_image_is_the_same():
    image = picture(50, 70)
    options = AugmentOptions(crop_height=40, crop_width=40)
    view, label, valid = weak_view(image, None, options, 255, np.random.default_rng(1))
    twin, _, twin_valid = weak_view(image, np.zeros((50, 70), np.uint8), options, 255, np.random.default_rng(1))
    assert label is None
    assert (view.dtype, valid.dtype) == (torch.uint8, torch.bool)
    assert torch.equal(view, twin)
    assert torch.equal(valid, twin_valid)


def test_half_of_the_scales_lie_below_one_and_each_half_is_uniform():
    options = AugmentOptions(crop_height=200, crop_width=200)
    rng, image = np.random.default_rng(0), picture(100, 100)
    sides = np.array([weak_view(image, None, options, 255, rng)[2].any(1).sum().item() for _ in range(600)])
    below, above = sides[sides < 100] / 100, sides[sides >= 100] / 100
    assert len(below) / 600 == pytest.approx(0.5, abs=0.08)  # U(0.5, 2) would give a third
    for values, low, high in ((below, 0.5, 1.0), (above, 1.0, 2.0)):
        assert np.quantile(values, [0.1, 0.5, 0.9]) == pytest.approx(
            [low + q * (high - low) for q in (0.1, 0.5, 0.9)], abs=0.1 * (high - low)
        )


def test_crop_offsets_are_uniform_with_both_ends_and_half_are_flipped():
    label = np.tile(np.arange(40, dtype=np.uint8), (36, 1))
    options = AugmentOptions(crop_height=32, crop_width=36, scale_min=1, scale_max=1)
    rng, image = np.random.default_rng(0), picture(36, 40)
    rows = [weak_view(image, label, options, 255, rng)[1][0] for _ in range(500)]
    flipped = [bool(row[0] > row[-1]) for row in rows]
    lefts = np.bincount([int(row.min()) for row in rows], minlength=5)
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)
    assert lefts / 500 == pytest.approx([0.2] * 5, abs=0.07)


@pytest.mark.parametrize(("flip", "expected"), [(0.0, 0), (1.0, 1)])
def test_flips_at_the_ends_of_their_probability(flip, expected):
    label = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) % 251
    options = AugmentOptions(crop_height=32, crop_width=32, scale_min=1, scale_max=1, flip=flip, flip_vertical=flip)
    _, classes, _ = weak_view(picture(32, 32), label.astype(np.uint8), options, 255, np.random.default_rng(0))
    mirrored = label[::-1, ::-1] if expected else label
    np.testing.assert_array_equal(classes, mirrored)


def slow_recoloured(pixel, mean_luma, brightness, contrast, saturation, hue, gray):
    """One RGB pixel through the jitter, step by step."""

    def luma(rgb):
        return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]

    rgb = [value * brightness for value in pixel]
    rgb = [(value - mean_luma * brightness) * contrast + mean_luma * brightness for value in rgb]
    y = luma(rgb)
    rgb = [y + (value - y) * saturation for value in rgb]
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    y, i, q = yiq @ rgb
    turned = complex(i, q) * complex(math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue))
    rgb = np.linalg.solve(yiq, [y, turned.real, turned.imag])
    if gray:
        rgb = [luma(rgb)] * 3
    return [min(max(value, 0.0), 1.0) for value in rgb]


def test_colour_of_every_sample_is_that_of_its_own_parameters():
    options = AugmentOptions(blur_probability=0.0, gray_probability=0.4)
    image = colours()
    view = denormalise(strong_view(image, options, generator(4)))
    parameters = draw_strong(len(image), options, generator(4))
    assert len(set(parameters.hue.tolist())) > 2
    assert parameters.gray.any()
    assert not parameters.gray.all()
    rgb = denormalise(image)
    for sample in range(len(image)):
        drawn = [values[sample].item() for values in parameters[:5]]
        red, green, blue = rgb[sample].double().mean((1, 2)).tolist()
        mean_luma = 0.299 * red + 0.587 * green + 0.114 * blue
        for y, x in ((0, 0), (3, 17), (39, 39)):
            slow = slow_recoloured(rgb[sample, :, y, x].tolist(), mean_luma, *drawn)
            assert view[sample, :, y, x].tolist() == pytest.approx(slow, abs=2e-5)


def test_blur_of_every_sample_is_a_gaussian_of_its_own_width():
    options = AugmentOptions(jitter_probability=0.0, gray_probability=0.0, blur_probability=0.6)
    image = torch.zeros(8, 3, 41, 41)
    image[:, :, 20, 20] = 1
    view = strong_view(image, options, generator(2))
    sigmas = draw_strong(8, options, generator(2)).sigma
    assert len(set(sigmas.tolist())) > 3
    assert (sigmas == 0).any()
    offsets = np.arange(41) - 20
    for sigma, sample in zip(sigmas.tolist(), view, strict=True):
        if sigma == 0:
            assert torch.equal(sample, image[0])
            continue
        line = np.exp(-(offsets**2) / (2 * sigma**2)) * (abs(offsets) <= BLUR_RADIUS)
        square = np.outer(line, line) / line.sum() ** 2
        for channel in sample:
            np.testing.assert_allclose(channel, square, atol=1e-5)


def test_blur_keeps_a_flat_image_up_to_its_border():
    options = AugmentOptions(jitter_probability=0.0, gray_probability=0.0, blur_probability=1.0)
    image = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1).expand(2, 3, 33, 35)
    torch.testing.assert_close(strong_view(image, options, generator()), image.contiguous())


def test_nothing_happens_at_probability_zero():
    image = torch.randn(3, 3, 40, 40, generator=generator(1)) * 3  # also beyond [0, 1] in RGB
    assert torch.equal(strong_view(image, AugmentOptions(**NO_COLOUR), generator()), image)


def test_a_sample_is_independent_of_its_neighbours():
    image = colours(4)
    view = strong_view(image, AugmentOptions(), generator(7))
    changed = image.clone()
    changed[1:] = torch.randn(3, 3, 40, 40, generator=generator(8))
    torch.testing.assert_close(strong_view(changed, AugmentOptions(), generator(7))[0], view[0])


def test_the_generator_decides_and_only_it():
    image = colours()
    view = strong_view(image, AugmentOptions(), generator(1))
    torch.manual_seed(123)
    assert torch.equal(strong_view(image, AugmentOptions(), generator(1)), view)
    assert not torch.equal(strong_view(image, AugmentOptions(), generator(2)), view)


def test_some_samples_are_strong_views_and_the_others_as_they_were():
    image = colours(400)[:, :, :12, :12].contiguous()
    view = some_strong_views(image, AugmentOptions(labeled_colors=0.3, **GRAY), generator(3))
    gray = (image.mean(1, keepdim=True) - view.mean(1, keepdim=True)).abs().amax((1, 2, 3)) > 0
    same = (view == image).all((1, 2, 3))
    assert (same | gray).all()
    assert (~same).float().mean() == pytest.approx(0.3, abs=0.08)
    again = generator(3)
    chances = torch.rand(400, generator=again)
    strong = strong_view(image, AugmentOptions(**GRAY), again)
    for sample in range(0, 400, 7):
        expected = strong[sample] if chances[sample] < 0.3 else image[sample]
        assert torch.equal(view[sample], expected)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all_samples_are_strong_views(share):
    image = colours()
    view = some_strong_views(image, AugmentOptions(labeled_colors=share, **GRAY), generator(3))
    assert (view == image).all((1, 2, 3)).tolist() == [share == 0] * len(image)


def test_strong_view_is_float32_under_autocast():
    image = colours()
    plain = strong_view(image, AugmentOptions(), generator(1))
    with torch.autocast("cpu", torch.bfloat16):
        cast = strong_view(image.bfloat16(), AugmentOptions(), generator(1))
        same = strong_view(image, AugmentOptions(), generator(1))
    assert cast.dtype == torch.float32
    assert torch.equal(same, plain)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 0.5))
def test_strong_view_stays_in_rgb_range_and_finite(seed, spread, hue):
    options = AugmentOptions(brightness=spread, contrast=spread, saturation=spread, hue=hue)
    image = torch.rand(2, 3, 32, 32, generator=generator(seed))
    rgb = denormalise(
        strong_view(
            (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], options, generator(seed)
        )
    )
    assert rgb.isfinite().all()
    assert rgb.min() >= -1e-5
    assert rgb.max() <= 1 + 1e-5


def test_shares_and_ranges_of_the_draws():
    options = AugmentOptions()
    drawn = draw_strong(4000, options, generator(0))
    jittered = drawn.brightness != 1
    assert jittered.float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert drawn.gray.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (drawn.sigma > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    for values, low, high in (
        (drawn.brightness[jittered], 0.5, 1.5),
        (drawn.contrast[jittered], 0.5, 1.5),
        (drawn.saturation[jittered], 0.5, 1.5),
        (drawn.hue[jittered], -0.25, 0.25),
        (drawn.sigma[drawn.sigma > 0], 0.1, 2.0),
    ):
        expected = [low + q * (high - low) for q in (0.0, 0.25, 0.75, 1.0)]
        assert np.quantile(values.numpy(), [0, 0.25, 0.75, 1]) == pytest.approx(expected, abs=0.03 * (high - low))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_draws_the_same_and_never_waits():
    image = colours()
    on_gpu = image.cuda()
    strong_view(on_gpu, AugmentOptions(), generator(3))  # the first call loads libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        view = strong_view(on_gpu, AugmentOptions(), generator(3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(view.cpu(), strong_view(image, AugmentOptions(), generator(3)), atol=5e-3, rtol=0)
