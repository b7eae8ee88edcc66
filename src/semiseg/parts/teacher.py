"""The teacher: an exponential moving average of the student, with or without its BatchNorm statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from semiseg.parts.segmentor import Segmentor
from semiseg.types import SegmentationOutput


def ema_decay(updates: int, limit: float) -> float:
    """The share of itself the teacher keeps at its update number `updates`, from 0: min(1 - 1/(updates+1), limit)."""
    return min(1 - 1 / (updates + 1), limit)


class Teacher(nn.Module):
    """An averaged copy of a segmentor that is never trained by gradient.

    `average_bn` True averages the BatchNorm statistics like the weights. False reproduces U2PL: they are the teacher's
    own, gathered by train-mode forwards (`observe`) on what the student sees.
    """

    def __init__(self, student: Segmentor, average_bn: bool = True) -> None:
        super().__init__()
        self.segmentor = copy.deepcopy(student).requires_grad_(False).eval()
        self.average_bn = average_bn

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode: labels come from running statistics and without dropout."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> SegmentationOutput:
        """The teacher's view of (B, 3, H, W), without gradient."""
        return self.segmentor(image)

    @torch.no_grad()
    def observe(self, image: Tensor) -> None:
        """Let the teacher gather its own BatchNorm statistics from (B, 3, H, W), where it does so at all."""
        if not self.average_bn:
            self.segmentor.train()
            try:
                self.segmentor(image)
            finally:  # the pass may run out of memory where a step is tried before the first
                self.segmentor.eval()

    @torch.no_grad()
    def copy_from(self, student: Segmentor) -> None:
        """Become the student: weights and statistics."""
        self.segmentor.load_state_dict(student.state_dict())

    @torch.no_grad()
    def follow(self, student: Segmentor, decay: float) -> None:
        """One step of the average: teacher <- decay x teacher + (1 - decay) x student."""
        average_into(self.segmentor, student, decay, self.average_bn)


@torch.no_grad()
def average_into(average: nn.Module, module: nn.Module, decay: float, with_buffers: bool = True) -> None:
    """average <- decay x average + (1 - decay) x module: parameters and, `with_buffers`, floating-point buffers."""
    torch._foreach_lerp_(_floats(average, with_buffers), _floats(module, with_buffers), 1 - decay)


def _floats(module: nn.Module, with_buffers: bool) -> list[Tensor]:
    buffers = [b for b in module.buffers() if b.is_floating_point()] if with_buffers else []
    return [*module.parameters(), *buffers]
