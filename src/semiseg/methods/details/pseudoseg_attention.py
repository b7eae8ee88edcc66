"""Where an image classifier looks: class activation maps, refined by self-attention, become a second segmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.parts.segmentor import resize


class AttentionCAM(nn.Module):
    """PseudoSeg's self-attention Grad-CAM ("SGC", Zou et al. 2021, 3.2), on the two deepest maps of a pyramid.

    presence = linear(mean over places of E)                        one logit for each class but the background
    CAM_k    = relu(W_k . E), over its maximum; 0 where class k is not in the image
    A        = softmax over valid places of query(h) . key(h) / sqrt(channels)
    S        = A CAM + CAM
    logits   = BatchNorm(1x1 convolution of S and, for a background, 2 - max_k S_k), without a scale, and a bias

    E is the deepest map (B, X, h, w), h = (the one before it, E). The classifier is one linear layer behind a mean, so
    d presence_k / d E is W_k / hw at every place: Grad-CAM is W_k . E up to that factor, which the maximum takes out.
    Only the presence has a gradient into the pyramid; queries, keys and what follows S learn from the logits.

    widths: channels of the two maps, the deepest last.
    """

    def __init__(self, widths: tuple[int, int], num_classes: int, background: bool, channels: int) -> None:
        super().__init__()
        self.background = background
        self.presence = nn.Linear(widths[1], num_classes - background)
        self.query = nn.Conv2d(sum(widths), channels, 1, bias=False)
        self.key = nn.Conv2d(sum(widths), channels, 1, bias=False)
        convolution = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        self.combine = nn.Sequential(convolution, nn.BatchNorm2d(num_classes, affine=False))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def shown(self, deepest: Tensor) -> Tensor:
        """Logits (B, F) of whether each of the F classes is in the image. deepest (B, X, h, w)"""
        return self.presence(deepest.mean((2, 3)))

    @torch.no_grad()
    def class_maps(self, deepest: Tensor, present: Tensor | None = None) -> Tensor:
        """(B, F, h, w) in [0, 1]: where the classes show that are there. deepest (B, X, h, w)

        present: (B, F) bool, the classes that are there; None: the classes predicted as present.
        """
        maps = F.conv2d(deepest.float(), self.presence.weight[:, :, None, None]).float().relu()
        largest = maps.amax((2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
        there = self.shown(deepest) >= 0 if present is None else present
        return maps / largest * there[:, :, None, None]

    def forward(self, pyramid: list[Tensor], valid: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits (B, C, H, W) of a pyramid of images of H x W pixels; valid (B, H, W) bool, False on padding.

        present: as in `class_maps`.
        """
        deepest = pyramid[-1].detach()
        size = (deepest.shape[-2], deepest.shape[-1])
        maps = self.class_maps(deepest, present)  # (B, F, h, w)
        before = resize(pyramid[-2].detach().float(), size).to(deepest.dtype)
        columns = torch.cat([before, deepest], 1)
        attended = attend(self.query(columns), self.key(columns), maps, _places(valid, size)) + maps
        if self.background:
            attended = torch.cat([2 - attended.amax(1, keepdim=True), attended], 1)  # (B, C, h, w)
        logits = self.combine(attended) + self.bias[:, None, None]
        return resize(logits.float(), (valid.shape[-2], valid.shape[-1]))


def attend(query: Tensor, key: Tensor, values: Tensor, places: Tensor) -> Tensor:
    """At every place the mean of all places' values, weighted by softmax(query . key / sqrt(channels)). Like values

    query and key (B, P, h, w), values (B, F, h, w), places (B, h, w) bool: the places that are looked at.
    """
    q, k, v = (maps.flatten(2).mT for maps in (query, key, values.to(query.dtype)))  # (B, hw, P), ..., (B, hw, F)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=places.flatten(1)[:, None])  # (B, hw, F)
    return found.mT.unflatten(2, values.shape[-2:])


def _places(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """The nearest pixels of `valid`; of an image without any, all, for a mean over nothing is none. (B, *size) bool"""
    nearest = F.interpolate(valid[:, None].float(), size, mode="nearest")[:, 0] > 0
    return nearest | ~nearest.flatten(1).any(1)[:, None, None]
