"""UniMatch (Yang et al., CVPR 2023): FixMatch with two strong views, and a perturbation of features.

    label, confidence = student(u)
    s1, s2 = CutMix of two strong views of u, each with boxes of its own; labels mixed alike
    f      = decoder(encoder(u) with channels dropped)
    H(p)   = CE(p, label) where confidence >= tau, over all valid pixels
    loss   = 1/2 (CE(student(x), y) + w * (1/4 H(student(s1)) + 1/4 H(student(s2)) + 1/2 H(f)))

Differences from the paper and its code: docs/methods/unimatch.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods.unimatch import UniMatchOptions
from semiseg.methods.method import split_output
from semiseg.methods.with_prototypes import WithPrototypes
from semiseg.parts.channel_dropout import with_dropped
from semiseg.parts.losses import share
from semiseg.parts.matching import match, mixed_strong_view, scaled
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class UniMatch(WithPrototypes):
    """One weak view teaches two strong ones and its own perturbed features."""

    Options = UniMatchOptions
    unlabeled_losses = ("unlabeled", "perturbed", "prototype_unlabeled")
    options: UniMatchOptions
    reads_pyramid = True

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The weak views with the labelled images, clean and perturbed, then both strong views."""
        image, count = unlabeled.image, len(unlabeled.image)
        perturb = with_dropped(len(labeled.image), self.options.feature_dropout, clock.generator)
        output = self.student(torch.cat([labeled.image, image]), perturb=perturb)
        on_labeled, others = split_output(output, len(labeled.image))
        on_weak, on_perturbed = split_output(others, count)
        pseudo = pseudo_label(on_weak.logits, unlabeled.valid)
        first, second = (mixed_strong_view(image, pseudo, self.context.augment, clock.generator) for _ in range(2))
        on_first, on_second = split_output(self.student(torch.cat([first.image, second.image])), count)

        weight = self.options.unlabeled_weight
        losses = self.supervised(on_labeled, labeled)
        losses["unlabeled"] = weight / 4 * self.match(on_first.logits, first.target)
        losses["unlabeled_second"] = weight / 4 * self.match(on_second.logits, second.target)
        losses["perturbed"] = weight / 2 * self.match(on_perturbed.logits, pseudo)
        if self.prototypes is not None:
            features = torch.cat([on_labeled.features, on_first.features])
            kept = first.target.kept(self.options.threshold)
            losses |= self.prototype_losses(features, labeled, first.target, kept, clock)
        return StepResult(scaled(losses, 1 / 2), {"kept": share(pseudo.kept(self.options.threshold), pseudo.valid)})

    def match(self, logits: Tensor, target: PseudoLabel) -> Tensor:
        """H of the formula. logits (B, C, H, W). Scalar"""
        return match(logits, target, self.options.threshold)
