"""CutMix, Cutout and ClassMix: a mask each, and one `mix` that moves image and pseudo-label together.

Partner of image i is image i+1 of the batch, a ring. Masks are True where the partner (or, for Cutout, nothing) shows.
With several ranks masks are drawn for the whole batch, and the ring goes through all ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.parts.losses import classes_shown
from semiseg.runtime.distributed import own_rows, rolled, world_size
from semiseg.types import IGNORE, PseudoLabel

TOGGLES = 3  # boxes of CPS
TRIES = 256  # for a box that is inside; at the largest area about one in fifteen is


def half_boxes(image: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes of half the image's area as U2PL draws them. (B, H, W) bool, on the images' device

    image: (B, 3, H, W), of which the shape and the device count. `generator` is on the CPU.

    The width is uniform over the integers in [floor(width / 2 + 1), width - 1], the height follows from the area, the
    place is uniform. No side is shorter than half, so the middle of the image is nearly always covered.
    """
    height, width = image.shape[-2:]
    widths = torch.randint(width // 2 + 1, width, (len(image) * world_size(),), generator=generator)
    heights = (height * width / 2 / widths).round().long()
    return _boxes(heights, widths, image, generator)


def french_boxes(image: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes of half the area as CutMix-Seg draws them (French et al. 2020). (B, H, W) bool, on the images' device

    image: as in `half_boxes`. The height's share is 0.5 ** U(0, 1), the width's share 0.5 over that.
    """
    height, width = image.shape[-2:]
    share = 0.5 ** torch.rand(len(image) * world_size(), generator=generator)
    heights = (share * height).round().long()
    widths = (0.5 / share * width).round().long()
    return _boxes(heights, widths, image, generator)


def toggled_boxes(image: Tensor, generator: torch.Generator) -> Tensor:
    """Three boxes per image; where two overlap, the image itself shows again (CPS). (B, H, W) bool, on its device

    image: as in `half_boxes`. Each box is drawn as in `french_boxes`, of a share of the area that is uniform between a
    quarter and a half, and then shrunk to a third of its area.
    """
    shown = torch.zeros(len(image), *image.shape[-2:], dtype=torch.bool, device=image.device)
    height, width = image.shape[-2:]
    shrink = TOGGLES**-0.5  # of both sides
    for _ in range(TOGGLES):
        area, aspect = torch.rand(2, len(image) * world_size(), generator=generator)
        area = 0.25 + 0.25 * area
        share = area**aspect  # of the height
        heights = (share * shrink * height).round().long()
        widths = (area / share * shrink * width).round().long()
        shown ^= _boxes(heights, widths, image, generator)
    return shown


def small_boxes(image: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes as UniMatch draws them (Yang et al. 2023). (B, H, W) bool, on the images' device

    image: as in `half_boxes`. Every second image has one, by its own coin. Its area is U(0.02, 0.4) of the image's; its
    aspect, U(0.3, 1/0.3), and its corner, uniform over the image, are drawn together until the box is inside. Of
    TRIES draws one nearly always is, in a square image; where none is, as may be in a long and narrow one, the image
    has no box.
    """
    height, width = image.shape[-2:]
    count = len(image) * world_size()
    coin, area = torch.rand(2, count, generator=generator)
    aspect, down, right = torch.rand(3, count, TRIES, generator=generator)
    area, aspect = (0.02 + 0.38 * area[:, None]) * height * width, 0.3 + (1 / 0.3 - 0.3) * aspect
    tried = [(area * aspect).sqrt(), (area / aspect).sqrt(), down * height, right * width]
    sides = torch.stack(tried, -1).long()  # (B, TRIES, 4)
    inside = (sides[..., 0] + sides[..., 2] <= height) & (sides[..., 1] + sides[..., 3] <= width)
    first = inside.int().argmax(1)  # (B,)
    there = (coin < 0.5) & inside.any(1)
    return _painted(sides[torch.arange(count), first] * there[:, None], image)


def squares(image: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """A square at a uniform place as PseudoSeg cuts it out: its middle is uniform over the image, which may cut it off.

    side: a share of the image's shorter side. image: as in `half_boxes`. (B, H, W) bool, on the images' device
    """
    half = round(side * min(image.shape[-2:])) / 2
    every = torch.rand(len(image) * world_size(), 2, generator=generator)
    middle = (own_rows(every) * torch.tensor(image.shape[-2:])).to(image.device, non_blocking=True)  # (B, 2)
    near = [
        ((torch.arange(length, device=image.device) + 0.5 - middle[:, axis, None]).abs() < half)
        for axis, length in enumerate(image.shape[-2:])
    ]
    return near[0][:, :, None] & near[1][:, None, :]


def _boxes(heights: Tensor, widths: Tensor, image: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes at uniform places, of sizes for the whole batch; this process's share. (B, H, W) bool"""
    height, width = image.shape[-2:]
    top = (torch.rand(len(heights), generator=generator) * (height - heights + 1)).long()
    left = (torch.rand(len(widths), generator=generator) * (width - widths + 1)).long()
    return _painted(torch.stack([heights, widths, top, left], 1), image)


def _painted(sides: Tensor, image: Tensor) -> Tensor:
    """This process's share of the boxes of the whole batch: height, width, top and left (B, 4). (B, H, W) bool

    They travel to the device and are painted there: megabytes from unpinned memory could make the host wait.
    """
    height, width = image.shape[-2:]
    heights, widths, top, left = own_rows(sides).to(image.device, non_blocking=True).unbind(1)  # each (B,)
    rows, columns = torch.arange(height, device=image.device), torch.arange(width, device=image.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + heights)[:, None])  # (B, H)
    in_columns = (columns >= left[:, None]) & (columns < (left + widths)[:, None])  # (B, W)
    return in_rows[:, :, None] & in_columns[:, None, :]


def class_masks(label: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """ClassMix (Olsson et al. 2021): each image keeps a random half, rounded down, of the classes it shows.

    label (B, H, W) uint8 or int64; pixels of IGNORE are never kept. Returns (B, H, W) bool, True where the partner
    shows.
    """
    slots = label.long().masked_fill(label == IGNORE, num_classes).flatten(1)  # (B, HW), one more slot for IGNORE
    present = F.pad(classes_shown(label.long(), num_classes), (0, 1))  # (B, C + 1)
    every = torch.rand(len(label) * world_size(), num_classes + 1, generator=generator)
    draw = own_rows(every).to(label.device, non_blocking=True)
    place = draw.masked_fill(~present, 2.0).argsort(1).argsort(1)  # rank among the present classes, absent ones last
    keep = place < (present.sum(1, keepdim=True) // 2)  # (B, C + 1)
    return ~keep.gather(1, slots).view_as(label)


def paste(maps: Tensor, partner: Tensor) -> Tensor:
    """Image i's values outside the mask, image i+1's inside it. maps (B, H, W) or (B, X, H, W), partner (B, H, W)"""
    mask = partner[:, None] if maps.dim() == 4 else partner
    return torch.where(mask, rolled(maps), maps)


def mix(image: Tensor, pseudo: PseudoLabel, partner: Tensor) -> tuple[Tensor, PseudoLabel]:
    """`paste` on an image and all that is known of it. image (B, 3, H, W), partner (B, H, W) bool

    The prediction of the mixed image is the mix of the predictions (3.3).
    """
    return paste(image, partner), mix_label(pseudo, partner)


def mix_label(pseudo: PseudoLabel, partner: Tensor) -> PseudoLabel:
    """`paste` on all that is known of an image. partner (B, H, W) bool"""
    return PseudoLabel(*(paste(maps, partner) for maps in (pseudo.label, pseudo.confidence, pseudo.valid)))


def blank(image: Tensor, pseudo: PseudoLabel, hole: Tensor) -> tuple[Tensor, PseudoLabel]:
    """Cutout (DeVries & Taylor 2017): the mean colour inside the hole, where nothing is asked of the student.

    image (B, 3, H, W) normalised, hole (B, H, W) bool.
    """
    hidden = PseudoLabel(
        label=pseudo.label.masked_fill(hole, IGNORE),
        confidence=pseudo.confidence.masked_fill(hole, 0.0),
        valid=pseudo.valid & ~hole,
    )
    return image.masked_fill(hole[:, None], 0.0), hidden


def mix_batch(
    kind: str, probability: float, image: Tensor, pseudo: PseudoLabel, num_classes: int, generator: torch.Generator
) -> tuple[Tensor, PseudoLabel]:
    """The batch under `cutmix`, `cutout`, `classmix` or `none` (Table 6): with `probability` all of it, else none.

    image (B, 3, H, W). The coin is a mask like the others, so that nothing waits for the device.
    """
    if kind == "none":
        return image, pseudo
    coin = (torch.rand(1, 1, 1, generator=generator) < probability).to(image.device, non_blocking=True)
    if kind == "classmix":
        shown = pseudo.label.masked_fill(~pseudo.valid, IGNORE)  # what is predicted on padding is no class to keep
        return mix(image, pseudo, class_masks(shown, num_classes, generator) & coin)
    boxes = half_boxes(image, generator)
    return mix(image, pseudo, boxes & coin) if kind == "cutmix" else blank(image, pseudo, boxes & coin)
