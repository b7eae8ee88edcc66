"""Supervised only: the labelled images, and nothing else (Eq. 5).

    loss = CE(student(weak(x)), y)

Differences from the paper's rows: U2PL's supervised-only baseline on VOC runs far fewer steps than the methods it is
compared with; here every method takes the same number of steps on the same labelled batches.
"""

from __future__ import annotations

from semiseg.config.methods import SupervisedOptions
from semiseg.methods.method import Method, Setting
from semiseg.parts.segmentor import Segmentor
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch


class Supervised(Method):
    """Learns from labelled images alone; what is evaluated is the student itself."""

    uses_unlabeled = False

    def __init__(self, student: Segmentor, options: SupervisedOptions, setting: Setting) -> None:
        super().__init__(student, setting)
        self.options = options

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        """Eq. 5."""
        return self.supervised_step(labeled)
