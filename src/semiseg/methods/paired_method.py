"""What the methods share that train two networks: the second one, what both learn from labels, and who is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from semiseg.config.methods import PairOptions
from semiseg.methods.method import Setting
from semiseg.methods.semi_supervised import SemiSupervised
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.regularizer import PrototypeRegularizer
from semiseg.parts.segmentor import Segmentor
from semiseg.types import LabeledBatch, SegmentationOutput, StepResult

SIDES = ("left", "right")

Value = TypeVar("Value")


class PairedMethod(SemiSupervised):
    """The student is the left network; the right one is like it, with another random start.

    Where the options have a `regularizer`, each has prototypes of its own, for their feature spaces differ. Whatever
    there is of both goes by the names in SIDES.
    """

    right_prototypes: PrototypeRegularizer | None

    def __init__(self, student: Segmentor, options: PairOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        assert setting.another is not None, "this method trains two networks"
        self.report = options.report
        self.right = setting.another()
        wanted = options.regularizer
        self.right_prototypes = (
            None if wanted is None else PrototypeRegularizer(student.num_classes, self.right.feature_channels, wanted)
        )

    @property
    def networks(self) -> tuple[Segmentor, Segmentor]:
        """Left and right."""
        return self.student, self.right

    def outputs(self, image: Tensor) -> list[SegmentationOutput]:
        """What left and right say of (B, 3, H, W)."""
        return [network(image) for network in self.networks]

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        """Both learn from labelled images alone."""
        return StepResult(self.supervised_by_side(self.outputs(labeled.image), labeled), {})

    def supervised_by_side(self, outputs: Sequence[SegmentationOutput], labeled: LabeledBatch) -> dict[str, Tensor]:
        """The losses on labelled images of left and right."""
        found = [by_side(self.supervised(output, labeled), side) for output, side in zip(outputs, SIDES, strict=True)]
        return found[0] | found[1]

    @property
    def regularized(self) -> list[tuple[PrototypeRegularizer, Segmentor]]:
        """The prototypes of left and right, each with its network."""
        both = zip((self.prototypes, self.right_prototypes), self.networks, strict=True)
        return [(prototypes, network) for prototypes, network in both if prototypes is not None]

    @property
    def predictor(self) -> Predictor:
        """Both networks, with their prototypes once they have a place."""
        prototypes = (self.prototypes, self.right_prototypes) if self.started else (None, None)
        members = zip(SIDES, self.networks, prototypes, strict=True)
        return JointPredictor({side: Predictor(network, own) for side, network, own in members}, self.report)

    @property
    def label_source(self) -> Predictor:
        """What is reported: each network labels for the other."""
        return self.predictor.headline_alone

    def parameter_groups(self) -> list[dict]:
        """Those of both networks."""
        return [
            *super().parameter_groups(),
            {"role": "encoder", "params": self.right.encoder_parameters()},
            {"role": "head", "params": self.right.head_parameters()},
        ]

    def health(self) -> tuple[dict[str, object], list[str]]:
        """That of left's prototypes, and of right's under names that end so."""
        figures, warnings = super().health()
        if self.right_prototypes is None or not self.started:
            return figures, warnings
        of_right, more = self.health_of(self.right_prototypes)
        figures |= by_side(of_right, "right")
        return figures, [*warnings, *(f"right network: {text}" for text in more)]


def by_side(values: Mapping[str, Value], side: str) -> dict[str, Value]:
    """Each under its name with the side's behind it."""
    return {f"{name}_{side}": value for name, value in values.items()}
