"""The paper's regularizer: the prototype predictor's losses and its moves, for its own method and any other's.

at the end of warm-up: K-means on labelled features gives each class its prototypes       (Algorithm 2)
losses:                CE(prototype(x), y) and CE(prototype(mixed), label) where kept      (Eq. 6, 10)
after each step:       prototypes follow the features assigned to them                     (Eq. 11)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from semiseg.config.methods import RegularizerOptions
from semiseg.parts.losses import kept_cross_entropy_sum, pixels, unlabeled_denominator
from semiseg.parts.prototypes import Assigned, PrototypePredictor
from semiseg.parts.sampling import ClassSample, all_points, grid_points, pick, pick_pixels
from semiseg.parts.segmentor import Segmentor
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel

PIXELS_PER_IMAGE = 500  # of each class, at most, in the K-means start; the paper gives no number
POINTS_AT_ONCE = 4096  # per image; more are taken in parts whose memory is given back until the backward pass


class PrototypeRegularizer(PrototypePredictor):
    """The prototype predictor with what training does with it."""

    sums: Tensor  # (C, K, D), features of this step by the prototype they belong to
    counts: Tensor  # (C, K), how many

    def __init__(self, num_classes: int, channels: int, options: RegularizerOptions) -> None:
        super().__init__(num_classes, options.per_class, channels, options.temperature)
        self.options = options
        # Between `losses` and `follow`: buffers, so that a step that is taken back takes them back; not to be saved.
        self.register_buffer("sums", torch.zeros_like(self.prototypes), persistent=False)
        self.register_buffer("counts", torch.zeros_like(self.usage), persistent=False)

    def losses(
        self,
        features: Tensor,
        label: Tensor,
        pseudo: PseudoLabel,
        kept: Tensor,
        generator: torch.Generator,
        denominator: str,
    ) -> dict[str, Tensor]:
        """Eq. 6 and 10 at sampled points, as `prototype` and `prototype_unlabeled`; what Eq. 11 needs is put aside.

        features (B + B', D, h, w) of labelled and unlabelled images, label (B, H, W), pseudo and kept (B', H, W): of
        the unlabelled images, the pixels that teach. `denominator` is that of `losses.unlabeled_denominator`.
        """
        size = (label.shape[-2], label.shape[-1])
        points = self.points(size, generator)  # (N, 2)
        target = torch.cat([pick_pixels(maps, points).long() for maps in (label, pseudo.label)])  # (B + B', N)
        teach = torch.cat([pick_pixels(maps, points) for maps in (label != IGNORE, kept)])
        valid = pick_pixels(pseudo.valid, points)  # (B', N)
        first = len(label)
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
        return {
            "prototype": self.options.weight * on_labeled / pixels(teach[:first]),
            "prototype_unlabeled": self.options.weight * on_unlabeled / per_kept,
        }

    def points(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """The points of a step, the same for every image of the batch. (N, 2)"""
        if self.options.grid is None:
            return all_points(*size)
        return grid_points(*size, self.options.grid, generator)

    def _losses_at(
        self, features: Tensor, points: Tensor, target: Tensor, kept: Tensor, size: tuple[int, int], first: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Summed cross-entropies of the labelled and the unlabelled images at points, and the features by prototype.

        target and kept (B + B', n).
        """
        picked = pick(features, points, size)  # (B + B', n, D)
        similarity = self.similarity(picked.flatten(0, 1))  # ((B + B') n, C, K)
        logits = self.logits(similarity).unflatten(0, picked.shape[:2])  # (B + B', n, C)
        on_labeled, on_unlabeled = (
            kept_cross_entropy_sum(logits[rows].flatten(0, 1), target[rows].flatten(), kept[rows].flatten())
            for rows in (slice(None, first), slice(first, None))
        )
        assigned = self.assign(picked.flatten(0, 1), similarity, target.flatten(), kept.flatten())
        return on_labeled, on_unlabeled, assigned.sums, assigned.counts

    def follow(self) -> None:
        """Eq. 11 with what the step's losses put aside."""
        self.update(Assigned(self.sums, self.counts), self.options.momentum, self.options.update_rule)
        self.sums.zero_()
        self.counts.zero_()


@torch.no_grad()
def start_prototypes(
    regularized: Sequence[tuple[PrototypeRegularizer, Segmentor]],
    labeled: Iterable[LabeledBatch],
    clock: Clock,
    seed: int,
) -> None:
    """Algorithm 2 for each: K-means on its network's features (eval mode) of whole labelled images, one per batch.

    All take part in one pass over the images; without any there is none.
    """
    if not regularized:
        return
    modes = [segmentor.training for _, segmentor in regularized]
    samples = [
        ClassSample(segmentor.eval().num_classes, regularizer.options.init_pixels, clock.generator)
        for regularizer, segmentor in regularized
    ]
    for batch in labeled:
        for (_, segmentor), sample in zip(regularized, samples, strict=True):
            sample.add_image(segmentor(batch.image).features, batch.label[0], PIXELS_PER_IMAGE)
    for (regularizer, segmentor), sample, training in zip(regularized, samples, modes, strict=True):
        segmentor.train(training)
        regularizer.start(*sample.result(), seed=seed)
