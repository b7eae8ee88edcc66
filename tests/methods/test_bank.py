"""AEL's bank against loops over pixels, images and classes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg.methods.details.ael_bank import NOTICE, ConfidenceBank, class_shares
from semiseg.types import IGNORE, PseudoLabel

CLASSES, IMAGES, BATCH = 4, 6, 3


def bank(confidence: list[float] | None = None, shows: list[tuple[int, int]] = ()) -> ConfidenceBank:
    """A bank with these averages, that knows these (class, image)."""
    torch.manual_seed(0)
    made = ConfidenceBank(CLASSES, IMAGES, BATCH)
    if confidence is not None:
        made.confidence.copy_(torch.tensor(confidence))
    for pair in shows:
        made.shows[pair] = True
    return made


def step(seed: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Logits (2, C, 5, 6) and labels of the first `classes` classes, with some IGNORE."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (2, 5, 6), generator=generator)
    label[:, 1, :4] = IGNORE
    return 2 * torch.randn(2, CLASSES, 5, 6, generator=generator), label


def probability(logits: np.ndarray, number: int) -> float:
    exponentials = [math.exp(value) for value in logits]
    return exponentials[number] / sum(exponentials)


def twin_means(logits: Tensor, label: Tensor) -> dict[int, float]:
    """Class -> mean probability of the class on the pixels labelled so."""
    found: dict[int, list[float]] = {}
    for b, y, x in np.ndindex(*label.shape):
        number = int(label[b, y, x])
        if number != IGNORE:
            found.setdefault(number, []).append(probability(logits[b, :, y, x].numpy(), number))
    return {number: sum(values) / len(values) for number, values in found.items()}


# ---- averages ----


def test_averages_begin_with_what_is_seen_first_and_then_keep_their_share():
    made, expected, times = bank(), [0.0] * CLASSES, [0] * CLASSES
    for seed in range(6):
        logits, label = step(seed, classes=4 if seed in (2, 5) else 3)  # class 3 is seen twice
        made.observe(logits, label)
        made.follow(0.6)
        for number, mean in twin_means(logits, label).items():
            kept = min(1 - 1 / (times[number] + 1), 0.6)
            expected[number] = kept * expected[number] + (1 - kept) * mean
            times[number] += 1
    assert made.confidence.tolist() == pytest.approx(expected, rel=1e-5)
    assert made.seen.tolist() == times == [6, 6, 6, 2]


def test_classes_that_a_step_does_not_show_stay():
    made = bank([0.3, 0.5, 0.7, 0.9])
    made.observe(*step(0, classes=2))
    made.follow(0.5)
    assert made.confidence[2:].tolist() == torch.tensor([0.7, 0.9]).tolist()
    before = made.confidence.clone()
    assert not torch.equal(before[:2], torch.tensor([0.3, 0.5]))
    logits, label = step(1)
    made.observe(logits, torch.full_like(label, IGNORE))
    made.follow(0.5)
    assert torch.equal(made.confidence, before)


def test_ignored_pixels_do_not_matter():
    logits, label = step(0)
    changed = torch.where((label == IGNORE)[:, None], torch.randn_like(logits), logits)
    made = [bank(), bank()]
    for one, shown in zip(made, (logits, changed), strict=True):
        one.observe(shown, label)
        one.follow(0.9)
    assert torch.equal(made[0].confidence, made[1].confidence)


def test_a_step_in_parts_counts_as_one():
    whole, parts = bank(), bank()
    logits, label = step(0)
    label[0] = 1  # the two parts differ in their counts
    whole.observe(logits, label)
    for part in range(2):
        parts.observe(logits[part : part + 1], label[part : part + 1])
    for made in (whole, parts):
        made.follow(0.9)
        assert not made.sums.any()
        assert not made.counts.any()
    torch.testing.assert_close(parts.confidence, whole.confidence)
    assert torch.equal(parts.seen, whole.seen)


def test_the_hardest_class_teaches_with_all_its_pixels():
    assert bank([0.2, 0.6, 0.9, 1.0]).rate.tolist() == pytest.approx([1, 0.5, 0.125, 0])
    assert bank().rate.tolist() == [1] * CLASSES
    assert bank([1.0] * CLASSES).rate.tolist() == [0] * CLASSES


# ---- who shows what ----


def predictions(seed: int) -> PseudoLabel:
    """Three images, the last of which lies outside of the photograph."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (3, 4, 5), generator=generator).byte()
    valid = torch.rand(3, 4, 5, generator=generator) < 0.8
    valid[2] = False
    return PseudoLabel(label, torch.ones(3, 4, 5).half(), valid)


def test_shares_are_of_the_whole_crop_and_padding_is_of_no_class():
    pseudo = predictions(0)
    for image, row in enumerate(class_shares(pseudo, CLASSES)):
        for number, share in enumerate(row):
            places = [p for p in np.ndindex(4, 5) if pseudo.valid[image][p] and pseudo.label[image][p] == number]
            assert share == pytest.approx(len(places) / 20)


@pytest.mark.parametrize("least", [0.0, 0.2])
def test_the_bank_knows_what_was_seen_last(least):
    made, expected = bank(shows=[(0, 1), (2, 5)]), np.zeros((CLASSES, IMAGES), bool)
    expected[[0, 2], [1, 5]] = True
    for seed, index in enumerate([[4, 1, 0], [2, 4, 3]]):
        pseudo = predictions(seed)
        made.note(torch.tensor(index), pseudo, least)
        expected[:, index] = (class_shares(pseudo, CLASSES) > least).T.numpy()
    assert np.array_equal(made.shows.numpy(), expected)
    assert expected[2, 5]  # no view of it since


def test_of_an_image_that_stands_there_twice_both_views_count():
    pseudo = predictions(0)
    made = bank()
    made.note(torch.tensor([3, 3, 0]), pseudo, 0.2)
    shown = class_shares(pseudo, CLASSES) > 0.2
    assert torch.equal(made.shows[:, 3], shown[0] | shown[1])
    assert not torch.equal(shown[0], shown[1])


# ---- wishes ----


def twin_wish(made: ConfidenceBank, dice: np.ndarray) -> list[tuple[int, int]]:
    """(image, class) of each slot: walk along the chances, then along the images that show the class."""
    weights = [math.exp(1 - float(confidence)) for confidence in made.confidence]
    found = []
    for first, second in dice.T:
        number = 0
        while number < CLASSES - 1 and sum(weights[: number + 1]) / sum(weights) < first:
            number += 1
        images = [n for n in range(IMAGES) if made.shows[number, n]] or list(range(IMAGES))
        found.append((images[int(second * len(images))], number))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_wishes_are_drawn_by_hardness_and_from_images_that_show_the_class(seed):
    made = bank([0.1, 0.9, 0.5, 0.0], shows=[(0, 2), (0, 3), (0, 5), (1, 1), (1, 4)])  # 2 and 3 are shown by none
    dice = torch.rand(2, BATCH, dtype=torch.double, generator=torch.Generator().manual_seed(seed)).numpy()
    made.wish(7, torch.Generator().manual_seed(seed))
    assert made.wishes[7 % NOTICE].T.tolist() == [list(pair) for pair in twin_wish(made, dice)]


def test_classes_come_as_often_as_their_softmax_says():
    torch.manual_seed(0)
    made = ConfidenceBank(CLASSES, 1, 20_000)
    made.confidence.copy_(torch.tensor([0.0, 0.9, 0.5, 0.2]))
    made.wish(0, torch.Generator().manual_seed(0))
    found = torch.stack([(made.wishes[0, 1] == number).double().mean() for number in range(CLASSES)])
    assert found.tolist() == pytest.approx((1 - made.confidence).softmax(0).tolist(), abs=0.012)


def test_a_wish_stays_until_its_step_and_the_first_ones_are_there_from_the_start():
    made = bank(shows=[(0, 1)])
    first = made.wishes.clone()
    assert first.shape == (NOTICE, 2, BATCH)
    assert (first[:, 0] < IMAGES).all()
    assert (first[:, 1] < CLASSES).all()
    made.wish(NOTICE, torch.Generator().manual_seed(1))
    assert torch.equal(made.wishes[1:], first[1:])
    assert not torch.equal(made.wishes[0], first[0])


def test_a_part_of_the_batch_finds_its_classes_by_its_images():
    made = bank()
    made.wishes[5 % NOTICE] = torch.tensor([[4, 2, 4], [1, 3, 0]])
    assert made.classes_for(torch.tensor([2, 4]), 5).tolist() == [3, 1]
