"""Smooth windows: their weights, no seams, and a picture piece by piece as in one piece."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from semiseg.config.options import EvaluationOptions
from semiseg.evaluation.native import enlarged, in_memory, label_maps, labelled, predict_pieces
from semiseg.evaluation.views import averaged
from semiseg.evaluation.windows import Piece, Windows, edge_weights, predict_image, slide, starts

CPU = torch.device("cpu")


@given(length=st.integers(1, 120), window=st.integers(1, 60), share=st.floats(0.2, 1))
def test_weights_of_a_pixel_add_up_to_one(length, window, share):
    first = starts(length, window, max(1, int(share * window)))
    total = np.zeros(length)
    for start, weights in zip(first, edge_weights(length, window, first), strict=True):
        assert len(weights) == min(window, length)
        assert weights.min() > 0
        for place, weight in enumerate(weights.tolist()):
            total[start + place] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def view(image: Tensor) -> Tensor:
    """Depends on where in the window a pixel lies, so that windows disagree."""
    height, width = image.shape[-2:]
    place = torch.arange(height * width, dtype=image.dtype).view(1, 1, height, width)
    return torch.cat([image * image.mean() + place, image.square() - place], 1)


def views(images: Tensor) -> dict[str, Tensor]:
    return {"linear": torch.cat([view(image[None]) for image in images])}


def slow_smooth(image: Tensor, window: int, stride: int) -> np.ndarray:
    """Every window by itself: raised cosines, added, and divided by their sum."""
    height, width = image.shape[-2:]
    total, weights = np.zeros((2, height, width)), np.zeros((height, width))
    for top in starts(height, window, stride):
        for left in starts(width, window, stride):
            seen = view(image[:, :, top : top + window, left : left + window])[0].numpy()
            ramps = [0.001 + 0.999 * np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in seen.shape[1:]]
            weight = np.outer(*ramps)
            total[:, top : top + window, left : left + window] += weight * seen
            weights[top : top + window, left : left + window] += weight
    return total / weights


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 17), width=st.integers(1, 17), window=st.integers(2, 9), share=st.floats(0.2, 1),
    at_once=st.integers(1, 5),
)  # fmt: skip
def test_smooth_windows_are_the_weighted_mean(height, width, window, share, at_once):
    stride = max(1, int(share * window))
    image = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(height), dtype=torch.float64)
    found = slide(views, image, window, stride, at_once, "smooth")["linear"][0].numpy()
    np.testing.assert_allclose(found, slow_smooth(image, window, stride), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blend", ["mean", "smooth"])
def test_several_pictures_at_once_are_each_by_itself(blend):
    images = torch.randn(3, 1, 11, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = slide(views, images, 5, 3, 2, blend)["linear"]
    for number, image in enumerate(images):
        assert torch.equal(together[number], slide(views, image[None], 5, 3, 2, blend)["linear"][0])


def net(scale: float = 0.2) -> nn.Sequential:
    """Sees 10 pixels in each direction, and beyond a border zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 9, padding=4), nn.ReLU()]
        made = nn.Sequential(*layers, nn.Conv2d(8, 4, 9, padding=4))
    for layer in made:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=scale / layer.weight[0].numel() ** 0.5 * 5)
    return made.eval()


REACH = 10


@torch.inference_mode()
@pytest.mark.parametrize("blend", ["mean", "smooth"])
def test_windows_give_what_the_whole_gives_where_no_window_ends_within_reach(blend):
    network, (height, width), window, stride = net(), (157, 131), 64, 48
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    whole = network(image)
    found = slide(lambda part: {"linear": network(part)}, image, window, stride, 3, blend)["linear"]
    clean = np.ones((height, width), bool)
    for tops, side, axis in ((starts(height, window, stride), height, 0), (starts(width, window, stride), width, 1)):
        for first in tops:
            for end in (first, first + window):
                if 0 < end < side:
                    clean[(slice(None),) * axis + (slice(max(end - REACH, 0), end + REACH),)] = False
    assert clean.mean() > 0.05
    difference = (found - whole)[0].abs().max(0).values.numpy()
    assert difference[clean].max() < 1e-4
    assert difference[~clean].max() > 1e-3


@torch.inference_mode()
def test_no_seam_is_left_where_windows_are_worst_at_their_borders():
    """Every pixel is wrong by about 1, and within 6 pixels of its window's border by 2 more, as beside padding."""
    side, window, stride = 512, 96, 72
    image = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(2))

    def predict(part: Tensor) -> dict[str, Tensor]:
        wrong = torch.full(part.shape, 2.0)
        wrong[..., 6:-6, 6:-6] = 0
        return {"linear": part + wrong}

    at = torch.zeros(side, dtype=torch.bool)
    for first in starts(side, window, stride):
        for end in (first, first + window):
            if 0 < end < side:
                at[end - 6 : end + 6] = True
    middle = slice(96, -96)  # beside the image's own border there is one window
    near = (at[:, None] | at)[middle, middle]
    worse = {}
    for blend in ("mean", "smooth"):
        error = slide(predict, image, window, stride, 4, blend)["linear"][0, 0].abs()[middle, middle]
        worse[blend] = float(error[near].mean() / error[~near].mean())
    assert worse["mean"] > 1.2
    assert worse["smooth"] < 1.05


@torch.inference_mode()
@pytest.mark.parametrize(
    ("small", "size"), [((23, 31), (57, 71)), ((40, 9), (17, 5)), ((1, 1), (4, 6)), ((8, 6), (16, 12))]
)
def test_enlarged_in_strips_is_enlarged_at_once(small, size, monkeypatch):
    monkeypatch.setattr("semiseg.evaluation.native._ENLARGED", 2000)
    logits = torch.randn(2, 3, *small, generator=torch.Generator().manual_seed(0))
    cut = Windows(*small, 5, 4)
    pieces = cut.pieces(lambda part: {"linear": part}, lambda rows, columns: logits[..., rows, columns])
    found = torch.full((2, 3, *size), torch.nan)
    for piece in enlarged(pieces, small, size):
        found[..., piece.rows, piece.columns] = piece.logits[""]
    expected = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("protocol", ["whole", "slide"])
def test_the_pieces_of_a_picture_are_what_validation_scores(scale, protocol):
    network = net()
    pixels = np.random.default_rng(0).integers(0, 256, (51, 77, 3), np.uint8)
    options = EvaluationOptions(protocol=protocol, window=32, stride=20)
    pieces = predict_pieces(lambda part: {"linear": network(part)}, [in_memory(pixels)], scale, options, CPU)
    label, confidence = label_maps(pieces, 51, 77)
    from semiseg.evaluation.native import shrunk
    from semiseg.parts.augment import as_batch

    logits = predict_image(lambda part: {"linear": network(part)}, as_batch(shrunk(pixels, scale)), (51, 77), options)
    share, expected = logits["linear"][0].softmax(0).max(0)
    assert (label == expected.numpy()).mean() > 0.999
    np.testing.assert_allclose(confidence, share.numpy(), atol=1e-5)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        labelled(torch.full((1, 2, 3, 3), torch.nan))


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("both", 4)])
def test_flips_average_probabilities_of_views_put_back(flips, count):
    image = torch.randn(2, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    seen = []

    def predict(part: Tensor) -> dict[str, Tensor]:
        seen.append(part)
        return {"linear": torch.cat([part, -part], 1)}

    found = averaged(predict, flips, (1.0,))(image)["linear"].softmax(1)
    assert len(seen) == count
    torch.testing.assert_close(found, torch.cat([image, -image], 1).softmax(1))


def test_scales_are_taken_and_put_back():
    sizes = []

    def predict(part: Tensor) -> dict[str, Tensor]:
        sizes.append(tuple(part.shape[-2:]))
        return {"linear": torch.cat([part, -part], 1)}

    found = averaged(predict, "none", (0.5, 1.0, 1.5))(torch.ones(1, 1, 6, 8))["linear"].softmax(1)
    assert sizes == [(3, 4), (6, 8), (9, 12)]
    torch.testing.assert_close(found[0, 0], torch.full((6, 8), torch.tensor(2.0).sigmoid().item()))


def test_a_piece_is_taken_before_the_next():
    """What is held is a window and the rows that the next windows see."""
    cut = Windows(40, 30, 10, 8, 1, "smooth")
    image = torch.zeros(1, 1, 40, 30)
    pieces = [
        (piece.rows, piece.columns)
        for piece in cut.pieces(lambda part: {"a": part}, lambda rows, columns: image[..., rows, columns])
    ]
    covered = np.zeros((40, 30), int)
    for rows, columns in pieces:
        covered[rows, columns] += 1
    assert (covered == 1).all()
    assert len(pieces) == cut.count
    assert Piece.__doc__
