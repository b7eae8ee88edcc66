"""Dropped channels: which, how many, and what two views have between them."""

import pytest
import torch
from support.ranks import in_ranks

from semiseg.parts.channel_dropout import complementary, complementary_factors, drop_channels, with_dropped
from semiseg.runtime.distributed import own_rows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_channels_are_dropped_whole_and_the_others_make_up_for_them(rate):
    maps = torch.rand(40, 50, 3, 4) + 1
    factors = drop_channels(maps, rate, seeded()) / maps
    torch.testing.assert_close(factors, factors[:, :, :1, :1].expand_as(factors))
    values = factors[:, :, 0, 0].double()
    kept = values > 0
    torch.testing.assert_close(values[kept], torch.full_like(values[kept], 1 / (1 - rate)))
    assert float((~kept).double().mean()) == pytest.approx(rate, abs=0.03)
    assert float(values.mean()) == pytest.approx(1, abs=0.05)


def test_the_images_behind_come_again_with_draws_for_each_map():
    pyramid = [torch.rand(5, 30, 4, 4) + 1, torch.rand(5, 30, 2, 2) + 1]
    found = with_dropped(2, 0.5, seeded())(pyramid)
    generator = seeded()
    for maps, perturbed in zip(pyramid, found, strict=True):
        assert perturbed[:5].equal(maps)
        assert perturbed[5:].equal(drop_channels(maps[2:], 0.5, generator))
    zeros = [perturbed[5:, :, 0, 0] == 0 for perturbed in found]
    assert not zeros[0].equal(zeros[1])


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_two_views_have_every_channel_between_them(count):
    for seed in range(20):
        (one, other), (again, _), (narrow, _) = complementary_factors(count, [9, 9, 4], seeded(seed))
        assert one.equal(again)
        assert narrow.shape == (count, 4)
        assert (one + other).eq(2).all()
        whole = one.eq(1).all(1)
        assert int(whole.sum()) == count // 2
        assert set(one[~whole].flatten().tolist()) <= {0.0, 2.0}
        assert whole.equal(narrow.eq(1).all(1))


def test_every_image_may_be_whole_and_every_channel_may_go():
    found = torch.stack([complementary_factors(4, [3], seeded(seed))[0][0] for seed in range(400)])  # (400, 4, 3)
    shares = [found.eq(value).double().mean(0) for value in (0, 1, 2)]
    for measured, expected in zip(shares, (0.25, 0.5, 0.25), strict=True):
        torch.testing.assert_close(measured, torch.full_like(measured, expected), atol=0.09, rtol=0)


def test_labelled_images_stay_and_each_view_has_its_own_factors():
    pyramid = [torch.rand(2 + 6, 7, 4, 4) + 1, torch.rand(2 + 6, 5, 2, 2) + 1]
    found = complementary(2, seeded())(pyramid)
    factors = complementary_factors(3, [7, 5], seeded())
    for maps, changed, (one, other) in zip(pyramid, found, factors, strict=True):
        assert changed[:2].equal(maps[:2])
        for image in range(3):
            for channel in range(maps.shape[1]):
                assert changed[2 + image, channel].equal(maps[2 + image, channel] * one[image, channel])
                assert changed[5 + image, channel].equal(maps[5 + image, channel] * other[image, channel])


def test_processes_drop_what_one_would(tmp_path):
    found = in_ranks(2, tmp_path / "group", dropped)
    alone = dropped()
    for part, whole in enumerate(alone):
        torch.testing.assert_close(torch.cat([each[part] for each in found]), whole)


def dropped() -> list[torch.Tensor]:
    maps = own_rows(torch.ones(4, 6, 2, 2))
    ((one, other),) = complementary_factors(len(maps), [6], seeded(1))
    return [drop_channels(maps, 0.5, seeded()), one, other]
