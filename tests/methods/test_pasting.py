"""What AEL pastes, and where, against loops; regions against scipy's."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from semiseg.methods.details.ael_pasting import GRID, hard_classes, pixel_dice, region_boxes, regions
from semiseg.types import IGNORE, PseudoLabel

CLASSES = 4
EVERY = torch.ones(CLASSES, dtype=torch.bool)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(seed: int, batch: int = 3) -> Tensor:
    """Image i shows no class above i + 1, and some IGNORE."""
    found = torch.stack([torch.randint(0, i % 3 + 2, (5, 7), generator=generator(seed + i)) for i in range(batch)])
    found[:, 0, :2] = IGNORE
    return found


# ---- copy-paste ----


def twin_paste(
    label: np.ndarray, hardness: list[float], left_out: set[int], number: int, probability: float, dice: np.ndarray
):
    """Image by image: a class's key is its logit plus Gumbel noise; those with the largest keys are pasted."""
    shown = np.zeros(label.shape, bool)
    for i in range(len(label)):
        partner = label[(i + 1) % len(label)]
        classes = set(partner.flatten().tolist()) - {IGNORE} - left_out
        key = {k: math.sqrt(hardness[k]) - math.log(-math.log(dice[i, 1 + k])) for k in classes}
        drawn = sorted(classes, key=lambda k: -key[k])[:number] if dice[i, 0] < probability else []
        for place in np.ndindex(*partner.shape):
            shown[i][place] = partner[place] in drawn
    return shown


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("number", "probability"), [(1, 0.5), (2, 1.0), (9, 1.0), (1, 0.0)])
@pytest.mark.parametrize("left_out", [set(), {0}, {1, 2}])
def test_pixels_of_hard_classes_are_pasted(seed, number, probability, left_out):
    label, hardness = labels(seed), [0.1, 0.9, 0.4, 1.0]
    dice = torch.rand(3, CLASSES + 1, generator=generator(seed)).numpy()
    allowed = torch.tensor([number not in left_out for number in range(CLASSES)])
    found = hard_classes(label, torch.tensor(hardness), allowed, number, probability, generator(seed))
    assert np.array_equal(found.numpy(), twin_paste(label.numpy(), hardness, left_out, number, probability, dice))


def test_a_class_is_drawn_as_often_as_its_softmax_says_among_those_that_are_there():
    hardness = torch.tensor([0.0, 1.0, 0.25, 0.5])
    label = torch.tensor([0, 2, 3, IGNORE]).expand(20_000, 1, 4)  # class 1 is nowhere
    shown = hard_classes(label, hardness, EVERY, 1, 1.0, generator(0))[:, 0]
    assert (shown.sum(1) == 1).all()
    expected = torch.exp(hardness[[0, 2, 3]].sqrt())
    assert shown.double().mean(0).tolist() == pytest.approx([*(expected / expected.sum()).tolist(), 0], abs=0.012)


def test_nothing_is_pasted_from_an_image_without_labels():
    label = torch.full((2, 3, 3), IGNORE)
    assert not hard_classes(label, torch.ones(CLASSES), EVERY, 2, 1.0, generator(0)).any()


# ---- regions ----


def winding(side: int) -> np.ndarray:
    """One region that goes to and fro: the longest way that a name can have to go."""
    found = np.zeros((side, side), bool)
    found[::2] = True
    found[1::4, -1] = found[3::4, 0] = True
    return found


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.random((GRID, GRID)) < share for share in (0.2, 0.35, 0.4, 0.45, 0.6)]
    blobs = [ndimage.gaussian_filter(rng.normal(size=(GRID, GRID)), sigma) > 0 for sigma in (1, 2, 5)]
    return [
        *noise,
        *blobs,
        winding(GRID),
        winding(GRID).T,
        winding(GRID)[::-1],
        np.ones((GRID, GRID), bool),
        np.zeros((GRID, GRID), bool),
    ]


def test_regions_are_scipys():
    cells = torch.from_numpy(np.stack(masks()))
    for mask, names in zip(cells.numpy(), regions(cells).numpy(), strict=True):
        expected, count = ndimage.label(mask, np.ones((3, 3)))
        assert np.array_equal(names > 0, mask)
        for number in range(1, count + 1):
            places = np.flatnonzero(expected == number)
            assert set(names.flat[places].tolist()) == {places[-1] + 1}


def pseudo_of(label: np.ndarray, valid: np.ndarray | None = None) -> PseudoLabel:
    maps = torch.from_numpy(label).byte()
    return PseudoLabel(
        maps, torch.ones(maps.shape).half(), torch.from_numpy(np.ones(maps.shape, bool) & (valid is None or valid))
    )


def twin_box(label: np.ndarray, valid: np.ndarray, wanted: int, least: float, dice: float) -> np.ndarray | None:
    """Of the large regions, in the order of their last cells, the one that the dice say; (H, W), or None."""
    height, width = label.shape
    side = math.ceil(max(height, width) / GRID)
    rows, columns = (range(side // 2, length, side) for length in (height, width))
    cells = np.array([[label[y, x] == wanted and valid[y, x] for x in columns] for y in rows])
    named, count = ndimage.label(cells, np.ones((3, 3)))
    by_last = sorted(range(1, count + 1), key=lambda n: np.flatnonzero(named == n)[-1])
    large = [n for n in by_last if (named == n).sum() > least * cells.size]
    if not large:
        return None
    ys, xs = np.nonzero(named == large[int(dice * len(large))])
    box = np.zeros((height, width), bool)
    for y, x in np.ndindex(height, width):
        cell = min(y // side, len(rows) - 1), min(x // side, len(columns) - 1)  # what is left over is the last one's
        box[y, x] = ys.min() <= cell[0] <= ys.max() and xs.min() <= cell[1] <= xs.max()
    return box


@pytest.mark.parametrize("size", [(20, 33), (150, 97), (64, 64), (1, 5)])
@pytest.mark.parametrize("least", [0.0, 0.03, 0.5])
def test_boxes_are_around_a_region_of_the_class(size, least):
    rng = np.random.default_rng(size[0])
    smooth = ndimage.gaussian_filter(rng.normal(size=(5, *size)), (0, size[0] / 15, size[1] / 15))
    label = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6]))
    valid = rng.random(label.shape) < 0.97
    wanted = [0, 1, 2, 1, 3]  # nothing is of class 3
    found, there = region_boxes(pseudo_of(label, valid), torch.tensor(wanted), least, generator(1))
    dice = torch.rand(5, dtype=torch.double, generator=generator(1)).tolist()
    for i in range(5):
        expected = twin_box(label[i], valid[i], wanted[i], least, dice[i])
        assert bool(there[i]) == (expected is not None)
        if expected is not None:
            assert np.array_equal(found[i].numpy(), expected)
    assert there[:4].any() or least == 0.5 or size == (1, 5)
    assert not there[4]


def test_each_large_region_is_as_likely():
    label = np.zeros((1, 8, 8), int)
    label[0, 0, 0] = label[0, 7, :2] = 1
    label[0, :4, 4:] = 1  # 16 of 64 pixels, beside 1 and 2
    many = PseudoLabel(*(maps.expand(4000, 8, 8) for maps in vars(pseudo_of(label)).values()))
    boxes, there = region_boxes(many, torch.ones(4000, dtype=torch.long), 1.5 / 64, generator(0))
    assert there.all()
    assert boxes[:, 7, 0].double().mean() == pytest.approx(0.5, abs=0.03)
    assert boxes[:, 0, 4].double().mean() == pytest.approx(0.5, abs=0.03)
    assert not boxes[:, 0, 0].any()


# ---- dice ----


def test_pixel_dice_are_uniform_and_differ_from_pixel_to_pixel():
    found = pixel_dice(torch.zeros(3, 4, 70, 90), generator(0))
    assert found.shape == (3, 70, 90)
    assert 0 <= found.min() <= found.max() < 1
    for image in found:
        assert np.histogram(image, 10, (0, 1))[0] == pytest.approx(np.full(10, 630), rel=0.2)
    pairs = ((found[0], found[1]), (found[:, 1:], found[:, :-1]), (found[..., 1:], found[..., :-1]))
    for one, other in pairs:
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.05
