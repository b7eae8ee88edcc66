"""CutMix, Cutout and ClassMix: sizes of the boxes, the ring, and everything about a pixel moving together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from semiseg.parts.mixing import blank, class_masks, french_boxes, half_boxes, mix, mix_batch, paste
from semiseg.types import IGNORE, PseudoLabel

sides = st.integers(8, 40)
seeds = st.integers(0, 10_000)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of the rectangle that a mask (H, W) is; fails where it is none."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    assert mask[top : top + height, left : left + width].all()
    assert mask.sum() == height * width
    return top, left, height, width


def images(count: int, height: int, width: int) -> Tensor:
    """Of which only the shape counts."""
    return torch.empty(1, 1, 1, 1).expand(count, 3, height, width)


def batch(count: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, PseudoLabel]:
    """Images whose pixels all differ, and pseudo-labels for them."""
    generator = seeded(seed)
    image = torch.randn(count, 3, height, width, generator=generator)
    label = torch.randint(0, 4, (count, height, width), generator=generator).byte()
    confidence = torch.rand(count, height, width, generator=generator).half()
    valid = torch.rand(count, height, width, generator=generator) > 0.2
    return image, PseudoLabel(label, confidence, valid)


# ---- boxes ----


def test_widths_and_heights_of_half_boxes_at_513():
    """U2PL's own heights at five widths; with this many draws each width is among them."""
    golden = {257: 512, 300: 439, 363: 362, 400: 329, 512: 257}
    generator, seen = seeded(), set()
    for _ in range(40):
        masks = half_boxes(images(64, 513, 513), generator)
        widths, heights = (masks.any(axis).sum(1).tolist() for axis in (1, 2))
        for width, share in zip(widths, masks.float().mean((1, 2)).tolist(), strict=True):
            assert share == pytest.approx(0.5, abs=0.5 * width / 513**2 + 1e-6)  # half a row of rounding
            assert width not in golden or 0.4992 <= share <= 0.5010
        seen |= set(zip(widths, heights, strict=True))
    assert {width: height for width, height in seen if width in golden} == golden
    assert len({width for width, _ in seen}) == len(seen)  # one height a width


@given(sides, sides, seeds)
@settings(deadline=None, max_examples=50)
def test_half_boxes_have_half_the_area_and_reach_the_middle(height, width, seed):
    for mask in half_boxes(images(4, height, width), seeded(seed)):
        _, _, box_height, box_width = box_of(mask)
        assert width // 2 + 1 <= box_width <= width - 1
        assert box_height == pytest.approx(height * width / 2 / box_width, abs=0.5 + 1e-4)
        middle_rows = mask[(height - 1) // 2 : height // 2 + 1, width // 2]  # two of them if the height is even
        assert middle_rows.any()


def test_every_width_and_every_place_of_a_half_box_is_drawn():
    boxes = [box_of(mask) for mask in half_boxes(images(2000, 8, 8), seeded())]
    assert {width for *_, width in boxes} == {5, 6, 7}
    for height, width in {(height, width) for *_, height, width in boxes}:
        places = {(top, left) for top, left, h, w in boxes if (h, w) == (height, width)}
        assert places == {(top, left) for top in range(8 - height + 1) for left in range(8 - width + 1)}


def test_each_image_has_its_own_box_and_the_generator_decides():
    masks = half_boxes(images(8, 33, 47), seeded(1))
    assert len({box_of(mask) for mask in masks}) > 1
    assert masks.equal(half_boxes(images(8, 33, 47), seeded(1)))
    assert not masks.equal(half_boxes(images(8, 33, 47), seeded(2)))


def test_sizes_of_french_boxes():
    """From the whole height and half the width to half the height and the whole width, and no other shape between."""
    seen = {box_of(mask)[2:] for mask in french_boxes(images(4000, 40, 60), seeded())}
    draws = [draw / 10_000 for draw in range(10_001)]
    assert seen <= {(round(40 * 0.5**draw), round(60 * 0.5 ** (1 - draw))) for draw in draws}
    assert {(40, 30), (28, 42), (20, 60)} <= seen


@given(sides, sides, seeds)
@settings(deadline=None, max_examples=50)
def test_french_boxes_have_half_the_area(height, width, seed):
    for mask in french_boxes(images(4, height, width), seeded(seed)):
        _, _, box_height, box_width = box_of(mask)
        rounding = 0.5 * (box_height + box_width) + 0.25
        assert abs(box_height * box_width - height * width / 2) <= rounding
        assert box_height >= height // 2
        assert box_width >= width // 2


def test_the_height_of_french_boxes_is_uniform_in_its_logarithm():
    heights = torch.tensor([box_of(mask)[2] for mask in french_boxes(images(1000, 64, 64), seeded())])
    quartiles = torch.quantile(heights / 64, torch.tensor([0.25, 0.5, 0.75]))
    assert quartiles.tolist() == pytest.approx([0.5**0.75, 0.5**0.5, 0.5**0.25], abs=0.03)


# ---- ClassMix ----


labels = arrays.arrays(np.int64, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 4, IGNORE]))


@given(labels, seeds)
@settings(deadline=None, max_examples=100)
def test_class_masks_keep_half_the_classes_rounded_down(label, seed):
    masks = class_masks(torch.from_numpy(label), 5, seeded(seed)).numpy()
    for image, mask in zip(label, masks, strict=True):
        present = set(image.flatten().tolist()) - {IGNORE}
        kept = set(image[~mask].tolist())
        assert kept <= present
        assert len(kept) == len(present) // 2
        assert all(mask[image == number].all() for number in (present | {IGNORE}) - kept)
        assert not any(mask[image == number].any() for number in kept)


@given(labels, seeds)
@settings(deadline=None, max_examples=20)
def test_class_masks_do_not_depend_on_the_type_of_a_label(label, seed):
    wide = torch.from_numpy(label)
    assert class_masks(wide.byte(), 5, seeded(seed)).equal(class_masks(wide, 5, seeded(seed)))


def test_an_image_of_one_class_becomes_its_partner():
    label = torch.stack([torch.zeros(3, 3, dtype=torch.long), torch.arange(9).view(3, 3) % 2])
    masks = class_masks(label, 2, seeded())
    assert masks[0].all()
    assert masks[1].sum() in (4, 5)


def test_every_choice_of_classes_is_as_likely():
    label = torch.tensor([0, 2, 3, 5]).view(1, 2, 2).expand(1200, 2, 2)
    masks = class_masks(label, 6, seeded())
    choices, counts = masks.flatten(1).unique(dim=0, return_counts=True)
    assert len(choices) == 6
    assert counts.min() > 150
    assert counts.max() < 250


# ---- pasting ----


def test_image_label_confidence_and_valid_move_together_around_the_ring():
    image, pseudo = batch(3, 4, 5)
    partner = torch.rand(3, 4, 5, generator=seeded(9)) > 0.5
    mixed, moved = mix(image, pseudo, partner)
    for b in range(3):
        for y in range(4):
            for x in range(5):
                source = (b + 1) % 3 if partner[b, y, x] else b
                assert mixed[b, :, y, x].equal(image[source, :, y, x])
                assert moved.label[b, y, x] == pseudo.label[source, y, x]
                assert moved.confidence[b, y, x] == pseudo.confidence[source, y, x]
                assert moved.valid[b, y, x] == pseudo.valid[source, y, x]


def test_paste_takes_maps_with_and_without_channels():
    maps = torch.rand(2, 3, 4, 4)
    partner = torch.rand(2, 4, 4) > 0.5
    pasted = paste(maps, partner)
    assert all(pasted[:, i].equal(paste(maps[:, i], partner)) for i in range(3))


def test_cutout_hides_image_and_pseudo_label():
    image, pseudo = batch(2, 4, 5)
    hole = torch.rand(2, 4, 5, generator=seeded(9)) > 0.5
    seen, hidden = blank(image, pseudo, hole)
    for b, y, x in np.ndindex(2, 4, 5):
        place = (b, y, x)
        if hole[place]:
            assert not seen[b, :, y, x].any()
            found = (hidden.label[place], hidden.confidence[place], hidden.valid[place])
            assert found == (IGNORE, 0, False)
        else:
            assert seen[b, :, y, x].equal(image[b, :, y, x])
            found = (hidden.label[place], hidden.confidence[place], hidden.valid[place])
            assert found == (pseudo.label[place], pseudo.confidence[place], pseudo.valid[place])
    assert not hidden.kept(0.0)[hole].any()


# ---- the whole batch ----


def same(left: tuple[Tensor, PseudoLabel], right: tuple[Tensor, PseudoLabel]) -> bool:
    pairs = zip((left[0], *vars(left[1]).values()), (right[0], *vars(right[1]).values()), strict=True)
    return all(a.equal(b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["cutmix", "cutout", "classmix", "none"])
def test_probability_0_and_no_mix_leave_the_batch(kind):
    image, pseudo = batch(3, 9, 11)
    assert same(mix_batch(kind, 0.0, image, pseudo, 4, seeded()), (image, pseudo))
    assert same(mix_batch("none", 1.0, image, pseudo, 4, seeded()), (image, pseudo))


@pytest.mark.parametrize("kind", ["cutmix", "cutout", "classmix"])
def test_a_batch_is_mixed_whole_or_not_at_all_as_often_as_asked(kind):
    image, pseudo = batch(3, 9, 11)
    mixed = 0
    for seed in range(200):
        changed = (mix_batch(kind, 0.3, image, pseudo, 4, seeded(seed))[0] != image).flatten(1).any(1)
        assert changed.all() or not changed.any()
        mixed += bool(changed.any())
    assert 40 < mixed < 80


def test_cutmix_pastes_a_box_of_the_next_image():
    image, pseudo = batch(3, 9, 11)
    mixed, moved = mix_batch("cutmix", 1.0, image, pseudo, 4, seeded())
    partner = (mixed != image).any(1)
    for mask in partner:
        _, _, height, width = box_of(mask)
        assert height == round(9 * 11 / 2 / width)
    assert same((mixed, moved), mix(image, pseudo, partner))


def test_cutout_blanks_a_box():
    image, pseudo = batch(3, 9, 11)
    seen, hidden = mix_batch("cutout", 1.0, image, pseudo, 4, seeded())
    hole = (seen == 0).all(1)
    assert all(box_of(mask)[3] >= 6 for mask in hole)
    assert same((seen, hidden), blank(image, pseudo, hole))


def test_classmix_keeps_classes_of_the_pseudo_label():
    image, pseudo = batch(3, 9, 11)
    mixed, moved = mix_batch("classmix", 1.0, image, pseudo, 4, seeded())
    partner = (mixed != image).any(1)
    for mask, label, valid in zip(partner, pseudo.label, pseudo.valid, strict=True):
        assert len(label[~mask].unique()) == 2
        assert not set(label[~mask].tolist()) & set(label[mask & valid].tolist())
    assert same((mixed, moved), mix(image, pseudo, partner))


def test_classmix_does_not_count_what_is_predicted_on_padding():
    image, pseudo = batch(2, 9, 11)
    pseudo.valid[:, :, :6] = False
    pseudo.label[:, :, :6] = 3
    pseudo.label[:, :, 6:] = 0
    pseudo.label[:, :4, 6:] = 1
    for seed in range(8):
        mixed, _ = mix_batch("classmix", 1.0, image, pseudo, 4, seeded(seed))
        kept = (mixed == image).all(1)
        assert not kept[:, :, :6].any()
        assert kept[:, :, 6:].any(2).any(1).all()
