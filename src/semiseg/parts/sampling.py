"""Picking points from a feature map without upsampling it.

A full-size map of 512 channels costs 0.5 GB per image of 513 x 513 pixels; the points that are asked for cost 2 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.runtime.precision import full_precision


def device_random(
    shape: Sequence[int], generator: torch.Generator, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """U(0, 1) of `shape`, made on `device`: for draws that are too many to be carried there.

    A CPU draws from the clock's `generator`, a GPU from its own, seeded with one number of the clock's; nothing waits
    for the device. Every rank draws the same: draw for the whole batch and take `own_rows`. On the meta device, where
    steps are counted, nothing is drawn.
    """
    if device.type == "meta":
        return torch.empty(tuple(shape), device=device, dtype=dtype)
    if device.type == "cpu":
        return torch.rand(tuple(shape), generator=generator, dtype=dtype)
    seed = int(torch.randint(2**62, (1,), generator=generator))  # read on the CPU
    return torch.rand(tuple(shape), generator=torch.Generator(device).manual_seed(seed), device=device, dtype=dtype)


def grid_points(height: int, width: int, grid: int, generator: torch.Generator) -> Tensor:
    """One uniform point in each cell of a grid x grid over the image. (N, 2) int64, rows and columns

    A cell is height // grid by width // grid pixels (at least one), so the last rows and columns may never be drawn, as
    in the authors' release. An image smaller than the grid has one cell per pixel.
    """
    rows = _one_per_cell(height, grid, min(grid, width), generator)  # (g_h, g_w)
    columns = _one_per_cell(width, grid, min(grid, height), generator).T
    return torch.stack([rows, columns], dim=-1).flatten(0, 1)


def _one_per_cell(length: int, grid: int, repeats: int, generator: torch.Generator) -> Tensor:
    """A uniform offset within each of the cells along one side, drawn anew `repeats` times. (cells, repeats)"""
    cells = min(grid, length)
    cell = length // cells
    starts = torch.arange(cells)[:, None] * cell
    return starts + torch.randint(0, cell, (cells, repeats), generator=generator)


def all_points(height: int, width: int) -> Tensor:
    """Every pixel, row by row. (height * width, 2) int64"""
    return torch.cartesian_prod(torch.arange(height), torch.arange(width))


def pick(features: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """The features at `points` of the map upsampled to `size`, without that map. (B, N, D) float32

    features (B, D, h, w); points (N, 2), shared by the batch, or (B, N, 2), in pixels of `size` = (H, W). Bilinear,
    align_corners=True: equal to upsampling first and indexing after. Each point is the weighted sum of four rows of a
    table of features; `grid_sample` does the same at half the speed, and loses digits by scaling places to [-1, 1].
    """
    batch, channels, height, width = features.shape
    points = points.to(features.device, non_blocking=True)  # a few kilobytes; what follows from them is made there
    shared = points if points.dim() == 3 else points.expand(batch, -1, -1)
    rows, columns = _neighbours(shared[..., 0], height, size[0]), _neighbours(shared[..., 1], width, size[1])
    start = torch.arange(batch, device=points.device)[:, None] * height * width
    index = torch.stack([start + y * width + x for y, _ in rows for x, _ in columns], -1)  # (B, N, 4)
    weight = torch.stack([of_row * of_column for _, of_row in rows for _, of_column in columns], -1)
    index, weight = index.flatten(0, 1), weight.flatten(0, 1)
    with full_precision(features.device):
        table = features.float().permute(0, 2, 3, 1).reshape(-1, channels)
        picked = F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
    return picked.unflatten(0, (batch, -1))


def _neighbours(place: Tensor, small: int, large: int) -> list[tuple[Tensor, Tensor]]:
    """Along one side, the two cells of `small` around each place of `large`, with their weights; in exact integers."""
    reach = max(large - 1, 1)
    low = place * (small - 1) // reach
    rest = (place * (small - 1) - low * reach) / reach
    return [(low, 1 - rest), ((low + 1).clamp(max=small - 1), rest)]


def nearest_pixels(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Each feature's own pixel of full-size maps: the nearest one, corners aligned. (B, ..., H, W) -> (B, ..., h, w)

    size: (h, w) of the feature map.
    """
    rows, columns = (_nearest(small, large, maps) for small, large in zip(size, maps.shape[-2:], strict=True))
    return maps[..., rows[:, None], columns]


def _nearest(small: int, large: int, like: Tensor) -> Tensor:
    """Along one side, the place of `large` that each of `small` has, halves rounded up. (small,)"""
    reach = max(small - 1, 1)
    return (torch.arange(small, device=like.device) * (large - 1) * 2 + reach) // (2 * reach)


def pick_pixels(maps: Tensor, points: Tensor) -> Tensor:
    """The values of full-size maps (B, H, W) at points (N, 2) or (B, N, 2). (B, N)"""
    points = points.to(maps.device, non_blocking=True)
    flat = points[..., 0] * maps.shape[-1] + points[..., 1]
    return maps.flatten(1).gather(1, flat.expand(len(maps), -1))


class ClassSample:
    """A uniform sample of at most `limit` features per class from a stream of any length.

    Every feature gets a random key, and the smallest keys stay, so no feature is favoured by its place.
    """

    def __init__(self, num_classes: int, limit: int, generator: torch.Generator) -> None:
        self.limit, self.generator = limit, generator
        self.kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(num_classes)]  # (keys (n,), features (n, D))

    def add_image(self, features: Tensor, label: Tensor, most: int) -> None:
        """Draw at most `most` pixels of each class of one image. features (1, D, h, w), label (H, W)"""
        size = (label.shape[0], label.shape[1])
        for number in range(len(self.kept)):
            pixels = (label == number).nonzero().cpu()  # (n, 2)
            if len(pixels):
                chosen = pixels[torch.randperm(len(pixels), generator=self.generator)[:most]]
                self._add(number, pick(features, chosen, size)[0].cpu())

    def _add(self, number: int, features: Tensor) -> None:
        """Add (n, D) features of a class; thin out when twice the limit is reached, so memory stays flat."""
        entries = self.kept[number]
        entries.append((torch.rand(len(features), generator=self.generator), features))
        if sum(len(keys) for keys, _ in entries) > 2 * self.limit:
            self.kept[number] = [self._thinned(entries)]

    def _thinned(self, entries: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        keys, features = (torch.cat(parts) for parts in zip(*entries, strict=True))
        chosen = keys.argsort()[: self.limit]
        return keys[chosen], features[chosen]

    def result(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and their classes (N,), class by class."""
        parts = {number: self._thinned(entries)[1] for number, entries in enumerate(self.kept) if entries}
        if not parts:
            return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
        labels = [torch.full((len(features),), number) for number, features in parts.items()]
        return torch.cat(list(parts.values())), torch.cat(labels)
