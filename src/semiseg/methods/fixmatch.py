"""FixMatch (Sohn et al., NeurIPS 2020), for segmentation as UniMatch's authors have it (Yang et al., CVPR 2023, 3.1).

    label, confidence = student(u)
    s    = CutMix of strong views of u; label and confidence mixed alike
    loss = 1/2 (CE(student(x), y) + w * CE(student(s), label) where confidence >= tau, over all valid pixels)

Differences from the paper and its code: docs/methods/fixmatch.md.
"""

from __future__ import annotations

import torch

from semiseg.config.methods.fixmatch import FixMatchOptions
from semiseg.methods.method import split_output
from semiseg.methods.with_prototypes import WithPrototypes
from semiseg.parts.losses import share
from semiseg.parts.matching import match, mixed_strong_view, scaled
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch


class FixMatch(WithPrototypes):
    """What the student is sure of in the weak view, it is taught in the strong one."""

    Options = FixMatchOptions
    options: FixMatchOptions

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The weak views with the labelled images, then the strong ones."""
        output = self.student(torch.cat([labeled.image, unlabeled.image]))
        on_labeled, on_weak = split_output(output, len(labeled.image))
        pseudo = pseudo_label(on_weak.logits, unlabeled.valid)
        strong = mixed_strong_view(unlabeled.image, pseudo, self.context.augment, clock.generator)
        on_strong = self.student(strong.image)
        losses = self.supervised(on_labeled, labeled)
        matched = match(on_strong.logits, strong.target, self.options.threshold)
        losses["unlabeled"] = self.options.unlabeled_weight * matched
        if self.prototypes is not None:
            features = torch.cat([on_labeled.features, on_strong.features])
            kept = strong.target.kept(self.options.threshold)
            losses |= self.prototype_losses(features, labeled, strong.target, kept, clock)
        return StepResult(scaled(losses, 1 / 2), {"kept": share(pseudo.kept(self.options.threshold), pseudo.valid)})
