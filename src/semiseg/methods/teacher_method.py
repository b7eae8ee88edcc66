"""What the methods with an averaged teacher share: the teacher, its start, EMA."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from semiseg.config.methods import MixOptions, TeacherOptions
from semiseg.methods.method import Setting
from semiseg.methods.semi_supervised import SemiSupervised
from semiseg.parts.augment import strong_view
from semiseg.parts.mixing import mix_batch
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.parts.segmentor import Segmentor
from semiseg.parts.teacher import Teacher, ema_decay
from semiseg.types import Clock, LabeledBatch, PseudoLabel, UnlabeledBatch


class TeacherMethod(SemiSupervised):
    """Supervised steps first; then the teacher becomes the student once, by value, and follows it from there.

    Or it has followed the student from the first step on (`teacher_start`), and nothing asked it yet.

    A subclass says what a step with unlabelled images is, in `consistency_step`.
    """

    def __init__(self, student: Segmentor, options: TeacherOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        self.teacher_options = options
        self.teacher = Teacher(student, average_bn=options.teacher_bn == "average")

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The teacher becomes the student, unless it has followed it through the warm-up; then prototypes start."""
        if self.teacher_options.teacher_start == "copy":
            self.copy_student()
        super().prepare(labeled, clock)

    def after_step(self, clock: Clock) -> None:
        """The teacher follows, and the prototypes.

        The ramp counts from the first step of the run: after a warm-up it is over, as it in effect was in U2PL. Counted
        from the teacher's start it would let the teacher forget within ten steps all that the warm-up taught it, just
        when the student is thrown by its first unlabelled batches.
        """
        if clock.step >= self.warmup_steps or self.teacher_options.teacher_start == "average":
            self.follow_student(ema_decay(clock.step, self.teacher_options.ema_decay))
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

    def mixed(self, unlabeled: UnlabeledBatch, options: MixOptions, clock: Clock) -> tuple[Tensor, PseudoLabel]:
        """The student's unlabelled images (B, 3, H, W), and what the teacher says of them (3.3)."""
        pseudo, image = self.label(unlabeled), unlabeled.image
        if options.strong:
            image = strong_view(image, self.setting.augment, clock.generator)
        probability, classes = options.mix_probability, self.student.num_classes
        return mix_batch(options.mix, probability, image, pseudo, classes, clock.generator)

    @property
    def labeler(self) -> Segmentor:
        """The teacher; while there is none yet, the student."""
        return self.teacher.segmentor if self.started else self.student
