"""The prototypes as a thing one can hold: they start on labelled features, teach, follow, and tell how they do.

head = Prototypes(classes=21, channels=512)                                   # the defaults are the paper's
head.start(((features(x), y) for x, y in labelled), generator)                # K-means, Algorithm 2
on_labeled, on_unlabeled = head.losses(features, label, pseudo=..., kept=..., generator=...)      # Eq. 6 and 10
head.follow()                                                                 # Eq. 11, after the optimizer's step
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semiseg.config.prototypes import PrototypesOptions
from semiseg.parts.losses import kept_cross_entropy_sum, pixel_count, unlabeled_denominator
from semiseg.parts.prototype_predictor import Assigned, PrototypePredictor
from semiseg.parts.sampling import ClassSample, all_points, grid_points, pick, pick_pixels
from semiseg.parts.segmentor import Segmentor
from semiseg.types import IGNORE, LabeledBatch, PseudoLabel

PIXELS_PER_IMAGE = 500  # of each class, at most, in the K-means start; the paper gives no number
POINTS_AT_ONCE = 4096  # per image; more are taken in parts whose memory is given back until the backward pass


class Prototypes(nn.Module):
    """K prototypes for each class in a feature space of D channels, and how they are trained.

    `predictor` is the prototype predictor (Eq. 2): what is evaluated and saved for use.
    """

    sums: Tensor  # (C, K, D), features of this step by the prototype they belong to
    counts: Tensor  # (C, K), how many
    origin: Tensor  # (C, K, D), where the prototypes started

    def __init__(self, classes: int, channels: int, options: PrototypesOptions | None = None, **keywords: Any) -> None:
        """`keywords` are fields of `PrototypesOptions`, over `options`. Raises ValueError for a value out of range."""
        super().__init__()
        self.options = replace(options or PrototypesOptions(), **keywords)
        self.predictor = PrototypePredictor(classes, self.options.per_class, channels, self.options.temperature)
        # Between `losses` and `follow`; buffers, so that a step that is only tried leaves nothing; not saved.
        self.register_buffer("sums", torch.zeros_like(self.predictor.prototypes), persistent=False)
        self.register_buffer("counts", torch.zeros_like(self.predictor.usage), persistent=False)
        self.register_buffer("origin", torch.zeros_like(self.predictor.prototypes))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A checkpoint that was written before `origin` was: drift counts from where the run goes on.
        state_dict.setdefault(f"{prefix}origin", state_dict.get(f"{prefix}predictor.prototypes", self.origin))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    # Algorithm 2 ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start(self, maps: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator, seed: int = 0) -> None:
        """K-means within each class on features of labelled images gives the prototypes their first place.

        maps: features (B, D, h, w) and labels (B, H, W), IGNORE where there is none, of batches of any size.
        """
        sample = self.sample(generator)
        for features, label in maps:
            for one, its_label in zip(features.split(1), label, strict=True):
                sample.add_image(one, its_label, PIXELS_PER_IMAGE)
        self.start_from(sample, seed)

    def start_from(self, sample: ClassSample, seed: int) -> None:
        """The same of a sample that was filled before."""
        self.predictor.start(*sample.result(), seed=seed)
        self.origin.copy_(self.predictor.prototypes * self.predictor.ready[..., None])

    def sample(self, generator: torch.Generator) -> ClassSample:
        """An empty sample of labelled features, for the K-means start."""
        return ClassSample(len(self.counts), self.options.init_pixels, generator)

    # Eq. 6 and 10 -----------------------------------------------------------------------------------------------------

    def losses(
        self,
        features: Tensor,
        label: Tensor,
        *,
        pseudo: PseudoLabel,
        kept: Tensor,
        generator: torch.Generator,
        denominator: str = "all",
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the prototype predictor on labelled pixels (Eq. 6), and on pseudo-labels (Eq. 10). Scalars

        features (B + B', D, h, w) of labelled and unlabelled images, label (B, H, W), pseudo and kept (B', H, W): of
        the unlabelled images, the pixels that teach. `denominator`: see `losses.unlabeled_denominator`. Both
        are times `weight`. The features that `follow` needs are summed up by their prototype.
        """
        size, first = (label.shape[-2], label.shape[-1]), len(label)
        points = all_points(*size) if self.options.grid is None else grid_points(*size, self.options.grid, generator)
        target = torch.cat([pick_pixels(maps, points).long() for maps in (label, pseudo.label)])  # (B + B', N)
        teach = torch.cat([pick_pixels(maps, points) for maps in (label != IGNORE, kept)])
        valid = pick_pixels(pseudo.valid, points)  # (B', N)
        on_labeled = on_unlabeled = torch.zeros((), device=features.device)
        for start in range(0, len(points), POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            arguments = (features, points[part], target[:, part], teach[:, part], size, first)
            loss_l, loss_u, sums, counts = (
                self._losses_at(*arguments)
                if len(points) <= POINTS_AT_ONCE
                else checkpoint(self._losses_at, *arguments, use_reentrant=False)  # pyright: ignore
            )
            on_labeled, on_unlabeled = on_labeled + loss_l, on_unlabeled + loss_u
            self.sums += sums
            self.counts += counts
        per_kept = unlabeled_denominator(teach[first:], valid, denominator)
        weight = self.options.weight
        return weight * on_labeled / pixel_count(teach[:first]), weight * on_unlabeled / per_kept

    def _losses_at(
        self, features: Tensor, points: Tensor, target: Tensor, kept: Tensor, size: tuple[int, int], first: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Summed cross-entropies of the labelled and the unlabelled images at points, and the features by prototype.

        target and kept (B + B', n).
        """
        picked = pick(features, points, size)  # (B + B', n, D)
        similarity = self.predictor.similarity(picked.flatten(0, 1))  # ((B + B') n, C, K)
        logits = self.predictor.logits(similarity).unflatten(0, picked.shape[:2])  # (B + B', n, C), Eq. 2
        on_labeled, on_unlabeled = (
            kept_cross_entropy_sum(logits[rows].flatten(0, 1), target[rows].flatten(), kept[rows].flatten())
            for rows in (slice(None, first), slice(first, None))
        )
        assigned = self.predictor.assign(picked.flatten(0, 1), similarity, target.flatten(), kept.flatten())
        return on_labeled, on_unlabeled, assigned.sums, assigned.counts

    # Eq. 11 -----------------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """The prototypes move to the features that the losses of this step assigned to them (Eq. 11)."""
        self.predictor.update(Assigned(self.sums, self.counts), self.options.momentum, self.options.update)
        self.sums.zero_()
        self.counts.zero_()

    def health(self, classes: Sequence[str]) -> tuple[dict[str, object], list[str]]:
        """Usage of every prototype, the distances within each class, and how far the class's prototypes have drifted.

        Drift is 1 - cosine between a prototype and its start, mean over the class's; None for a class of which no
        labelled pixel was there at the start. A warning names collapsed ones.
        """
        state = self.predictor.health()
        figures = {name: getattr(state, name).round(4).tolist() for name in ("usage", "distance", "closest")}
        moved = (1 - torch.cosine_similarity(self.predictor.prototypes, self.origin, dim=-1)).clamp(min=0)  # (C, K)
        placed = self.predictor.ready & self.origin.any(-1)
        figures["drift"] = [
            float(row[has].mean()) if has.any() else None for row, has in zip(moved, placed, strict=True)
        ]
        return {f"prototype_{name}": value for name, value in figures.items()}, state.warnings(tuple(classes))


@torch.no_grad()
def start_prototypes(
    started: Sequence[tuple[Prototypes, Segmentor]],
    labeled: Iterable[LabeledBatch],
    generator: torch.Generator,
    seed: int,
) -> None:
    """Algorithm 2 for each: K-means on its network's features (eval mode) of whole labelled images, one per batch.

    All take part in one pass over the images.
    """
    modes = [segmentor.training for _, segmentor in started]
    samples = [prototypes.sample(generator) for prototypes, _ in started]
    for _, segmentor in started:
        segmentor.eval()
    for batch in labeled:
        for (_, segmentor), sample in zip(started, samples, strict=True):
            sample.add_image(segmentor(batch.image).features, batch.label[0], PIXELS_PER_IMAGE)
    for (prototypes, segmentor), sample, training in zip(started, samples, modes, strict=True):
        segmentor.train(training)
        prototypes.start_from(sample, seed)
