"""Mean Teacher (Tarvainen & Valpola, NeurIPS 2017), as applied to segmentation.

    q    = softmax(teacher(u))
    loss = CE(student(x), y) + w(t) * mean((softmax(student(u + noise)) - q)^2)

Differences from the paper and its code: docs/methods/mean_teacher.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods.mean_teacher import MeanTeacherOptions
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.augment import gaussian_noise
from semiseg.parts.losses import softmax_mse
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch


class MeanTeacher(TeacherMethod):
    """The student agrees with the average of its past selves."""

    Options = MeanTeacherOptions
    options: MeanTeacherOptions

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        target = self.teacher(unlabeled.image).logits.float().softmax(1)  # (B, C, H, W)
        image = torch.cat([labeled.image, self.noisy(unlabeled.image, clock.generator)])
        self.teacher.observe(image)
        on_labeled, on_unlabeled = split_output(self.student(image), len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        losses["consistency"] = self.weight(clock) * softmax_mse(on_unlabeled.logits, target, unlabeled.valid)
        return StepResult(losses, {})

    def noisy(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """The student's copy of (B, 3, H, W); without noise nothing is drawn, which would take 0.1 s for 16 crops."""
        if self.options.noise == 0:
            return image
        return image + self.options.noise * gaussian_noise(image, generator)

    def weight(self, clock: Clock) -> float:
        """w(t) of the formula."""
        return self.options.unlabeled_weight * self.ramp(clock, self.options.ramp)
