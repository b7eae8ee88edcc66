"""Prototype-based consistency regularization (Xu et al., NeurIPS 2022).

    for a number of steps: supervised training; then K-means on labelled features starts the prototypes   (Algorithm 2)
    at every step after it:                                                                                (Algorithm 1)
        label, confidence = teacher's linear predictor on the weak view                                    (Eq. 7)
        mixed image, label, confidence = CutMix within the batch                                           (3.3)
        loss = CE(linear(x), y)      + CE(prototype(x), y)                                                  (Eq. 5, 6)
             + CE(linear(mixed), label) + CE(prototype(mixed), label) where confidence >= tau              (Eq. 9, 10)
        prototypes follow the features assigned to them                                                    (Eq. 11)
        teacher follows student

Differences from the paper, options where a name follows: 1. sums over pixels become means (`denominator`); 2. the
prototype losses see one random point per cell of a grid, as in the authors' configuration (`grid`); 3. Eq. 11 is
applied once per step with the mean feature, likewise (`update_rule`; `per_pixel` is its mean over all orders of the
pixels); 4. the batch is mixed with probability 0.5, as in the code the paper builds on (`mix_probability`); 5. padding
takes no part in any loss (labelled images': `data.pad_label`); 6. BatchNorm statistics are averaged into the teacher
(`teacher_bn`); 7. features are the decoder's last before the classifier, as in the authors' code, where the text says
"output of ASPP"; 8. the teacher's decay is ramped up in the first steps of a run.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from semiseg.augment import strong_view
from semiseg.losses import kept_cross_entropy, kept_cross_entropy_sum, pixels, share, unlabeled_denominator
from semiseg.method_options import PrototypeOptions
from semiseg.methods.averaged import TeacherMethod
from semiseg.methods.method import Predictor, Setting, split_output
from semiseg.mixing import mix_batch
from semiseg.networks.segmentor import Segmentor
from semiseg.prototypes import Assigned, PrototypePredictor
from semiseg.pseudo_labels import pseudo_label
from semiseg.sampling import ClassSample, all_points, grid_points, pick, pick_pixels
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, SegmentationOutput, StepResult, UnlabeledBatch

PIXELS_PER_IMAGE = 500  # of each class, at most, in the K-means start; the paper gives no number
POINTS_AT_ONCE = 4096  # per image; more are taken in parts whose memory is given back until the backward pass


class Prototype(TeacherMethod):
    """Two predictors, linear and prototype, learn from one set of pseudo-labels."""

    sums: Tensor  # (C, K, D), features of this step by the prototype they belong to
    counts: Tensor  # (C, K), how many

    def __init__(self, student: Segmentor, options: PrototypeOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        self.options = options
        self.threshold = options.threshold
        self.prototypes = PrototypePredictor(
            student.num_classes, options.prototypes, student.feature_channels, options.temperature
        )
        # Between forward and after_step: buffers, so that a step that is taken back takes them back; not to be saved.
        self.register_buffer("sums", torch.zeros_like(self.prototypes.prototypes), persistent=False)
        self.register_buffer("counts", torch.zeros_like(self.prototypes.usage), persistent=False)

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """Algorithm 2: the teacher starts from the student, and K-means on labelled features starts the prototypes."""
        super().prepare(labeled, clock)
        if not self.options.prototype:
            return
        sample = ClassSample(self.student.num_classes, self.options.init_pixels, clock.generator)
        with torch.no_grad():
            for batch in labeled:
                sample.add_image(self.teacher(batch.image).features, batch.label[0], PIXELS_PER_IMAGE)
        self.prototypes.start(*sample.result(), seed=self.setting.seed)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Algorithm 1, one step."""
        image, pseudo = self.mixed(unlabeled, clock)
        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)
        output = self.student(together)
        losses: dict[str, Tensor] = {}
        if self.options.linear:
            losses |= self.linear_losses(output, labeled, pseudo)
        if self.options.prototype:
            losses |= self.prototype_losses(output.features, labeled.label, pseudo, clock)
        kept = pseudo.kept(self.options.threshold)
        return StepResult(losses, {"kept": share(kept, pseudo.valid)})

    def label(self, unlabeled: UnlabeledBatch) -> PseudoLabel:
        """Eq. 7; without the linear predictor, the same from the teacher's features and the prototypes (Table 4)."""
        if self.options.linear:
            return super().label(unlabeled)
        size = (unlabeled.image.shape[-2], unlabeled.image.shape[-1])
        features = self.teacher(unlabeled.image).features
        return pseudo_label(self.prototypes.dense_logits(features, size), unlabeled.valid)

    def mixed(self, unlabeled: UnlabeledBatch, clock: Clock) -> tuple[Tensor, PseudoLabel]:
        """The student's unlabelled images (B, 3, H, W), and what the teacher says of them."""
        pseudo = self.label(unlabeled)
        image = unlabeled.image
        if self.options.strong:
            image = strong_view(image, self.setting.augment, clock.generator)
        kind, probability = self.options.mix, self.options.mix_probability
        return mix_batch(kind, probability, image, pseudo, self.student.num_classes, clock.generator)

    def linear_losses(
        self, output: SegmentationOutput, labeled: LabeledBatch, pseudo: PseudoLabel
    ) -> dict[str, Tensor]:
        """Eq. 5 and 9."""
        on_labeled, on_unlabeled = split_output(output, len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        kept = pseudo.kept(self.options.threshold)
        by_teacher = (on_unlabeled.logits, pseudo.label, kept, pseudo.valid)
        unlabeled = kept_cross_entropy(*by_teacher, self.options.denominator, self.setting.loss.slices)
        losses["unlabeled"] = self.options.unlabeled_weight * unlabeled
        return losses

    def prototype_losses(self, features: Tensor, label: Tensor, pseudo: PseudoLabel, clock: Clock) -> dict[str, Tensor]:
        """Eq. 6 and 10 at sampled points; what Eq. 11 needs is put aside for `after_step`.

        features (2B, D, h, w) of labelled and mixed images, label (B, H, W).
        """
        size = (label.shape[-2], label.shape[-1])
        points = self.points(size, clock.generator)  # (N, 2)
        labels, teach = (label, pseudo.label), (label != IGNORE, pseudo.kept(self.options.threshold))
        target = torch.cat([pick_pixels(maps, points).long() for maps in labels])  # (2B, N)
        kept = torch.cat([pick_pixels(maps, points) for maps in teach])
        valid = pick_pixels(pseudo.valid, points)  # (B, N)
        first = len(label)
        on_labeled = on_unlabeled = torch.zeros((), device=features.device)
        for start in range(0, len(points), POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            arguments = (features, points[part], target[:, part], kept[:, part], size, first)
            loss_l, loss_u, sums, counts = (
                self._losses_at(*arguments)
                if len(points) <= POINTS_AT_ONCE
                else checkpoint(self._losses_at, *arguments, use_reentrant=False)  # pyright: ignore
            )
            on_labeled, on_unlabeled = on_labeled + loss_l, on_unlabeled + loss_u
            self.sums += sums
            self.counts += counts
        weight = self.options.prototype_weight
        per_kept = unlabeled_denominator(kept[first:], valid, self.options.denominator)
        return {
            "prototype": weight * on_labeled / pixels(kept[:first]),
            "prototype_unlabeled": weight * self.options.unlabeled_weight * on_unlabeled / per_kept,
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

        target and kept (2B, n).
        """
        picked = pick(features, points, size)  # (2B, n, D)
        similarity = self.prototypes.similarity(picked.flatten(0, 1))  # (2B n, C, K)
        logits = self.prototypes.logits(similarity).unflatten(0, picked.shape[:2])  # (2B, n, C)
        on_labeled, on_unlabeled = (
            kept_cross_entropy_sum(logits[rows].flatten(0, 1), target[rows].flatten(), kept[rows].flatten())
            for rows in (slice(None, first), slice(first, None))
        )
        assigned = self.prototypes.assign(picked.flatten(0, 1), similarity, target.flatten(), kept.flatten())
        return on_labeled, on_unlabeled, assigned.sums, assigned.counts

    def after_step(self, clock: Clock) -> None:
        """The teacher follows the student, the prototypes the features (Eq. 11)."""
        super().after_step(clock)
        if self.options.prototype and clock.step >= self.warmup_steps:
            rule = self.options.update_rule if self.options.update else "none"
            self.prototypes.update(Assigned(self.sums, self.counts), self.options.momentum, rule)
            self.sums.zero_()
            self.counts.zero_()

    @property
    def predictor(self) -> Predictor:
        """The teacher with the prototypes; its linear predictor speaks first unless it was turned off."""
        segmentor = super().predictor.segmentor
        if not (self.options.prototype and self.started):
            return Predictor(segmentor)
        return Predictor(segmentor, self.prototypes, "linear" if self.options.linear else "prototype")

    def health(self) -> tuple[dict[str, object], list[str]]:
        """Usage of every prototype and the distances within each class; a warning by name where they collapsed."""
        if not (self.options.prototype and self.started):
            return {}, []
        state = self.prototypes.health()
        figures = {name: getattr(state, name).round(4).tolist() for name in ("usage", "distance", "closest")}
        return {f"prototype_{name}": value for name, value in figures.items()}, state.warnings(self.setting.classes)
