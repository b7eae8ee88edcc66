"""The prototype predictor: K prototypes per class, the nearest speaks for its class (Xu et al. 2022, 3.2 and 3.4).

Features and prototypes are compared by cosine, so their lengths do not matter to Eq. 2; the stored prototypes are raw
running means, so they do matter to Eq. 11. Everything here computes in float32, under autocast too: with T = 0.1 the
rounding of bf16 would move a logit by 0.04.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.parts.cosine import reach
from semiseg.parts.segmentor import resize
from semiseg.runtime.distributed import sum_over_ranks_
from semiseg.runtime.precision import full_precision
from semiseg.types import IGNORE

USAGE_DECAY = 0.99  # of the running share of pixels each prototype gets: a memory of about 100 steps
IDENTICAL = 0.999  # cosine from which two prototypes of a class are one
DEAD = 0.1  # part of an even share, 1 / K of its class's pixels, below which a prototype is dead
ENOUGH = 100  # updates of a class before its usage says anything


class Assigned(NamedTuple):
    """Features summed by the prototype they belong to, the input of Eq. 11. Sums of several batches add up."""

    sums: Tensor  # (C, K, D) float32
    counts: Tensor  # (C, K) float32


@dataclass(frozen=True)
class Health:
    """How the prototypes of each class are doing."""

    usage: np.ndarray  # (C, K) share of the class's pixels, running mean; rows add up to 1, or to 0 before any pixel
    distance: np.ndarray  # (C,) mean of 1 - cosine over the pairs of a class's prototypes; NaN with one prototype
    closest: np.ndarray  # (C,) the same of the closest pair; both over prototypes that have a place
    updates: np.ndarray  # (C,) steps that had pixels of the class

    def warnings(self, classes: tuple[str, ...]) -> list[str]:
        """A sentence for each class whose prototypes collapsed; none for healthy ones."""
        found = []
        for name, usage, closest, updates in zip(classes, self.usage, self.closest, self.updates, strict=True):
            if closest < 1 - IDENTICAL:
                found.append(f"prototypes of class {name!r} are identical (closest pair {closest:.4f} apart)")
            dead = int((usage < DEAD / len(usage)).sum())
            if updates >= ENOUGH and dead:
                found.append(f"{dead} of {len(usage)} prototypes of class {name!r} are dead: nearest to hardly a pixel")
        return found


class PrototypePredictor(nn.Module):
    """Prototypes as buffers: they travel with the state dict and never receive a gradient."""

    prototypes: Tensor  # (C, K, D)
    ready: Tensor  # (C, K) bool, False until a prototype was given a place by a pixel of its class
    usage: Tensor  # (C, K) running share of pixels
    updates: Tensor  # (C,) int64, how often a class was seen

    def __init__(self, num_classes: int, per_class: int, channels: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("prototypes", torch.zeros(num_classes, per_class, channels))
        self.register_buffer("ready", torch.zeros(num_classes, per_class, dtype=torch.bool))
        self.register_buffer("usage", torch.zeros(num_classes, per_class))
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.long))

    def directions(self) -> Tensor:
        """The prototypes at length 1. (C, K, D)"""
        return F.normalize(self.prototypes, dim=-1)

    def similarity(self, features: Tensor) -> Tensor:
        """Cosine of each feature and each prototype. (N, D) -> (N, C, K)"""
        with full_precision(features.device):
            features = features.float()
            length = reach(features)[:, None, None]
            # Dividing C x K dot products is cheaper than dividing D channels, here and in the backward pass.
            return torch.einsum("nd,ckd->nck", features, self.directions()) / length

    def logits(self, similarity: Tensor) -> Tensor:
        """Eq. 2 before its softmax: the best prototype of each class over T. (N, C, K) -> (N, C)

        Prototypes without a place are silent: a class that has no other is as far away as can be, at -1 / T.
        """
        return similarity.masked_fill(~self.ready, -1.0).amax(-1) / self.temperature

    def forward(self, features: Tensor) -> Tensor:
        """Logits whose softmax is the posterior of Eq. 2. (N, D) -> (N, C)"""
        return self.logits(self.similarity(features))

    @torch.no_grad()
    def dense_logits(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The same for every pixel of the map upsampled to `size`, without that map. (B, D, h, w) -> (B, C, H, W)

        A dot product is linear: it is taken at h x w and upsampled, and divided by the upsampled feature's length.
        """
        with full_precision(features.device):
            features = features.float()
            dots = torch.einsum("bdhw,ckd->bckhw", features, self.directions())
            dots = resize(dots.flatten(1, 2), size).unflatten(1, self.ready.shape)  # (B, C, K, H, W)
            cosine = dots / _upsampled_length(features, size)[:, :, None]
            return cosine.masked_fill(~self.ready[..., None, None], -1.0).amax(2) / self.temperature

    @torch.no_grad()
    def assign(self, features: Tensor, similarity: Tensor, label: Tensor, kept: Tensor) -> Assigned:
        """Each kept pixel goes to the most similar prototype within its own class, with a place or without (3.4).

        features (N, D), similarity (N, C, K), label (N,) with IGNORE where there is none, kept (N,) bool.
        """
        num_classes, per_class = self.ready.shape
        counted = (kept & (label != IGNORE)).float()
        own = label.clamp(max=num_classes - 1)
        nearest = similarity.gather(1, own[:, None, None].expand(-1, 1, per_class)).argmax(-1).squeeze(1)  # (N,)
        slot = own * per_class + nearest
        features = features.detach().float()
        sums = features.new_zeros(num_classes * per_class, features.shape[1])
        sums.index_add_(0, slot, features * counted[:, None])
        counts = counted.new_zeros(num_classes * per_class).index_add_(0, slot, counted)
        return Assigned(sums.view_as(self.prototypes), counts.view(num_classes, per_class))

    @torch.no_grad()
    def update(self, assigned: Assigned, momentum: float, rule: str = "mean") -> None:
        """Eq. 11 with what a step assigned; a prototype without pixels stays, one without a place takes the mean.

        `mean`: once, with the mean of the n assigned features, P <- a P + (1 - a) mean. `per_pixel`: once per pixel in
        closed form, P <- a^n P + (1 - a^n) mean, which is its mean over all orders of the pixels. `none`: not at all
        (Table 4, row 3); usage is counted all the same.
        """
        sums, counts = (sum_over_ranks_(tensor) for tensor in assigned)
        if rule != "none":
            self._move(sums / counts.clamp(min=1)[..., None], counts, momentum, rule)
        self._count(counts)

    def _move(self, mean: Tensor, counts: Tensor, momentum: float, rule: str) -> None:
        """Eq. 11 proper. mean (C, K, D), counts (C, K)"""
        keep = torch.full_like(counts, momentum) if rule == "mean" else momentum**counts
        keep = torch.where(counts > 0, keep * self.ready, torch.ones_like(keep))[..., None]
        self.prototypes.copy_(keep * self.prototypes + (1 - keep) * mean)
        self.ready |= counts > 0

    def _count(self, counts: Tensor) -> None:
        """Move the running usage of the classes that were seen."""
        total = counts.sum(1, keepdim=True)
        share = counts / total.clamp(min=1)
        moved = torch.where(self.usage.sum(1, keepdim=True) > 0, self.usage.lerp(share, 1 - USAGE_DECAY), share)
        self.usage.copy_(torch.where(total > 0, moved, self.usage))
        self.updates += (total > 0).squeeze(1)

    @torch.no_grad()
    def start(self, features: Tensor, label: Tensor, seed: int) -> None:
        """Algorithm 2, line 3: K-means within each class; the centroids are the first prototypes.

        features (N, D) and label (N,) of labelled pixels. A class without a pixel is scattered around the mean of all
        features and marked as without a place: each of its prototypes is silent until a pixel gives it one. Raises
        ValueError for features that are not finite.
        """
        if not features.isfinite().all():
            bad = sorted(set(label[~features.isfinite().all(1)].tolist()))
            raise ValueError(
                "the prototypes cannot start: features of labelled pixels are not finite (classes "
                f"{', '.join(map(str, bad))}), so the network had diverged before. A new run may take a smaller "
                "--optim.lr or a longer --optim.warmup_steps"
            )
        overall = features.mean(0, keepdim=True) if len(features) else torch.zeros(1, self.prototypes.shape[-1])
        for number in range(len(self.prototypes)):
            own = features[label == number]
            self.ready[number] = len(own) > 0
            self.prototypes[number] = self._centroids((own if len(own) else overall).float().cpu().numpy(), seed)

    def _centroids(self, features: np.ndarray, seed: int) -> Tensor:
        """K centroids of (n, D) features; where n or the number of distinct ones is below K, repeated with jitter."""
        from sklearn.cluster import KMeans  # a second to import, and methods that only train never need it
        from threadpoolctl import threadpool_limits

        per_class = self.prototypes.shape[1]
        distinct = np.unique(features, axis=0)
        clusters = min(per_class, len(distinct))
        # One thread: scikit-learn adds up its threads' sums in the order they finish, which no seed decides.
        with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
            warnings.simplefilter("ignore")  # fewer distinct points than clusters is handled below
            kmeans = KMeans(clusters, n_init=10, max_iter=100, random_state=seed)  # pyright: ignore[reportArgumentType]
            centers = kmeans.fit(features).cluster_centers_
        repeated = centers[np.arange(per_class) % clusters]
        jitter = np.random.default_rng(seed).normal(0, 1e-2 * (np.abs(centers).mean() + 1e-6), repeated.shape)
        jitter[:clusters] = 0
        return torch.as_tensor(repeated + jitter).to(self.prototypes)

    @torch.no_grad()
    def health(self) -> Health:
        """Usage and distances, on the CPU."""
        usage, placed, updates = (tensor.cpu().numpy() for tensor in (self.usage, self.ready, self.updates))
        if placed.shape[1] == 1:
            nowhere = np.full(len(usage), np.nan)
            return Health(usage, nowhere, nowhere, updates)
        unit = self.directions()
        apart = 1 - torch.einsum("ckd,cjd->ckj", unit, unit).cpu().numpy()  # (C, K, K)
        first, second = np.triu_indices(placed.shape[1], 1)
        distances = np.ma.masked_array(apart[:, first, second], mask=~(placed[:, first] & placed[:, second]))
        return Health(usage, distances.mean(1).filled(np.nan), distances.min(1).filled(np.nan), updates)


def _upsampled_length(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Length of each feature of the map upsampled to `size`, a few channels at a time. (B, D, h, w) -> (B, 1, H, W)"""
    square = sum(resize(part, size).square().sum(1, keepdim=True) for part in features.split(32, dim=1))
    assert isinstance(square, Tensor)
    return square.sqrt().clamp(min=1e-12)
