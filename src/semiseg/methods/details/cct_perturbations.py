"""What is done to an encoder's features in CCT (Ouali et al. 2020), for each of its seven families.

Features are (B, X, h, w), the deepest map. Six families give a factor to multiply them by, the seventh a shift to add;
both are small or shared by the batch, so that many of them can wait for their decoders. `guide` (B, h, w) int64 holds
the main decoder's classes there; class 0 is the background. Draws are made for the whole batch of all processes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.parts.channel_dropout import channel_factors
from semiseg.parts.sampling import device_random
from semiseg.runtime.distributed import own_rows, world_size
from semiseg.runtime.precision import full_precision

DROPPED = 0.5  # share of the channels that DropOut2d zeroes
DROP_ABOVE = (0.7, 0.9)  # FeatureDrop's threshold, as a share of the strongest place's activation
NOISE = 0.3  # FeatureNoise: features change by at most this share of themselves
ERASED = 0.4  # guided CutOut: share of a bounding box's sides
STEP = 0.01  # of VAT's power iteration, as a share of the features' norm


def channel_dropout(features: Tensor, generator: torch.Generator) -> Tensor:
    """DropOut2d: every channel of every image stays with probability 1/2, and then doubled. (B, X, 1, 1)"""
    factors = channel_factors(features, DROPPED, generator).to(features.device, non_blocking=True)
    return factors[:, :, None, None]


def feature_drop(features: Tensor, generator: torch.Generator) -> Tensor:
    """FeatureDrop: 0 at the most active places, where the mean over channels reaches a share of its maximum over the
    image; one share for the batch, from U(0.7, 0.9). (B, 1, h, w)
    """
    low, high = DROP_ABOVE
    share = (low + torch.rand((), generator=generator) * (high - low)).to(features.device, non_blocking=True)
    activation = features.detach().float().mean(1, keepdim=True)  # (B, 1, h, w)
    return (activation < share * activation.amax((2, 3), keepdim=True)).float()


def feature_noise(features: Tensor, generator: torch.Generator) -> Tensor:
    """FeatureNoise: 1 + U(-0.3, 0.3) for every value of a map, the same for all images. (1, X, h, w)"""
    return 1 + NOISE * (2 * device_random((1, *features.shape[1:]), generator, features.device) - 1)


def context_masking(guide: Tensor) -> Tensor:
    """Context masking: only the objects are left. (B, 1, h, w)"""
    return (guide != 0)[:, None].float()


def object_masking(guide: Tensor) -> Tensor:
    """Object masking: only the context of the objects, the background, is left. (B, 1, h, w)"""
    return (guide == 0)[:, None].float()


def guided_cutout(guide: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Guided CutOut: of the bounding box of each object class in each image, 0 in a box of 0.4 of its height and width,
    rounded up, at a uniform place inside. (B, 1, h, w)
    """
    batch, height, width = guide.shape
    every = torch.rand(batch * world_size(), num_classes, 2, generator=generator)
    place = own_rows(every).to(guide.device, non_blocking=True)
    in_rows = _erased(_shown(guide, num_classes), place[:, :, 0], height)  # (B, C, h)
    in_columns = _erased(_shown(guide.mT, num_classes), place[:, :, 1], width)  # (B, C, w)
    erased = in_rows[:, 1:, :, None] & in_columns[:, 1:, None, :]  # (B, C - 1, h, w), without the background
    return (~erased.any(1, keepdim=True)).float()


def _shown(guide: Tensor, num_classes: int) -> Tensor:
    """Which classes each row of (B, h, w) shows. (B, C, h) bool"""
    shown = torch.zeros(*guide.shape[:2], num_classes, dtype=torch.bool, device=guide.device)
    return shown.scatter_(2, guide, True).mT


def _erased(shown: Tensor, place: Tensor, length: int) -> Tensor:
    """Along one side, the part that is erased between the first and the last place where a class is shown.

    shown (B, C, length) bool, place (B, C) in [0, 1). Nothing for a class that is not there. (B, C, length) bool
    """
    index = torch.arange(length, device=shown.device)
    first = index.where(shown, length).amin(2)  # (B, C)
    extent = (index.where(shown, -1).amax(2) - first + 1).clamp(min=0)
    erased = (ERASED * extent).ceil().long()
    start = first + (place * (extent - erased + 1)).long()
    return (index >= start[..., None]) & (index < (start + erased)[..., None])


def adversarial_shift(
    decoder: Callable[[Tensor], Tensor], features: Tensor, radius: float, generator: torch.Generator
) -> Tensor:
    """VAT (Miyato et al. 2018): of length `radius` in each image, along which the decoder's prediction changes most.

    One step of the power iteration: the gradient of KL(p || p') at a small random shift, the same for all images.
    decoder: features -> logits (B, C, h', w'). Returns (B, X, h, w) without gradient; 0 where the gradient is 0.
    """
    with full_precision(features.device), torch.enable_grad():
        fixed = features.detach().float()
        length = STEP * torch.linalg.vector_norm(fixed, dim=(1, 2, 3), keepdim=True)
        shift = (length * _unit(2 * device_random((1, *fixed.shape[1:]), generator, fixed.device) - 1)).requires_grad_()
        with torch.no_grad():
            target = decoder(fixed).softmax(1)
        divergence = F.kl_div(decoder(fixed + shift).log_softmax(1), target, reduction="sum")
        (gradient,) = torch.autograd.grad(divergence, shift)
    return radius * _unit(gradient)


def _unit(maps: Tensor) -> Tensor:
    """(B, X, h, w), each image's values divided by their length; 0 stays 0."""
    length = torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True)
    return maps / length.clamp(min=torch.finfo(maps.dtype).tiny)
