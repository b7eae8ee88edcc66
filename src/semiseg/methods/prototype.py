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
"output of ASPP"; 8. the teacher's decay is ramped up in the first steps of a run; 9. K-means starts on the teacher's
features, which are the student's unless the teacher has averaged the warm-up (`teacher_start`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods import PrototypeOptions
from semiseg.methods.method import Setting, split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.losses import kept_cross_entropy, share
from semiseg.parts.predictor import Predictor
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.parts.segmentor import Segmentor
from semiseg.types import Clock, LabeledBatch, PseudoLabel, SegmentationOutput, StepResult, UnlabeledBatch


class Prototype(TeacherMethod):
    """Two predictors, linear and prototype, learn from one set of pseudo-labels."""

    def __init__(self, student: Segmentor, options: PrototypeOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        self.options = options
        self.threshold = options.threshold

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Algorithm 1, one step."""
        image, pseudo = self.mixed(unlabeled, self.options, clock)
        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)
        output = self.student(together)
        kept = pseudo.kept(self.options.threshold)  # (B, H, W)
        losses: dict[str, Tensor] = {}
        if self.options.linear:
            losses |= self.linear_losses(output, labeled, pseudo, kept)
        denominator = self.options.denominator
        losses |= self.prototype_losses(output.features, labeled.label, pseudo, kept, clock, denominator)
        return StepResult(losses, {"kept": share(kept, pseudo.valid)})

    def label(self, unlabeled: UnlabeledBatch) -> PseudoLabel:
        """Eq. 7; without the linear predictor, the same from the teacher's features and the prototypes (Table 4)."""
        if self.options.linear:
            return super().label(unlabeled)
        assert self.prototypes is not None, "one of the two predictors is there"
        size = (unlabeled.image.shape[-2], unlabeled.image.shape[-1])
        features = self.teacher(unlabeled.image).features
        return pseudo_label(self.prototypes.dense_logits(features, size), unlabeled.valid)

    def linear_losses(
        self, output: SegmentationOutput, labeled: LabeledBatch, pseudo: PseudoLabel, kept: Tensor
    ) -> dict[str, Tensor]:
        """Eq. 5 and 9. kept (B, H, W)"""
        on_labeled, on_unlabeled = split_output(output, len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        by_teacher = (on_unlabeled.logits, pseudo.label, kept, pseudo.valid)
        unlabeled = kept_cross_entropy(*by_teacher, self.options.denominator, self.setting.loss.slices)
        losses["unlabeled"] = self.options.unlabeled_weight * unlabeled
        return losses

    @property
    def label_source(self) -> Predictor:
        """As `label` says."""
        return super().label_source if self.options.linear else self.predictor

    @property
    def predictor(self) -> Predictor:
        """The teacher with the prototypes; its linear predictor speaks first unless it was turned off."""
        found = super().predictor
        if found.prototypes is not None and not self.options.linear:
            found.headline = "prototype"
        return found
