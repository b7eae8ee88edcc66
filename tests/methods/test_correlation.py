"""Correlations, what they hand on, regions, and the threshold that moves, against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import slow_matching

from semiseg.methods.details import corrmatch_correlation as correlation
from semiseg.methods.details.corrmatch_correlation import (
    Correlation,
    CorrelationHead,
    followed,
    greatest_by_class,
    hand_on,
    propagate,
    regions,
    shares,
    spread,
)
from semiseg.types import PseudoLabel

seeds = st.integers(0, 10_000)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(seed: int, batch: int = 2, classes: int = 3, places: int = 12) -> tuple[torch.Tensor, ...]:
    """giving, taking and logits (B, C, N)."""
    return torch.randn(3, batch, classes, places, generator=seeded(seed)).mul(2).unbind(0)


# ---- what is handed on ----


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_every_place_hands_its_logits_on_in_shares(seed):
    giving, taking, logits = case(seed)
    found = hand_on(logits, giving, taking)
    for b in range(2):
        expected = np.zeros((3, 12))
        for place in range(12):
            row = slow_matching.row_of_correlation(giving[b].numpy(), taking[b].numpy(), place)
            assert shares(giving[b : b + 1], taking[b : b + 1])[0, place].numpy() == pytest.approx(row, abs=1e-6)
            for other in range(12):
                expected[:, other] += row[other] * logits[b, :, place].numpy()
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.sum(2), logits.sum(2), rtol=1e-4, atol=1e-4)  # nothing is lost


def test_parts_of_places_give_what_all_at_once_do(monkeypatch):
    found = []
    for at_once in (1024, 5):
        monkeypatch.setattr(correlation, "PLACES_AT_ONCE", at_once)
        giving, taking, logits = (tensor.requires_grad_() for tensor in case(0))
        value = hand_on(logits, giving, taking)
        value.square().sum().backward()
        found.append((value.detach(), giving.grad, taking.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_logits_learn_nothing_from_being_handed_on():
    torch.manual_seed(0)
    head = CorrelationHead(5, 3, 8)
    deepest, logits = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 3, 9, 11, requires_grad=True)
    found = head(deepest, logits, [2], seeded())
    assert found.logits.shape == (2, 3, 9, 11)
    assert found.giving.shape == found.taking.shape == (2, 3, 12)
    assert found.grid == (3, 4)
    found.logits.square().sum().backward()
    assert logits.grad is None
    assert deepest.grad.any()
    assert all(parameter.grad.any() for parameter in head.parameters())


def test_the_head_drops_channels_by_the_clock_alone():
    head = CorrelationHead(5, 3, 64)
    deepest, logits = torch.randn(2, 5, 3, 4), torch.randn(2, 3, 9, 11)
    first, again, other = (head(deepest, logits, [1, 1], seeded(seed)).giving for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


# ---- regions ----


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_a_region_is_where_its_row_is_above_the_middle(seed):
    giving, taking, _ = case(seed, batch=1)
    places = [3, 7, 3]
    found = regions(giving[0][:, places], taking[0], (3, 4), (8, 9))
    for place, region in zip(places, found, strict=True):
        row = slow_matching.row_of_correlation(giving[0].numpy(), taking[0].numpy(), place)
        full = slow_matching.resized(row.reshape(3, 4), (8, 9))
        scaled = (full - full.min()) / (full.max() - full.min())
        clear = abs(scaled - 0.5) > 1e-4
        assert np.array_equal(region.numpy()[clear], (scaled > 0.5)[clear])
        assert clear.mean() > 0.9


def test_a_row_that_is_the_same_everywhere_has_no_region():
    assert not regions(torch.zeros(3, 2), torch.randn(3, 12), (3, 4), (8, 9)).any()


@given(seeds, st.sampled_from([0.0, 0.35, 0.55, 0.8]))
@settings(deadline=None, max_examples=60)
def test_labels_spread_as_in_the_slow_twin(seed, threshold):
    generator = seeded(seed)
    label = (torch.rand(5, 6, generator=generator) < 0.2).byte() * 2
    certain = torch.rand(5, 6, generator=generator) < 0.7
    region = torch.rand(4, 5, 6, generator=generator) < 0.4
    found, where = spread(label, certain, region, torch.tensor(threshold), 3)
    expected, expected_where = slow_matching.spread(label.numpy(), certain.numpy(), region.numpy(), threshold)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)
    assert np.array_equal(where.numpy(), expected_where)


def test_what_a_region_needs():
    """Four pixels; the fifth is outside of the region."""
    label, region = torch.tensor([[0, 1, 1, 1, 2]]).byte(), torch.tensor([[[True, True, True, True, False]]])

    def spreads(certain: list[int], threshold: float) -> list[int]:
        mask = torch.tensor([[bool(each) for each in certain]])
        return spread(label, mask, region, torch.tensor(threshold), 3)[0][0].tolist()

    before, after = [0, 1, 1, 1, 2], [1, 1, 1, 1, 2]
    assert spreads([0, 1, 1, 1, 0], 0.75) == after  # three of four are certain, all of one class
    assert spreads([0, 1, 1, 0, 0], 0.75) == before  # too few are certain
    assert spreads([1, 1, 1, 1, 0], 0.75) == before  # three of four agree: not more than 0.75
    assert spreads([1, 1, 1, 1, 0], 0.7) == after
    assert spreads([0, 0, 0, 0, 1], 0.0) == before  # nothing is certain in it


def test_where_regions_overlap_the_later_one_holds_and_all_are_judged_by_what_came():
    label = torch.tensor([[0, 0, 0, 1, 1, 1]]).byte()
    certain = torch.tensor([[True, True, False, False, True, True]])
    region = torch.tensor([[[1, 1, 1, 1, 0, 0]], [[0, 0, 1, 1, 1, 1]]]).bool()
    found, where = spread(label, certain, region, torch.tensor(0.5), 2)
    assert found[0].tolist() == [0, 0, 1, 1, 1, 1]
    assert where.all()
    assert spread(label, certain, region.flip(0), torch.tensor(0.5), 2)[0][0].tolist() == [0, 0, 0, 0, 1, 1]


def pseudo_labels(seed: int) -> tuple[PseudoLabel, Correlation]:
    generator = seeded(seed)
    label = (torch.rand(2, 8, 9, generator=generator) < 0.15).byte()
    confidence = (0.3 + 0.7 * torch.rand(2, 8, 9, generator=generator)).half()
    valid = torch.ones(2, 8, 9).bool()
    valid[1, :, :3] = False
    giving, taking, _ = case(seed)
    return PseudoLabel(label, confidence, valid), Correlation(torch.empty(0), giving, taking, (3, 4))


def test_pseudo_labels_of_a_batch_spread_within_their_images():
    pseudo, correlated = pseudo_labels(0)
    found = propagate(pseudo, correlated, torch.tensor(0.55), 20, seeded(3))
    drawn = torch.randint(12, (2, 20), generator=seeded(3))
    assert found.valid.equal(pseudo.valid)
    for b in range(2):
        region = regions(correlated.giving[b][:, drawn[b]], correlated.taking[b], (3, 4), (8, 9)) & pseudo.valid[b]
        certain = pseudo.kept(0.55)[b]
        label, where = slow_matching.spread(pseudo.label[b].numpy(), certain.numpy(), region.numpy(), 0.55)
        assert where.any()
        assert not where.all()
        assert np.array_equal(found.label[b], label)
        assert np.array_equal(found.confidence[b], np.where(where, 1, pseudo.confidence[b].numpy()))


def test_padding_does_not_matter_and_is_given_nothing():
    pseudo, correlated = pseudo_labels(0)
    label = pseudo.label.where(pseudo.valid, 2 - pseudo.label)
    wild = PseudoLabel(label, pseudo.confidence.masked_fill(~pseudo.valid, 1), pseudo.valid)
    one, other = (propagate(each, correlated, torch.tensor(0.55), 20, seeded(3)) for each in (pseudo, wild))
    assert one.label[pseudo.valid].equal(other.label[pseudo.valid])
    assert one.kept(0.55).equal(other.kept(0.55))
    assert one.confidence[~pseudo.valid].equal(pseudo.confidence[~pseudo.valid])


def test_without_places_or_certain_pixels_nothing_spreads():
    pseudo, correlated = pseudo_labels(0)
    for threshold, count in ((0.55, 0), (1.0, 20)):
        found = propagate(pseudo, correlated, torch.tensor(threshold), count, seeded())
        assert found.label.equal(pseudo.label)
        assert found.confidence.equal(pseudo.confidence)


# ---- the threshold ----


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_the_threshold_follows_the_mean_of_the_classes_greatest_confidences(seed):
    pseudo, _ = pseudo_labels(seed)
    greatest = {}
    for b, y, x in pseudo.valid.nonzero().tolist():
        number = int(pseudo.label[b, y, x])
        greatest[number] = max(greatest.get(number, 0), float(pseudo.confidence[b, y, x]))
    found = greatest_by_class(pseudo, 4)
    assert found.tolist() == [pytest.approx(greatest.get(number, 0)) for number in range(4)]
    expected = 0.9 * 0.85 + 0.1 * sum(greatest.values()) / len(greatest)
    assert float(followed(torch.tensor(0.85), found, 0.9)) == pytest.approx(expected, rel=1e-5)


def test_a_batch_that_predicts_nothing_leaves_the_threshold():
    pseudo, _ = pseudo_labels(0)
    nothing = greatest_by_class(PseudoLabel(pseudo.label, pseudo.confidence, torch.zeros_like(pseudo.valid)), 3)
    assert nothing.eq(0).all()
    assert float(followed(torch.tensor(0.85), nothing, 0.9)) == pytest.approx(0.85)
