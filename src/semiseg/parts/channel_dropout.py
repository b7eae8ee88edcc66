"""Dropout of whole channels of an encoder's maps, drawn from the clock's generator: UniMatch's feature perturbation.

torch's own dropout layers draw in each process for itself; here N processes drop what one would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semiseg.runtime.distributed import own_rows, world_size


def drop_channels(maps: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Each channel of each image is 0 with probability `rate`, else 1 / (1 - rate) of itself. (B, X, h, w) -> the same

    generator: on the CPU. 0 <= rate < 1.
    """
    return _times(maps, channel_factors(maps, rate, generator))


def channel_factors(maps: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """What `drop_channels` multiplies the channels of (B, X, h, w) by. (B, X), on the CPU"""
    every = torch.rand(len(maps) * world_size(), maps.shape[1], generator=generator)
    return (own_rows(every) >= rate) / (1 - rate)


def with_dropped(first: int, rate: float, generator: torch.Generator) -> Callable[[list[Tensor]], list[Tensor]]:
    """For `Segmentor.forward`: behind all images those from number `first` on again, with channels dropped (3.2).

    Every map of the pyramid loses channels, by draws of its own.
    """

    return lambda pyramid: [torch.cat([maps, drop_channels(maps[first:], rate, generator)]) for maps in pyramid]


def complementary(first: int, generator: torch.Generator) -> Callable[[list[Tensor]], list[Tensor]]:
    """For `Segmentor.forward` on two views behind `first` other images: each view keeps the channels the other loses.

    UniMatch V2's complementary dropout. Maps of one width have one mask, as the four of a ViT; the first images stay.
    """

    def perturb(pyramid: list[Tensor]) -> list[Tensor]:
        factors = complementary_factors((len(pyramid[0]) - first) // 2, [maps.shape[1] for maps in pyramid], generator)
        return [
            _times(maps, torch.cat([torch.ones(first, maps.shape[1]), *pair]))
            for maps, pair in zip(pyramid, factors, strict=True)
        ]

    return perturb


def complementary_factors(count: int, widths: Sequence[int], generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """For each width X of `widths` the factors (B, X) of both views' channels; `count` is B, this process's images.

    A random half of all images, rounded down, keep every channel in both. In the others a coin for each channel makes
    it 2 in one view and 0 in the other. Equal widths have equal factors.
    """
    whole = torch.rand(count * world_size(), generator=generator).argsort().argsort() < count * world_size() // 2
    by_width: dict[int, tuple[Tensor, Tensor]] = {}
    for width in widths:
        if width not in by_width:
            coins = (torch.rand(len(whole), width, generator=generator) < 0.5).float()
            one = own_rows(torch.where(whole[:, None], 1.0, 2 * coins))
            by_width[width] = (one, 2 - one)
    return [by_width[width] for width in widths]


def _times(maps: Tensor, factors: Tensor) -> Tensor:
    """maps (B, X, h, w) times factors (B, X), which are on the CPU, a few kilobytes."""
    return maps * factors.to(maps.device, maps.dtype, non_blocking=True)[:, :, None, None]
