"""The base of methods with an averaged teacher: the teacher, its start, EMA."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from semiseg.methods.method import Method
from semiseg.parts.augment import strong_view
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.parts.segmentor import Segmentor
from semiseg.parts.teacher import Teacher, ema_decay
from semiseg.types import Clock, LabeledBatch, PseudoLabel, UnlabeledBatch


class TeacherMethod(Method):
    """Supervised steps first; then the teacher becomes the student once, by value, and follows it from there.

    With `teacher_start: average` the EMA also runs during warm-up; its labels are used only afterwards.
    """

    def make_parts(self) -> None:
        super().make_parts()
        self.teacher = Teacher(self.student, average_bn=self.options.teacher_bn == "average")

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The teacher becomes the student, unless it has followed it through the warm-up."""
        if self.options.teacher_start == "copy":
            self.copy_student()
        super().prepare(labeled, clock)

    def after_step(self, clock: Clock) -> None:
        """The teacher follows the student.

        The EMA ramp counts from step 0, not from the end of warm-up (as in U2PL). Otherwise the decay would restart
        near 0 and the teacher would copy the student while its first unlabelled batches disturb it.
        """
        if clock.step >= self.warmup_steps or self.options.teacher_start == "average":
            self.follow_student(ema_decay(clock.step, self.options.ema_decay))
        super().after_step(clock)

    def copy_student(self) -> None:
        """The teacher becomes the student; a method that averages more than the network has more to copy."""
        self.teacher.copy_from(self.student)

    def follow_student(self, decay: float) -> None:
        """One step of the average; likewise."""
        self.teacher.follow(self.student, decay)

    def label(self, unlabeled: UnlabeledBatch) -> PseudoLabel:
        """The teacher's pseudo-labels of the weak views, from its linear predictor (Eq. 7)."""
        return pseudo_label(self.teacher(unlabeled.image).logits, unlabeled.valid)

    def view(self, image: Tensor, clock: Clock) -> Tensor:
        """The student's copy of unlabelled (B, 3, H, W): the weak view or, with the option `strong`, a strong one."""
        return strong_view(image, self.context.augment, clock.generator) if self.options.strong else image

    @property
    def labeler(self) -> Segmentor:
        """The teacher; while there is none yet, the student."""
        return self.teacher.segmentor if self.started else self.student
