"""AEL's mixes: which classes are pasted into a labelled image, which box into an unlabelled one, which pixels teach.

With several processes what is random is drawn for the batch that all of them hold. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.parts.losses import classes_shown
from semiseg.parts.sampling import device_random
from semiseg.runtime.distributed import own_rows, rolled, world_size
from semiseg.types import IGNORE, PseudoLabel

GRID = 64  # cells along the longer side, in which regions are looked for
ROUNDS = 20  # of joining cells to regions: more than any shape on such a grid was seen to need


def hard_classes(
    label: Tensor, hardness: Tensor, allowed: Tensor, number: int, probability: float, generator: torch.Generator
) -> Tensor:
    """Adaptive copy-paste: where image i shows its partner i + 1, all pixels of some of that one's classes. (B, H, W)

    label (B, H, W) int64, hardness (C,), allowed (C,) bool. With `probability` an image is pasted into; then `number`
    of the allowed classes in the partner's label are drawn one after another without return, each with chances in
    proportion to exp(hardness ** 0.5). Pixels of IGNORE are never pasted.
    """
    classes, partner = len(hardness), rolled(label)
    slots = partner.masked_fill(partner == IGNORE, classes).flatten(1)  # (B, HW), one more slot for IGNORE
    there = classes_shown(partner, classes) & allowed  # (B, C)
    dice = torch.rand(len(label) * world_size(), classes + 1, generator=generator)
    dice = own_rows(dice).to(label.device, non_blocking=True)
    gumbel = -(-dice[:, 1:].clamp(min=1e-12).log()).log()  # sorting by logit + Gumbel noise makes such draws
    score = (hardness.sqrt() + gumbel).masked_fill(~there, -torch.inf)
    place = score.argsort(1, descending=True).argsort(1)
    drawn = there & (place < number) & (dice[:, :1] < probability)  # (B, C)
    return F.pad(drawn, (0, 1)).gather(1, slots).view_as(label)


def region_boxes(
    pseudo: PseudoLabel, wanted: Tensor, least: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Adaptive CutMix: the box around a random region of the class `wanted` (B,). (B, H, W) bool; (B,) bool, found

    Of the connected regions of that class that cover more than the share `least` of the image, each is as likely. They
    are looked for among the middle pixels of at most GRID x GRID cells; cells touch at sides and corners.
    """
    height, width = pseudo.label.shape[1:]
    side = -(-max(height, width) // GRID)
    shown = (pseudo.label == wanted.to(pseudo.label.dtype)[:, None, None]) & pseudo.valid
    cells = shown[:, min(side // 2, height - 1) :: side, min(side // 2, width - 1) :: side]  # (B, h, w)
    names = regions(cells)
    flat = names.flatten(1)  # (B, hw)
    size = torch.zeros(len(flat), flat.shape[1] + 1, device=flat.device)
    size.scatter_add_(1, flat, torch.ones((), device=flat.device).expand(flat.shape))
    large = size[:, 1:] > least * flat.shape[1]  # (B, hw), at the cell that a region is named after
    large &= cells.flatten(1)
    dice = own_rows(torch.rand(len(flat) * world_size(), dtype=torch.double, generator=generator))
    count = large.cumsum(1)  # (B, hw), of large regions named up to here
    drawn = (dice.to(flat.device, non_blocking=True) * count[:, -1]).long() + 1  # the first, second, ... of them
    region = names == torch.searchsorted(count, drawn[:, None])[:, :, None] + 1
    rows, columns = _stretched(region.any(2), height, side), _stretched(region.any(1), width, side)
    return rows[:, :, None] & columns[:, None, :], large.any(1)


def _stretched(cells: Tensor, length: int, side: int) -> Tensor:
    """The `length` pixels from the first marked cell to the last; what is left over belongs to the last. (B, n) bool"""
    marked = cells.int()
    between = (marked.cummax(1).values & marked.flip(1).cummax(1).values.flip(1)).bool()
    return between[:, (torch.arange(length, device=cells.device) // side).clamp(max=cells.shape[1] - 1)]


def regions(cells: Tensor) -> Tensor:
    """Connected regions of True: each cell gets the name of its region, its last cell's number from 1; 0 elsewhere.

    cells (B, h, w) bool; (B, h, w) int64. In every round the cell that a part is named after takes the largest name
    around that part, then each cell the name of the cell it is named after: parts join in pairs at least, and at once.
    """
    batch, height, width = cells.shape
    own = torch.arange(1, height * width + 1, device=cells.device).view(height, width) * cells
    name = F.pad(own.flatten(1), (1, 0))  # (B, hw + 1), name 0 has the name 0
    for _ in range(ROUNDS):
        shown = name[:, 1:].view(batch, height, width)
        around = (F.max_pool2d(shown.float()[:, None], 3, 1, 1)[:, 0].long() * cells).flatten(1)  # exact: below 2^24
        name = name.scatter_reduce(1, name[:, 1:], around, "amax")
        name = name.gather(1, name)
    return name[:, 1:].view(batch, height, width)


def pixel_dice(images: Tensor, generator: torch.Generator) -> Tensor:
    """For each pixel of (B, ..., H, W) a number that is uniform in [0, 1). (B, H, W)"""
    whole = (len(images) * world_size(), *images.shape[-2:])
    return own_rows(device_random(whole, generator, images.device))
