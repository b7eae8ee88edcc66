"""Guided Collaborative Training (Ke et al., ECCV 2020): two networks, and a detector that sees where each is wrong.

    pl   = softmax(left(v)), v = x and u; pr likewise for right
    F    = a detector of flaws; hl = relu(F(v, pl)), blurred and stretched to [0, 1]; hr likewise
    tl   = pr where hl > hr, else pl; tr likewise; flaws above 0.6 are alike                 (dynamic consistency)
    loss of left  = CE(left(x), y) + 100 * w(t) * mean((pl - tl)^2)
                  + mean over pixels of F(v, pl)^2 where hl > 0.6 and hr > 0.6               (flaw correction)
    loss of right = likewise
    loss of F     = 10 * mean over pixels of x of (F(v, pl) - C(1 - pl[y]))^2, and the same for pr, halved;
                    C blurs, dilates and stretches

The networks' losses leave F alone, and F's loss leaves them alone.
Differences from the paper and its code: docs/methods/gct.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from semiseg.config.methods.gct import GCTOptions
from semiseg.methods.details.gct_flaws import (
    FlawDetector,
    consistency_targets,
    detection_loss,
    flaw_correction,
    flaw_map,
    flaw_target,
)
from semiseg.methods.method import split_output
from semiseg.methods.paired_method import SIDES, PairedMethod
from semiseg.parts.losses import share, softmax_mse
from semiseg.types import IGNORE, Clock, LabeledBatch, StepResult, UnlabeledBatch


class GCT(PairedMethod):
    """Where the detector finds one network less flawed, the other follows it; where both are, both mend."""

    Options = GCTOptions
    unlabeled_losses = ("consistency", "correction")
    options: GCTOptions

    def make_parts(self) -> None:
        super().make_parts()
        self.detector = FlawDetector(self.student.num_classes, self.options.detector_channels)

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        """The labelled images teach all three."""
        outputs = self.outputs(labeled.image)
        probabilities = [output.logits.float().softmax(1) for output in outputs]
        losses = self.supervised_by_side(outputs, labeled)
        return StepResult(losses | self.detector_losses(labeled.image, probabilities, labeled), {})

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Eq. 5, and dynamic consistency and flaw correction on all images."""
        image = torch.cat([labeled.image, unlabeled.image])
        valid = torch.cat([labeled.label != IGNORE, unlabeled.valid])
        outputs = self.outputs(image)
        left, right = (output.logits.float().softmax(1) for output in outputs)  # (B + B', C, H, W)
        flaws = self.flaw(image, left), self.flaw(image, right)  # each (B + B', H, W)
        maps = flaw_map(flaws[0]), flaw_map(flaws[1])
        *targets, flawed = consistency_targets((left, right), maps, self.options.flaw_threshold)
        on_labeled = [split_output(output, len(labeled.image))[0] for output in outputs]
        losses = self.supervised_by_side(on_labeled, labeled) | self.detector_losses(image, (left, right), labeled)
        weight = self.options.unlabeled_weight * self.ramp(clock, self.options.ramp)
        for side, output, target, flaw in zip(SIDES, outputs, targets, flaws, strict=True):
            losses[f"consistency_{side}"] = weight * softmax_mse(output.logits, target, valid)
            losses[f"correction_{side}"] = self.options.correction_weight * flaw_correction(flaw, flawed, valid)
        return StepResult(losses, {"flawed": share(flawed, valid)})

    def flaw(self, image: Tensor, probability: Tensor) -> Tensor:
        """Flaws by the frozen detector, for the networks to learn from and not for itself. (B, H, W)"""
        frozen = {name: parameter.detach() for name, parameter in self.detector.named_parameters()}
        return functional_call(self.detector, frozen, (image, probability))

    def detector_losses(
        self, image: Tensor, probabilities: Sequence[Tensor], labeled: LabeledBatch
    ) -> dict[str, Tensor]:
        """The detector's losses on the predictions of left and right, which get no gradient.

        image (B + B', 3, H, W) and probabilities (B + B', C, H, W), the labelled images' first. The detector sees all,
        for it has no running statistics: so it learns under the normalisation under which it judges.
        """
        losses: dict[str, Tensor] = {}
        for side, probability in zip(SIDES, probabilities, strict=True):
            said = self.detector(image, probability.detach())[: len(labeled.image)]
            target = flaw_target(probability[: len(labeled.image)], labeled.label)
            loss = detection_loss(said, target, labeled.label, labeled.pixels)
            losses[f"detector_{side}"] = self.options.detector_weight / len(SIDES) * loss
        return losses

    def parameter_groups(self) -> list[dict]:
        adam = {"kind": "adam", "lr": self.options.detector_lr, "betas": (0.9, 0.99)}
        return [*super().parameter_groups(), {"role": "head", "params": list(self.detector.parameters()), **adam}]
