"""Cross Pseudo Supervision (Chen et al., CVPR 2021): two networks, each learns what the other predicts.

    with CutMix:     M  = three boxes per image, toggled where they overlap; v = (1 - M) * u + M * u'
                     yl = (1 - M) * argmax left(u) + M * argmax left(u'), no gradient; yr likewise
    without CutMix:  v  = x and u; yl = argmax left(v), no gradient; yr likewise
    loss = CE(left(x), y) + CE(right(x), y) + w * (CE(left(v), yr) + CE(right(v), yl))

Every pixel teaches, however doubtful. Differences from the paper and its code: docs/methods/cps.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from semiseg.config.methods.cps import CPSOptions
from semiseg.methods.method import split_output
from semiseg.methods.paired_method import SIDES, PairedMethod, by_side
from semiseg.parts.losses import kept_cross_entropy, share
from semiseg.parts.mixing import mix_label, paste, toggled_boxes
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.prototypes import Prototypes, start_prototypes
from semiseg.parts.pseudo_labels import pseudo_label, without_learning
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class CPS(PairedMethod):
    """Left learns right's labels, and right left's."""

    Options = CPSOptions
    options: CPSOptions

    def make_parts(self) -> None:
        super().make_parts()
        wanted = self.options.prototypes
        if wanted is not None:  # the networks' feature spaces differ
            self.prototypes = Prototypes(self.student.num_classes, self.student.feature_channels, wanted)
            self.right_prototypes = Prototypes(self.student.num_classes, self.right.feature_channels, wanted)

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The prototypes of both networks start (Algorithm 2)."""
        super().prepare(labeled, clock)
        if self.prototypes is not None:
            both = list(zip((self.prototypes, self.right_prototypes), self.networks, strict=True))
            start_prototypes(both, labeled, clock.generator, self.context.seed)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Cross-entropy with the truth, and with the other network's labels."""
        image, labels = self.mixed(unlabeled, clock) if self.options.cutmix else (unlabeled.image, None)
        outputs = self.outputs(torch.cat([labeled.image, image]))
        halves = [split_output(output, len(labeled.image)) for output in outputs]
        losses = self.supervised_by_side([on_labeled for on_labeled, _ in halves], labeled)
        if labels is None:
            valid = torch.cat([labeled.label != IGNORE, unlabeled.valid])
            labels = [pseudo_label(output.logits.detach(), valid) for output in outputs]
            asked = [output.logits for output in outputs]
        else:
            asked = [on_unlabeled.logits for _, on_unlabeled in halves]
        left, right = labels
        for side, logits, taught in zip(SIDES, asked, (right, left), strict=True):
            losses[f"unlabeled_{side}"] = self.options.unlabeled_weight * self.cross_entropy(logits, taught)
        if self.prototypes is not None:
            losses |= self.prototype_losses([output.features for output in outputs], labeled, (right, left), clock)
        return StepResult(losses, {"agreed": share(left.label == right.label, left.valid)})

    def mixed(self, unlabeled: UnlabeledBatch, clock: Clock) -> tuple[Tensor, list[PseudoLabel]]:
        """Mixed images (B, 3, H, W), and the mixed labels of left and right."""
        boxes = toggled_boxes(unlabeled.image, clock.generator)
        with without_learning():
            said = [pseudo_label(output.logits, unlabeled.valid) for output in self.outputs(unlabeled.image)]
        return paste(unlabeled.image, boxes), [mix_label(pseudo, boxes) for pseudo in said]

    def cross_entropy(self, logits: Tensor, taught: PseudoLabel) -> Tensor:
        """Of (B, C, H, W) with hard labels, mean over all pixels that are not padding."""
        valid = taught.valid
        return kept_cross_entropy(logits, taught.label, kept=valid, valid=valid, denominator="all")

    def prototype_losses(
        self, features: Sequence[Tensor], labeled: LabeledBatch, taught: Sequence[PseudoLabel], clock: Clock
    ) -> dict[str, Tensor]:
        """Eq. 6 and Eq. 10 of both networks' prototypes.

        features of left and right, each (B + B', D, h, w); taught: the other network's labels, the last B' count.
        """
        assert self.prototypes is not None, "asked with prototypes only"
        losses: dict[str, Tensor] = {}
        both = (self.prototypes, self.right_prototypes)
        for side, maps, pseudo, prototypes in zip(SIDES, features, taught, both, strict=True):
            first = len(pseudo.label) - (len(maps) - len(labeled.image))
            target = PseudoLabel(pseudo.label[first:], pseudo.confidence[first:], pseudo.valid[first:])
            on_labeled, on_unlabeled = prototypes.losses(
                maps, labeled.label, pseudo=target, kept=target.valid, generator=clock.generator
            )
            losses[f"prototype_{side}"] = on_labeled
            losses[f"prototype_unlabeled_{side}"] = self.options.unlabeled_weight * on_unlabeled
        return losses

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        if self.prototypes is not None and clock.step >= self.warmup_steps:
            self.prototypes.follow()  # Eq. 11
            self.right_prototypes.follow()

    @property
    def predictor(self) -> Predictor:
        if self.prototypes is None or not self.started:
            return super().predictor
        left = Predictor(self.student, self.prototypes.predictor)
        right = Predictor(self.right, self.right_prototypes.predictor)
        return JointPredictor({"left": left, "right": right}, self.options.report)

    def health(self) -> tuple[dict[str, object], list[str]]:
        """As ever of left's prototypes; of right's under names that end in `_right`."""
        figures, warnings = super().health()
        if self.prototypes is None or not self.started:
            return figures, warnings
        of_right, more = self.right_prototypes.health(self.context.classes)
        return figures | by_side(of_right, "right"), [*warnings, *(f"right network: {text}" for text in more)]
