"""The paper's prototypes in a method of another paper: `prototypes.*` on, and the method calls `prototype_losses`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from semiseg.methods.method import Method
from semiseg.parts.prototypes import Prototypes, start_prototypes
from semiseg.types import Clock, LabeledBatch, PseudoLabel


class WithPrototypes(Method):
    """A prototype predictor beside the method's own; it is evaluated too."""

    def make_parts(self) -> None:
        super().make_parts()
        wanted = self.options.prototypes
        if wanted is not None:
            self.prototypes = Prototypes(self.student.num_classes, self.student.feature_channels, wanted)

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """K-means on labelled features starts the prototypes (Algorithm 2)."""
        super().prepare(labeled, clock)
        if self.prototypes is not None:
            start_prototypes([(self.prototypes, self.labeler)], labeled, clock.generator, self.context.seed)

    def prototype_losses(
        self, features: Tensor, labeled: LabeledBatch, pseudo: PseudoLabel, kept: Tensor, clock: Clock, per: str = "all"
    ) -> dict[str, Tensor]:
        """Eq. 6 and Eq. 10, the second times `unlabeled_weight`; none without prototypes.

        features (B + B', D, h, w) of labelled and unlabelled images in this order; pseudo and kept (B', H, W): what
        teaches the unlabelled images as the student sees them. `per`: see `losses.unlabeled_denominator`.
        """
        if self.prototypes is None:
            return {}
        on_labeled, on_unlabeled = self.prototypes.losses(
            features, labeled.label, pseudo=pseudo, kept=kept, generator=clock.generator, denominator=per
        )
        return {"prototype": on_labeled, "prototype_unlabeled": self.options.unlabeled_weight * on_unlabeled}

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        if self.prototypes is not None and clock.step >= self.warmup_steps:
            self.prototypes.follow()  # Eq. 11
