"""Prototype-based consistency regularization (Xu et al., NeurIPS 2022).

    for a number of steps (`warmup`): supervised training; K-means on labelled features starts the prototypes (Alg. 2)
    at every step after it:                                                                                (Algorithm 1)
        label, confidence = teacher's linear predictor on the weak view                                    (Eq. 7)
        mixed image, label, confidence = CutMix within the batch                                           (3.3)
        loss = CE(linear(x), y)      + CE(prototype(x), y)                                                  (Eq. 5, 6)
             + CE(linear(mixed), label) + CE(prototype(mixed), label) where confidence >= tau    (Eq. 8: 9 + 10)
        prototypes follow the features assigned to them                                                    (Eq. 11)
        teacher follows student

Differences from the paper: docs/methods/prototype.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from semiseg.config.methods.prototype import PrototypeOptions
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.adaptation import ClassAdaptation
from semiseg.parts.losses import kept_cross_entropy, share
from semiseg.parts.mixing import mix_batch
from semiseg.parts.predictor import Predictor
from semiseg.parts.prototypes import Prototypes, start_prototypes
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class Prototype(TeacherMethod):
    """Two predictors, linear and prototype, learn from one set of pseudo-labels."""

    Options = PrototypeOptions
    options: PrototypeOptions

    def make_parts(self) -> None:
        """The teacher and, unless they are off, the prototypes: K of each class in the space of the features."""
        super().make_parts()
        self.adaptation = ClassAdaptation(self.options, self.options.threshold, self.class_pixels)
        if self.options.prototypes is not None:
            classes, channels = self.student.num_classes, self.student.feature_channels
            self.prototypes = Prototypes(classes, channels, self.options.prototypes)

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """Warm-up has ended: the student is copied into the teacher, and K-means on the teacher's features of labelled
        pixels starts the prototypes (Algorithm 2)."""
        super().prepare(labeled, clock)
        if self.prototypes is not None:
            start_prototypes([(self.prototypes, self.labeler)], labeled, clock.generator, self.context.seed)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Algorithm 1, one step."""
        options = self.options
        pseudo = self.label(unlabeled)  # Eq. 7; the loader's images are weak views
        image = self.view(unlabeled.image, clock)  # the weak view, in the paper; a strong one is an option
        image, pseudo = mix_batch(  # 3.3
            options.mix, options.mix_probability, image, pseudo, self.student.num_classes, clock.generator
        )
        kept = pseudo.kept(self.adaptation.limits(pseudo.label))  # (B, H, W), confidence >= tau

        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)  # BatchNorm statistics, with `teacher_bn: own` only
        output = self.student(together)
        on_labeled, on_mixed = split_output(output, len(labeled.image))

        losses: dict[str, Tensor] = {}
        if options.linear:
            losses |= self.supervised(on_labeled, labeled)  # Eq. 5
            losses["unlabeled"] = options.unlabeled_weight * kept_cross_entropy(  # Eq. 9
                on_mixed.logits, pseudo.label, kept=kept, valid=pseudo.valid, denominator=options.denominator
            )
        if self.prototypes is not None:
            # Cross-entropy of the prototype predictor (Eq. 2) at sampled points. The features of these points are put
            # aside, each with the nearest prototype of its label or kept pseudo-label: Eq. 11 moves by them.
            on_labels, on_pseudo_labels = self.prototypes.losses(
                output.features,
                labeled.label,
                pseudo=pseudo,
                kept=kept,
                generator=clock.generator,
                denominator=options.denominator,
            )
            losses["prototype"] = on_labels  # Eq. 6
            losses["prototype_unlabeled"] = options.unlabeled_weight * on_pseudo_labels  # Eq. 10
        # The loss is the sum of these: Eq. 5 + 6 of labelled images, and Eq. 8, which is 9 + 10, of unlabelled ones.
        return StepResult(losses, {"kept": share(kept, pseudo.valid)})

    def after_step(self, clock: Clock) -> None:
        """The teacher follows the student, and the prototypes the features assigned to them; in either order."""
        super().after_step(clock)
        self.adaptation.follow()
        if self.prototypes is not None and clock.step >= self.warmup_steps:
            self.prototypes.follow()  # Eq. 11

    def label(self, unlabeled: UnlabeledBatch) -> PseudoLabel:
        """Eq. 7: the teacher's class and its probability; without the linear predictor, the prototypes' (Table 4)."""
        output = self.teacher(unlabeled.image)
        logits = output.logits
        if not self.options.linear:
            assert self.prototypes is not None, "one of the two predictors is there"
            size = (unlabeled.image.shape[-2], unlabeled.image.shape[-1])
            logits = self.prototypes.predictor.dense_logits(output.features, size)
        return pseudo_label(self.adaptation.logits(logits, unlabeled.valid), unlabeled.valid)

    @property
    def predictor(self) -> Predictor:
        """The teacher with the prototypes; its linear predictor speaks first unless it was turned off."""
        predictor = super().predictor
        if predictor.prototypes is not None and not self.options.linear:
            predictor.headline = "prototype"
        return predictor

    @property
    def label_source(self) -> Predictor | None:
        """The predictor that `label` asks."""
        return super().label_source if self.options.linear else self.predictor
