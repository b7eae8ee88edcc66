"""What every method that learns from unlabelled images shares: supervised steps first, and prototypes if wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from semiseg.config.methods import UnlabeledOptions
from semiseg.methods.method import Method, Setting
from semiseg.parts.predictor import Predictor
from semiseg.parts.regularizer import PrototypeRegularizer, start_prototypes
from semiseg.parts.segmentor import Segmentor
from semiseg.types import Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class SemiSupervised(Method):
    """Supervised steps (`warmup`), then `consistency_step`, which a subclass gives.

    Where the options have a `regularizer`, the paper's prototype predictor stands beside the method's own: it starts
    when the warm-up ends, moves after every step, and is evaluated. A subclass adds its losses with `prototype_losses`.
    """

    prototypes: PrototypeRegularizer | None
    started: Tensor  # () bool, whether the warm-up has ended

    def __init__(self, student: Segmentor, options: UnlabeledOptions, setting: Setting) -> None:
        super().__init__(student, setting)
        self.unlabeled_options = options
        self.prepare_at = round(options.warmup * setting.total_steps)
        self.register_buffer("started", torch.tensor(False))
        wanted = options.regularizer
        self.prototypes = (
            None if wanted is None else PrototypeRegularizer(student.num_classes, student.feature_channels, wanted)
        )

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        """Supervised during warm-up, `consistency_step` after it."""
        if clock.step < self.warmup_steps:
            return self.supervised_step(labeled)
        assert unlabeled is not None, "this method needs unlabelled batches"
        return self.consistency_step(labeled, unlabeled, clock)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The losses of a step with unlabelled images."""
        raise NotImplementedError

    @property
    def warmup_steps(self) -> int:
        """Steps that are supervised only."""
        assert self.prepare_at is not None
        return self.prepare_at

    def ramp(self, clock: Clock, share: float) -> float:
        """exp(-5 (1 - t)^2): rises from 0.0067 to 1 over a `share` of the steps after warm-up."""
        steps = share * (clock.total_steps - self.warmup_steps)
        t = min((clock.step - self.warmup_steps) / steps, 1.0) if steps > 0 else 1.0
        return math.exp(-5 * (1 - t) ** 2)

    @property
    def labeler(self) -> Segmentor:
        """The network that is evaluated, and on whose features prototypes start: the student, or its teacher."""
        return self.student

    @property
    def regularized(self) -> list[tuple[PrototypeRegularizer, Segmentor]]:
        """The prototypes with the network on whose features they start; empty without them."""
        return [] if self.prototypes is None else [(self.prototypes, self.labeler)]

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The warm-up has ended: Algorithm 2, where there are prototypes."""
        self.started.fill_(True)
        start_prototypes(self.regularized, labeled, clock, self.setting.seed)

    def prototype_losses(
        self,
        features: Tensor,
        label: Tensor,
        pseudo: PseudoLabel,
        kept: Tensor,
        clock: Clock,
        denominator: str = "all",
        prototypes: PrototypeRegularizer | None = None,
    ) -> dict[str, Tensor]:
        """Eq. 6 and 10, the second times `unlabeled_weight`; none without prototypes.

        features (B + B', D, h, w) of labelled and unlabelled images in this order, label (B, H, W), pseudo and kept
        (B', H, W): what teaches the unlabelled images as the student sees them. `prototypes`: None for the student's.
        """
        prototypes = prototypes or self.prototypes
        if prototypes is None:
            return {}
        losses = prototypes.losses(features, label, pseudo, kept, clock.generator, denominator)
        losses["prototype_unlabeled"] = self.unlabeled_options.unlabeled_weight * losses["prototype_unlabeled"]
        return losses

    def after_step(self, clock: Clock) -> None:
        """The prototypes follow the features (Eq. 11)."""
        if clock.step >= self.warmup_steps:
            for part in self.children():
                if isinstance(part, PrototypeRegularizer):
                    part.follow()

    @property
    def predictor(self) -> Predictor:
        """The labeler, with the prototypes once they have a place."""
        return Predictor(self.labeler, self.prototypes if self.started else None)

    @property
    def label_source(self) -> Predictor:
        """The labeler's linear predictor."""
        return Predictor(self.labeler)

    def health(self) -> tuple[dict[str, object], list[str]]:
        """Usage of every prototype and the distances within each class; a warning by name where they collapsed."""
        if self.prototypes is None or not self.started:
            return {}, []
        return self.health_of(self.prototypes)

    def health_of(self, prototypes: PrototypeRegularizer) -> tuple[dict[str, object], list[str]]:
        """`health`, of these."""
        state = prototypes.health()
        figures = {name: getattr(state, name).round(4).tolist() for name in ("usage", "distance", "closest")}
        return {f"prototype_{name}": value for name, value in figures.items()}, state.warnings(self.setting.classes)
