"""What the methods with an averaged teacher share: warm-up, teacher, EMA."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from semiseg.method_options import TeacherOptions
from semiseg.methods.method import Method, Predictor, Setting
from semiseg.networks.segmentor import Segmentor
from semiseg.pseudo_labels import pseudo_label
from semiseg.teacher import Teacher, ema_decay
from semiseg.types import Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class TeacherMethod(Method):
    """Supervised steps first; then the teacher becomes the student once, by value, and follows it from there.

    Or it has followed the student from the first step on (`teacher_start`), and nothing asked it yet.

    A subclass says what a step with unlabelled images is, in `consistency_step`.
    """

    started: Tensor  # () bool

    def __init__(self, student: Segmentor, options: TeacherOptions, setting: Setting) -> None:
        super().__init__(student, setting)
        self.teacher_options = options
        self.teacher = Teacher(student, average_bn=options.teacher_bn == "average")
        self.prepare_at = round(options.warmup * setting.total_steps)
        self.register_buffer("started", torch.tensor(False))

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        """Supervised during warm-up, `consistency_step` after it."""
        if clock.step < self.warmup_steps:
            return self.supervised_step(labeled)
        assert unlabeled is not None, "a method with a teacher needs unlabelled batches"
        return self.consistency_step(labeled, unlabeled, clock)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The losses of a step with unlabelled images."""
        raise NotImplementedError

    @property
    def warmup_steps(self) -> int:
        """Steps before the teacher starts."""
        assert self.prepare_at is not None
        return self.prepare_at

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The teacher becomes the student, unless it has followed it through the warm-up."""
        if self.teacher_options.teacher_start == "copy":
            self.teacher.copy_from(self.student)
        self.started.fill_(True)

    def after_step(self, clock: Clock) -> None:
        """The teacher follows.

        The ramp counts from the first step of the run: after a warm-up it is over, as it in effect was in U2PL. Counted
        from the teacher's start it would let the teacher forget within ten steps all that the warm-up taught it, just
        when the student is thrown by its first unlabelled batches.
        """
        if clock.step >= self.warmup_steps or self.teacher_options.teacher_start == "average":
            self.teacher.follow(self.student, ema_decay(clock.step, self.teacher_options.ema_decay))

    def label(self, unlabeled: UnlabeledBatch) -> PseudoLabel:
        """The teacher's pseudo-labels of the weak views, from its linear predictor (Eq. 7)."""
        return pseudo_label(self.teacher(unlabeled.image).logits, unlabeled.valid)

    @property
    def predictor(self) -> Predictor:
        """The teacher; while there is none yet, the student."""
        return Predictor(self.teacher.segmentor if self.started else self.student)
