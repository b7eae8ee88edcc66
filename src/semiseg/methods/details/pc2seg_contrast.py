"""The contrastive loss of PC2Seg (Zhong et al. 2021), a pure function; its constants are the caller's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.parts.cosine import directions
from semiseg.parts.losses import pixel_count
from semiseg.runtime.distributed import joined, own_rows, world_size
from semiseg.runtime.precision import full_precision


def debiased_contrast(
    anchors: Tensor, keys: Tensor, classes: Tensor, usable: Tensor, temperature: float, negatives: int
) -> Tensor:
    """InfoNCE: each point is like itself in the other view, and unlike points of other images and of another class.

    loss_i = -log(e_ii / (e_ii + N sum_j w_ij e_ij)),  e_ij = exp(cos(anchor_i, key_j) / T)
    w_ij ~ [j usable, in another image] * (1 - p_i . p_j), of sum 1 for each i

    1 - p_i . p_j is the probability that i and j differ in class, as their class distributions p have it. The sum is
    the expectation of the sum over N negatives that are drawn by w, without their draw. Mean over the usable points;
    keys of other processes' images are negatives too.

    anchors (B, N, P), any length, of the view that learns; keys (B, N, P), the same points in the other view, without
    gradient; classes (B, N, C), the points' class distributions; usable (B, N) bool, False on padding; temperature: T;
    negatives: N of the formula. Scalar; 0 without a usable point and, to 1e-30, with a single image.
    """
    with full_precision(anchors.device):
        anchors, keys = directions(anchors.float()), directions(keys.detach().float())
        own = (anchors * keys).sum(2).flatten() / temperature  # (BN,), with itself
        similarity = anchors.flatten(0, 1) @ joined(keys).flatten(0, 1).T / temperature  # (BN, M), with all keys
        logarithm = _negative_weights(classes.float(), usable, negatives).log()  # (BN, M)
        # log(1 + sum / e_ii), without exponentials that overflow
        loss = F.softplus(torch.logsumexp(similarity + logarithm, 1) - own)
    return (loss * usable.flatten()).sum() / pixel_count(usable)


def _negative_weights(classes: Tensor, usable: Tensor, negatives: int) -> Tensor:
    """N w_ij of each of this process's points and every point of the whole batch. (BN, M), all above 0

    The least float stands for 0, which has no logarithm: at T >= 0.05 its part of a loss is below 1e-20.
    """
    batch, points = usable.shape
    image = torch.arange(batch * world_size(), device=usable.device)
    other = own_rows(image)[:, None] != image  # (B, images)
    partner = other.repeat_interleave(points, 0).repeat_interleave(points, 1)  # (BN, M)
    different = (1 - classes.flatten(0, 1) @ joined(classes).flatten(0, 1).T).clamp(min=0)
    weight = different * partner * joined(usable.float()).flatten()
    total = weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    return (negatives * weight / total).clamp(min=torch.finfo(weight.dtype).tiny)
