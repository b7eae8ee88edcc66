"""The base of methods that train two networks: the second one, what both learn from labels, and who is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from semiseg.methods.method import Method
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.segmentor import Segmentor
from semiseg.types import LabeledBatch, SegmentationOutput, StepResult

SIDES = ("left", "right")

Value = TypeVar("Value")


class PairedMethod(Method):
    """The student is the left network; the right one is like it, with another random start."""

    def make_parts(self) -> None:
        super().make_parts()
        if self.context.another is None:
            raise ValueError(
                f"{type(self).__name__} trains two networks: give another=FUNCTION, which makes the second"
            )
        self.right = self.context.another()

    @property
    def networks(self) -> tuple[Segmentor, Segmentor]:
        """Left and right."""
        return self.student, self.right

    def outputs(self, image: Tensor) -> list[SegmentationOutput]:
        """Outputs of left and right for (B, 3, H, W)."""
        return [network(image) for network in self.networks]

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        return StepResult(self.supervised_by_side(self.outputs(labeled.image), labeled), {})

    def supervised_by_side(self, outputs: Sequence[SegmentationOutput], labeled: LabeledBatch) -> dict[str, Tensor]:
        """The losses on labelled images of left and right."""
        found = [by_side(self.supervised(output, labeled), side) for output, side in zip(outputs, SIDES, strict=True)]
        return found[0] | found[1]

    @property
    def predictor(self) -> Predictor:
        members = {side: Predictor(network) for side, network in zip(SIDES, self.networks, strict=True)}
        return JointPredictor(members, self.options.report)

    @property
    def label_source(self) -> Predictor:
        """The reported predictor: each network labels for the other."""
        return self.predictor.headline_alone

    def parameter_groups(self) -> list[dict]:
        return [
            *super().parameter_groups(),
            {"role": "encoder", "params": self.right.encoder_parameters()},
            {"role": "head", "params": self.right.head_parameters()},
        ]


def by_side(values: Mapping[str, Value], side: str) -> dict[str, Value]:
    """Each under its name with the side's behind it."""
    return {f"{name}_{side}": value for name, value in values.items()}
