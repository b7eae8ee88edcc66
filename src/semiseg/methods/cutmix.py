"""CutMix-Seg (French et al., BMVC 2020): a mean teacher whose student sees mixed images.

    M    = a box of half the area per image
    q    = (1 - M) * softmax(teacher(u)) + M * softmax(teacher(u'))
    p    = softmax(student((1 - M) * s(u) + M * s(u')))
    m    = mean over the batch's pixels of [max q >= 0.97], one number
    loss = CE(student(x), y) + w * m * mean over pixels of sum over classes of (p - q)^2

Differences from the paper and its code: docs/methods/cutmix.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods.cutmix import CutMixOptions
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.adaptation import ClassAdaptation
from semiseg.parts.losses import share, softmax_squared_distance
from semiseg.parts.mixing import french_boxes, paste
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch


class CutMix(TeacherMethod):
    """The student's prediction of a mix is the mix of the teacher's predictions."""

    Options = CutMixOptions
    options: CutMixOptions

    def make_parts(self) -> None:
        super().make_parts()
        self.adaptation = ClassAdaptation(self.options, self.options.threshold, self.class_pixels)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Eq. 5, and the confidence-weighted squared difference on the mix."""
        logits = self.teacher(unlabeled.image).logits.float()
        target = self.adaptation.logits(logits, unlabeled.valid).softmax(1)  # (B, C, H, W)
        del logits  # as large as the target
        image = self.view(unlabeled.image, clock)
        boxes = french_boxes(image, clock.generator)
        image, target, valid = (paste(maps, boxes) for maps in (image, target, unlabeled.valid))
        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)
        on_labeled, on_unlabeled = split_output(self.student(together), len(labeled.image))
        confident = self.adaptation.confident(target)  # (B, H, W)
        losses = self.supervised(on_labeled, labeled)
        consistency = self.consistency(on_unlabeled.logits, target, confident, valid)
        losses["consistency"] = self.options.unlabeled_weight * consistency
        return StepResult(losses, {"kept": share(confident, valid)})

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        self.adaptation.follow()

    def consistency(self, logits: Tensor, target: Tensor, confident: Tensor, valid: Tensor) -> Tensor:
        """The squared difference, scaled by the share of confident pixels of the batch, or masked pixel by pixel.

        logits and target (B, C, H, W), confident and valid (B, H, W) bool. Scalar.
        """
        weight = valid if self.options.confidence == "batch" else confident & valid
        return share(confident, valid) * softmax_squared_distance(logits, target, weight)
