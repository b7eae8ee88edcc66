"""Points of a feature map, and a fair sample of features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from semiseg.parts.sampling import ClassSample, all_points, device_random, grid_points, pick, pick_pixels
from semiseg.types import IGNORE


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bilinear(features: np.ndarray, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
    """The slow twin: the feature (D,) at pixel (y, x) of `size`, of a map (D, h, w), corners aligned."""
    _, h, w = features.shape
    v = y * (h - 1) / (size[0] - 1) if size[0] > 1 else 0.0
    u = x * (w - 1) / (size[1] - 1) if size[1] > 1 else 0.0
    top, left = min(int(v), h - 1), min(int(u), w - 1)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    above = (1 - (u - left)) * features[:, top, left] + (u - left) * features[:, top, right]
    below = (1 - (u - left)) * features[:, bottom, left] + (u - left) * features[:, bottom, right]
    return (1 - (v - top)) * above + (v - top) * below


# ---- where ----


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=100)
def test_one_point_in_every_cell(height, width, grid, seed):
    points = grid_points(height, width, grid, seeded(seed))
    rows, columns = min(grid, height), min(grid, width)
    cell_height, cell_width = height // rows, width // columns
    cells = [(y // cell_height, x // cell_width) for y, x in points.tolist()]
    assert cells == [(row, column) for row in range(rows) for column in range(columns)]


def test_the_papers_crop_has_1024_points_and_never_the_last_row_or_column():
    draws = [grid_points(513, 513, 32, seeded(seed)) for seed in range(30)]
    for points in draws:
        assert len(points.unique(dim=0)) == 1024
        assert len((points // 16).unique(dim=0)) == 1024
    assert max(int(points.max()) for points in draws) == 511


def test_a_point_is_uniform_in_its_cell_and_independent_of_its_neighbours():
    draws = torch.stack([grid_points(6, 6, 2, seeded(seed)) for seed in range(900)])  # (900, 4, 2)
    for cell in range(4):
        places, counts = draws[:, cell].unique(dim=0, return_counts=True)
        assert len(places) == 9
        assert counts.min() > 60
        assert counts.max() < 140
    correlation = torch.corrcoef(draws.flatten(1).T.float())
    assert (correlation - torch.eye(8)).abs().max() < 0.15


def test_all_points_go_row_by_row():
    assert all_points(2, 3).tolist() == [[y, x] for y in range(2) for x in range(3)]


# ---- what ----


@pytest.mark.parametrize(("small", "large"), [(129, 513), (193, 769)])
@pytest.mark.parametrize("seed", range(5))
def test_picking_equals_upsampling_and_indexing_at_the_papers_sizes(small, large, seed):
    features = torch.rand(1, 3, small, small, generator=seeded(seed))
    points = grid_points(large, large, 32, seeded(seed))
    upsampled = F.interpolate(features, size=(large, large), mode="bilinear", align_corners=True)
    expected = upsampled[:, :, points[:, 0], points[:, 1]].transpose(1, 2)
    assert (pick(features, points, (large, large)) - expected).abs().max() < 1e-6


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))


@given(shapes, st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_picking_equals_the_slow_twin(shape, seed):
    h, w, height, width = shape
    features = torch.rand(2, 3, h, w, generator=seeded(seed))
    points = torch.stack([torch.randint(0, side, (2, 5), generator=seeded(seed)) for side in (height, width)], -1)
    picked = pick(features, points, (height, width))
    for b, n in np.ndindex(2, 5):
        y, x = points[b, n].tolist()
        expected = bilinear(features[b].double().numpy(), y, x, (height, width))
        np.testing.assert_allclose(picked[b, n].numpy(), expected, atol=1e-6)


def test_points_are_shared_or_each_images_own():
    features = torch.rand(2, 3, 5, 6)
    points = all_points(9, 11)[::7]
    shared = pick(features, points, (9, 11))
    assert shared.shape == (2, len(points), 3)
    assert shared.equal(pick(features, points.expand(2, -1, -1), (9, 11)))
    assert shared.equal(pick(features.flip(0), points, (9, 11)).flip(0))


def test_gradients_of_picking_are_those_of_upsampling():
    features = torch.rand(2, 3, 5, 6, requires_grad=True)
    points = grid_points(17, 21, 4, seeded())
    weight = torch.randn(2, len(points), 3)
    (pick(features, points, (17, 21)) * weight).sum().backward()
    twin = features.detach().clone().requires_grad_()
    upsampled = F.interpolate(twin, size=(17, 21), mode="bilinear", align_corners=True)
    (upsampled[:, :, points[:, 0], points[:, 1]].transpose(1, 2) * weight).sum().backward()
    torch.testing.assert_close(features.grad, twin.grad, atol=1e-5, rtol=0)


def test_picking_computes_in_float32_under_autocast():
    features = torch.rand(1, 3, 5, 6).bfloat16()
    points = all_points(9, 11)
    with torch.autocast("cpu", torch.bfloat16):
        picked = pick(features, points, (9, 11))
    assert picked.dtype == torch.float32
    assert picked.equal(pick(features.float(), points, (9, 11)))


@pytest.mark.parametrize("own", [False, True])
def test_pixels_of_full_maps(own):
    maps = torch.rand(2, 4, 5)
    points = all_points(4, 5)[[3, 19, 3, 0]]
    picked = pick_pixels(maps, torch.stack([points, points.flip(0)]) if own else points)
    for b, n in np.ndindex(2, 4):
        y, x = (points.flip(0) if own and b else points)[n].tolist()
        assert picked[b, n] == maps[b, y, x]


# ---- a fair sample ----


def coordinates(height: int, width: int, image: int = 0) -> Tensor:
    """Features that say where they are: (1, 3, height, width) of image, row and column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.full_like(rows, image), rows, columns])[None].float()


def test_every_sampled_feature_is_of_its_class():
    label = torch.randint(0, 3, (6, 7), generator=seeded())
    label[0] = IGNORE
    sample = ClassSample(4, limit=100, generator=seeded())
    sample.add_image(coordinates(6, 7), label, most=100)
    features, classes = sample.result()
    places = [(y, x) for _, y, x in features.round().int().tolist()]
    found = dict(zip(places, classes.tolist(), strict=True))
    assert len(found) == len(places)
    expected = {(y, x): int(label[y, x]) for y, x in np.ndindex(6, 7) if label[y, x] != IGNORE}
    assert found == expected
    assert classes.tolist() == sorted(classes.tolist())


def test_features_coarser_than_the_label_are_upsampled():
    label = torch.zeros(9, 13, dtype=torch.long)
    label[4, 6] = 1
    sample = ClassSample(2, limit=10, generator=seeded())
    sample.add_image(coordinates(3, 4), label, most=10)
    features, classes = sample.result()
    torch.testing.assert_close(features[classes == 1], torch.tensor([[0.0, 4 * 2 / 8, 6 * 3 / 12]]), atol=1e-5, rtol=0)


def test_at_most_so_many_pixels_per_image_and_per_class():
    sample = ClassSample(2, limit=50, generator=seeded())
    for image in range(20):
        sample.add_image(coordinates(6, 6, image), torch.arange(36).view(6, 6) // 30, most=4)
    features, classes = sample.result()
    assert classes.bincount().tolist() == [50, 50]
    for number in range(2):
        images = features[classes == number][:, 0].int()
        assert images.bincount().max() <= 4
    assert len(features.unique(dim=0)) == 100


def test_an_image_gives_a_random_few_of_its_pixels():
    found = set()
    for seed in range(30):
        sample = ClassSample(1, limit=50, generator=seeded(seed))
        sample.add_image(coordinates(3, 3), torch.zeros(3, 3, dtype=torch.long), most=4)
        features, _ = sample.result()
        assert len(features.unique(dim=0)) == len(features) == 4
        found |= {tuple(feature) for feature in features.tolist()}
    assert len(found) == 9


def test_no_feature_of_the_stream_is_favoured():
    """200 images of one pixel, 20 stay: each image stays in a tenth of the draws, early or late."""
    stayed = torch.zeros(200)
    for seed in range(100):
        sample = ClassSample(1, limit=20, generator=seeded(seed))
        for image in range(200):
            sample._add(0, torch.tensor([[float(image)]]))
        features, _ = sample.result()
        assert len(features) == 20
        stayed[features[:, 0].long()] += 1
    assert stayed.sum() == 2000
    for part in stayed.split(50):
        assert 400 < part.sum() < 600


def test_memory_stays_flat():
    sample = ClassSample(1, limit=5, generator=seeded())
    for _ in range(50):
        sample._add(0, torch.rand(3, 2))
        assert sum(len(keys) for keys, _ in sample.kept[0]) <= 10


def test_an_empty_stream_and_an_absent_class():
    sample = ClassSample(3, limit=5, generator=seeded())
    features, classes = sample.result()
    assert (len(features), len(classes)) == (0, 0)
    sample.add_image(coordinates(2, 2), torch.full((2, 2), 1), most=9)
    assert sample.result()[1].tolist() == [1, 1, 1, 1]


# Random numbers on a device -------------------------------------------------------------------------------------------


def test_numbers_on_a_device_are_uniform_and_follow_from_the_clocks_generator():
    generator = torch.Generator().manual_seed(3)
    first, second = (device_random((64, 40, 40), generator, torch.device("cpu")).flatten() for _ in range(2))
    again = device_random((64, 40, 40), torch.Generator().manual_seed(3), torch.device("cpu")).flatten()
    assert again.equal(first)
    for found in (first, second):
        assert 0 <= found.min() < 1e-4
        assert 1 - 1e-4 < found.max() < 1
        np.testing.assert_allclose(np.histogram(found, 10, (0, 1))[0] / found.numel(), 0.1, atol=0.005)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_on_the_meta_device_numbers_have_a_shape_and_no_values():
    """Where steps are counted without being run."""
    found = device_random((2, 3), seeded(), torch.device("meta"), torch.float64)
    assert (found.device.type, found.shape, found.dtype) == ("meta", (2, 3), torch.float64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU draws by itself")
def test_a_gpu_takes_one_number_of_the_clocks_generator_whatever_its_size():
    states = []
    for shape in [(1,), (50, 60)]:
        generator = torch.Generator().manual_seed(0)
        assert device_random(shape, generator, torch.device("cuda"), torch.float64).is_cuda
        states.append(generator.get_state())
    assert states[0].equal(states[1])
