"""Anchors, positives, negatives, queues and the contrastive loss against slow twins."""

from collections import deque

import numpy as np
import pytest
import torch
from support import slow_contrast as slow
from torch import Tensor
from torch.nn import functional as F

from semiseg.methods.details.u2pl_contrast import (
    ClassQueues,
    Contrast,
    Counted,
    Pixels,
    Projection,
    anchor_losses,
    anchor_masks,
    as_rows,
    class_means,
    contrastive_loss,
    drawn_places,
    even_sample,
    negative_masks,
)
from semiseg.parts.pseudo_labels import entropy, quantiles
from semiseg.parts.sampling import nearest_pixels
from semiseg.types import IGNORE

CLASSES, LABELED, COUNT = 5, 20, 50


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made_pixels(seed: int = 0, absent: int | None = None) -> Pixels:
    """20 labelled pixels, 2 of them without a label, and 30 unlabelled ones."""
    made = generator(seed)
    label = torch.randint(0, CLASSES, (COUNT,), generator=made)
    if absent is not None:
        label[label == absent] = (absent + 1) % CLASSES
    label[:2] = IGNORE
    extreme = torch.rand(COUNT, generator=made)
    on_unlabeled = torch.arange(COUNT) >= LABELED
    probability = (2 * torch.randn(COUNT, CLASSES, generator=made)).softmax(1)
    reliable = torch.where(on_unlabeled, extreme < 0.5, label != IGNORE)
    return Pixels(label, probability, reliable, on_unlabeled & (extreme > 0.5), LABELED)


def looked_at(pixels: Pixels, rule) -> Tensor:
    """`rule` of a class and a pixel, for all. (C, N) bool"""
    return torch.tensor([[rule(name, place) for place in range(len(pixels.label))] for name in range(CLASSES)])


# ---- partition ----


def test_entropy_is_that_of_every_pixels_softmax():
    logits = 5 * torch.randn(2, 4, 3, 2, generator=generator())
    found = entropy(logits)
    for b, y, x in np.ndindex(2, 3, 2):
        assert float(found[b, y, x]) == pytest.approx(
            slow.entropy(logits[b, :, y, x].double().numpy()), rel=1e-5, abs=1e-6
        )
    certain = torch.tensor([200.0, 0.0, 0.0])[None, :, None, None]
    assert entropy(certain) == 0
    assert float(entropy(torch.zeros(1, 3, 1, 1))) == pytest.approx(np.log(3))
    assert entropy(logits.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_quantiles_are_numpys_of_what_is_counted(count):
    values = torch.rand(3, 20, generator=generator())
    counted = torch.zeros(60, dtype=torch.bool)
    counted[torch.randperm(60, generator=generator(1))[:count]] = True
    counted = counted.view(3, 20)
    shares = (0.0, 0.2, 0.25, 0.8, 1.0)
    expected = np.quantile(values[counted].double().numpy(), shares)
    assert [float(value) for value in quantiles(values, counted, *shares)] == pytest.approx(expected, rel=1e-6)
    other = torch.where(counted, values, 99.0)
    assert quantiles(other, counted, *shares) == quantiles(values, counted, *shares)


def test_quantiles_of_nothing_are_finite():
    (found,) = quantiles(torch.rand(4), torch.zeros(4, dtype=torch.bool), 0.3)
    assert found.isfinite()


@pytest.mark.parametrize(("large", "small"), [((9, 11), (5, 6)), ((8, 10), (2, 3)), ((5, 4), (5, 4)), ((7, 6), (1, 1))])
def test_a_feature_has_the_nearest_pixel(large, small):
    maps = torch.rand(2, 3, *large, generator=generator())
    found = nearest_pixels(maps, small)
    assert found.shape == (2, 3, *small)
    for y, x in np.ndindex(*small):
        row, column = (
            int(np.floor(place * (wide - 1) / max(narrow - 1, 1) + 0.5))
            for place, wide, narrow in zip((y, x), large, small, strict=True)
        )
        assert found[:, :, y, x].equal(maps[:, :, row, column])


# ---- who is what ----


@pytest.mark.parametrize("absent", [None, 2])
def test_anchors_are_reliable_pixels_of_their_class(absent):
    pixels = made_pixels(absent=absent)
    expected = looked_at(
        pixels,
        lambda name, n: slow.is_anchor(name, pixels.label[n], pixels.probability[n], pixels.reliable[n], 0.2),
    )
    found = anchor_masks(pixels, 0.2)
    assert found.equal(expected)
    assert 0 < found.sum() < pixels.reliable.sum()
    assert bool(found[2].any()) == (absent is None)


@pytest.mark.parametrize(("low", "high"), [(3, 20), (1, 3), (2, 2), (0, 5)])
def test_negatives_are_what_the_teacher_may_take_for_the_class(low, high):
    pixels = made_pixels()

    def rule(name, n):
        known = (int(pixels.label[n]), pixels.probability[n].tolist(), pixels.unreliable[n])
        return slow.is_negative(name, *known, n < LABELED, low, high)

    found = negative_masks(pixels, low, high)
    assert found.equal(looked_at(pixels, rule))
    assert bool(found[:, :LABELED].any()) == (low > 0)
    assert bool(found[:, LABELED:].any()) == (low < high)
    assert not found[:, :2].any(), "a pixel without a label is of any class"


def test_positives_are_means_of_rows_by_class():
    pixels, rows = made_pixels(absent=1), torch.randn(COUNT, 4, generator=generator(3))
    mask = (pixels.label == torch.arange(CLASSES)[:, None]) & pixels.reliable
    means, counts = class_means(rows, mask)
    for name in range(CLASSES):
        own = [rows[n] for n in range(COUNT) if pixels.label[n] == name and pixels.reliable[n]]
        expected = sum(own) / len(own) if own else torch.zeros(4)
        torch.testing.assert_close(means[name], expected)
        assert counts[name] == len(own)
    assert counts[1] == 0


# ---- drawing by number ----


def test_a_number_finds_its_pixel():
    mask = torch.rand(3, COUNT, generator=generator()) < 0.3
    mask[1] = False
    counted = Counted.of(mask, LABELED)
    assert counted.total.equal(mask.sum(1))
    for name in range(3):
        there = [n for n in range(COUNT) if mask[name, n]]
        place, here = counted.find(name, torch.arange(len(there) + 2))
        assert here.tolist() == [True] * len(there) + [False] * 2
        assert place[: len(there)].tolist() == there


def test_processes_find_what_one_would(monkeypatch):
    """Two halves of the labelled and of the unlabelled pixels; between them every number is somewhere, once."""
    mask = torch.rand(2, COUNT, generator=generator()) < 0.4
    mask[0, :10] = False  # the first process has no labelled one, the second none of the other class
    mask[1, 10:20] = mask[1, 35:] = False
    parts = [torch.cat([mask[:, :10], mask[:, 20:35]], 1), torch.cat([mask[:, 10:20], mask[:, 35:]], 1)]
    places = [[*range(10), *range(20, 35)], [*range(10, 20), *range(35, 50)]]
    own = torch.stack([torch.stack([part[:, :10].sum(1), part[:, 10:].sum(1)]) for part in parts])
    monkeypatch.setattr("semiseg.methods.details.u2pl_contrast.joined", lambda _: own)
    monkeypatch.setattr("semiseg.methods.details.u2pl_contrast.world_size", lambda: 2)
    for name in range(2):
        there = [n for n in range(COUNT) if mask[name, n]]
        found = {}
        for process, part in enumerate(parts):
            monkeypatch.setattr("semiseg.methods.details.u2pl_contrast.rank", lambda process=process: process)
            counted = Counted.of(part, 10)
            assert counted.total.equal(mask.sum(1))
            place, here = counted.find(name, torch.arange(len(there) + 3))
            for number, (where, found_here) in enumerate(zip(place.tolist(), here.tolist(), strict=True)):
                if found_here:
                    assert number not in found
                    found[number] = places[process][where]
        assert [found[number] for number in range(len(found))] == there


def test_draws_are_uniform_over_a_mask():
    mask = torch.zeros(2, COUNT, dtype=torch.bool)
    mask[0, [3, 21, 40, 49]] = True
    draws = torch.rand(2, 8000, generator=generator(), dtype=torch.float64)
    place, here = drawn_places(Counted.of(mask, LABELED), draws)
    assert here[0].all()
    assert not here[1].any()
    numbers, counts = place[0].unique(return_counts=True)
    assert numbers.tolist() == [3, 21, 40, 49]
    assert counts.tolist() == pytest.approx([2000] * 4, rel=0.06)


def test_an_even_sample_keeps_order_and_favours_nobody():
    few = even_sample(torch.tensor(3), 7, torch.tensor(0.9, dtype=torch.float64))
    assert few.tolist() == list(range(7))  # those from 3 on are nobody
    hits = torch.zeros(10)
    for start in torch.arange(0, 1, 0.001, dtype=torch.float64):
        chosen = even_sample(torch.tensor(10), 4, start)
        assert (chosen.diff() > 0).all()
        hits[chosen] += 1
    assert hits.tolist() == pytest.approx([400] * 10, abs=5)


# ---- queues ----


def masked_rows(seed: int, share: float) -> tuple[Tensor, Tensor]:
    made = generator(seed)
    return torch.rand(2, COUNT, generator=made) < share, torch.randn(COUNT, 3, generator=made)


def test_queues_remember_the_last_rows_of_each_class_in_order():
    queues = ClassQueues([45, 20], 3)
    twins: list[deque] = [deque(maxlen=45), deque(maxlen=20)]
    for seed in range(6):
        mask, rows = masked_rows(seed, 0.2)
        queues.enqueue(Counted.of(mask, LABELED), rows, 20, generator())
        for twin, own in zip(twins, mask, strict=True):
            assert own.sum() <= 20, "else only a sample would join"
            twin.extend(row / row.norm() for row, member in zip(rows, own, strict=True) if member)
    assert all(written > size for written, size in zip(queues.written.tolist(), queues.sizes, strict=True))
    for name, twin in enumerate(twins):
        size, start = queues.sizes[name], queues.starts[name]
        ring = queues.rows[start : start + size].roll(-int(queues.written[name]) % size, 0)
        torch.testing.assert_close(ring, torch.stack(list(twin)))


@pytest.mark.parametrize("most", [None, 5])
def test_where_too_many_come_a_sample_joins_in_their_order(most):
    queues = ClassQueues([8, 30], 3)
    mask, rows = masked_rows(0, 0.8)
    queues.enqueue(Counted.of(mask, LABELED), rows, most, generator())
    for name, size in enumerate(queues.sizes):
        count = min(most or size, size)
        assert queues.written[name] == count
        own = F.normalize(rows[mask[name]], dim=1)
        held = queues.rows[queues.starts[name] :][:count]
        from_where = torch.cdist(held, own).argmin(1)
        torch.testing.assert_close(held, own[from_where])
        assert (from_where.diff() > 0).all()
        assert (from_where.diff() <= np.ceil(len(own) / count)).all(), "evenly spread"
        assert not queues.rows[queues.starts[name] :][count:size].any()


def test_only_what_a_queue_holds_is_drawn():
    queues = ClassQueues([4, 6], 3)
    assert not queues.draw(0, torch.rand(2, 5, dtype=torch.float64)).any()
    mask = torch.zeros(2, COUNT, dtype=torch.bool)
    mask[1, [5, 30]] = True
    rows = torch.randn(COUNT, 3, generator=generator())
    queues.enqueue(Counted.of(mask, LABELED), rows, None, generator())
    drawn = queues.draw(1, torch.rand(4000, generator=generator(), dtype=torch.float64))
    first = torch.isclose(drawn, F.normalize(rows[5], dim=0)).all(1)
    second = torch.isclose(drawn, F.normalize(rows[30], dim=0)).all(1)
    assert (first ^ second).all()
    assert float(first.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert not queues.draw(0, torch.rand(5, dtype=torch.float64)).any()


def test_queues_may_stay_out_of_checkpoints():
    assert set(ClassQueues([2], 3).state_dict()) == {"rows", "written"}
    assert ClassQueues([2], 3, persistent=False).state_dict() == {}


# ---- the loss ----


def made_contrast(absent: int | None = None, empty: int | None = None) -> tuple[Contrast, ClassQueues, Tensor, Tensor]:
    """Every class's own corner of space for anchors, positive and queue, so that a wrong pairing shows."""
    pixels = made_pixels(absent=absent)
    corner = 4 * torch.eye(CLASSES, 6)[pixels.label.clamp(max=CLASSES - 1)]
    rows = corner + torch.randn(COUNT, 6, generator=generator(1))
    taught = corner + torch.randn(COUNT, 6, generator=generator(2))
    negatives = negative_masks(pixels, 2, 4)
    if empty is not None:
        negatives[empty] = False
    queues = ClassQueues([50] * CLASSES, 6)
    queues.enqueue(Counted.of(negatives, LABELED), taught, None, generator())
    anchors = Counted.of(anchor_masks(pixels, 0.1), LABELED)
    place, here = drawn_places(anchors, torch.rand(CLASSES, 7, generator=generator(4), dtype=torch.float64))
    own = (pixels.label == torch.arange(CLASSES)[:, None]) & pixels.reliable
    positive, counts = class_means(taught, own)
    draws = torch.rand(CLASSES, 7, 3, generator=generator(5), dtype=torch.float64)
    usable = (anchors.total > 0) & (queues.written > 0)
    return Contrast(place, here, positive, draws, usable, (counts > 0).sum()), queues, rows, taught


@pytest.mark.parametrize(("absent", "empty"), [(None, None), (0, None), (2, None), (None, 3), (1, 0)])
def test_the_loss_pairs_each_class_with_its_own_positive_and_queue(absent, empty):
    """The twin looks everything up by class: anchors by their labels, negatives by what entered that class's queue."""
    contrast, queues, rows, taught = made_contrast(absent, empty)
    pixels = made_pixels(absent=absent)
    anchors, positives, negatives, present = {}, {}, {}, []
    masks = negative_masks(pixels, 2, 4)
    for name in range(CLASSES):
        reliable = [n for n in range(COUNT) if pixels.reliable[n] and pixels.label[n] == name]
        if not reliable:
            continue
        present.append(name)
        positives[name] = np.mean([taught[n].numpy() for n in reliable], axis=0)
        confident = [n for n in reliable if pixels.probability[n, name] > 0.1]
        entered = [n for n in range(COUNT) if masks[name, n] and name != empty]
        if not confident or not entered:
            continue
        numbers = torch.rand(CLASSES, 7, generator=generator(4), dtype=torch.float64)[name] * len(confident)
        anchors[name] = [rows[confident[int(number)]].numpy() for number in numbers]
        negatives[name] = [
            [taught[entered[int(draw * len(entered))]].numpy() for draw in of_anchor]
            for of_anchor in contrast.draws[name]
        ]
    assert len(anchors) == CLASSES - (absent is not None) - (empty is not None)
    expected = slow.contrastive_loss(anchors, positives, negatives, present, 0.5)
    assert float(contrastive_loss(rows, contrast, queues, 0.5)) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.1


def test_only_anchors_get_a_gradient_and_nothing_else_matters():
    contrast, queues, rows, _ = made_contrast()
    rows.requires_grad_()
    loss = contrastive_loss(rows, contrast, queues, 0.5)
    loss.backward()
    chosen = torch.zeros(COUNT, dtype=torch.bool)
    chosen[contrast.place[contrast.here & contrast.usable[:, None]]] = True
    assert rows.grad is not None
    assert rows.grad.any(1).equal(chosen)
    assert not chosen[:2].any(), "ignored pixels"
    assert 0 < chosen.sum() < COUNT
    other = torch.where(chosen[:, None], rows.detach(), 77.0)
    assert contrastive_loss(other, contrast, queues, 0.5) == loss


def test_without_anchors_or_negatives_the_loss_is_0():
    contrast, queues, rows, _ = made_contrast()
    rows.requires_grad_()
    nobody = contrast._replace(
        here=torch.zeros_like(contrast.here), usable=torch.zeros_like(contrast.usable), present=torch.tensor(0)
    )
    for given in (nobody, contrast._replace(usable=torch.zeros_like(contrast.usable))):
        loss = contrastive_loss(rows, given, queues, 0.5)
        loss.backward()
        assert loss == 0
        assert rows.grad is not None
        assert not rows.grad.any()


def test_lengths_do_not_matter_and_an_anchor_at_its_positive_costs_least():
    anchors, positive = torch.randn(4, 6, generator=generator()), torch.randn(6, generator=generator(1))
    negatives = F.normalize(torch.randn(4, 3, 6, generator=generator(2)), dim=2)
    losses = anchor_losses(anchors, positive, negatives, 0.5)
    torch.testing.assert_close(anchor_losses(3 * anchors, 5 * positive, negatives, 0.5), losses)
    at_positive = anchor_losses(positive.expand(4, -1), positive, negatives, 0.5)
    best = -torch.log_softmax(
        torch.stack([torch.cat([torch.ones(1), row @ F.normalize(positive, dim=0)]) for row in negatives]) / 0.5, 1
    )[:, 0]
    torch.testing.assert_close(at_positive, best)


# ---- the head ----


def test_the_representation_of_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    head, features = Projection(5, 12), torch.randn(3, 5, 4, 6)
    found = head(features)
    assert found.shape == (3, 12, 4, 6)
    torch.testing.assert_close(found[1:2], head(features[1:2]))
    assert as_rows(found)[24 + 6 + 2].equal(found[1, :, 1, 2])
