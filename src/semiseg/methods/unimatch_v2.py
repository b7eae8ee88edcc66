"""UniMatch V2 (Yang et al., TPAMI 2025): an averaged teacher, two strong views, complementary channels.

    label, confidence = teacher(u)
    s1, s2 = CutMix of two strong views of u, each with boxes of its own; labels mixed alike
    m1, m2 = channels' factors, 0 or 2, with m1 + m2 = 2; for half of the images both are 1
    H(p)   = CE(p, label) where confidence >= tau, over all valid pixels
    loss   = 1/2 (CE(student(x), y) + w/2 * (H(decoder(m1 encoder(s1))) + H(decoder(m2 encoder(s2)))))

Differences from the paper and its code: docs/methods/unimatch_v2.md.
"""

from __future__ import annotations

import torch

from semiseg.config.methods.unimatch_v2 import UniMatchV2Options
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.methods.with_prototypes import WithPrototypes
from semiseg.parts.channel_dropout import complementary
from semiseg.parts.losses import share
from semiseg.parts.matching import match, mixed_strong_view, scaled
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch


class UniMatchV2(WithPrototypes, TeacherMethod):
    """Two strong views learn the teacher's labels, each from the channels that the other one lacks."""

    Options = UniMatchV2Options
    options: UniMatchV2Options

    @property
    def reads_pyramid(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Only for the complementary dropout."""
        return self.options.complementary_dropout

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """One pass of the labelled images and both strong views."""
        pseudo = self.label(unlabeled)
        first, second = (
            mixed_strong_view(unlabeled.image, pseudo, self.context.augment, clock.generator) for _ in range(2)
        )
        together, count = torch.cat([labeled.image, first.image, second.image]), len(labeled.image)
        self.teacher.observe(together)
        perturb = complementary(count, clock.generator) if self.options.complementary_dropout else None
        output = self.student(together, perturb=perturb)
        on_labeled, on_strong = split_output(output, count)
        on_first, on_second = split_output(on_strong, len(unlabeled.image))

        weight = self.options.unlabeled_weight
        losses = self.supervised(on_labeled, labeled)
        losses["unlabeled"] = weight / 2 * match(on_first.logits, first.target, self.options.threshold)
        losses["unlabeled_second"] = weight / 2 * match(on_second.logits, second.target, self.options.threshold)
        features, kept = output.features[: count + len(unlabeled.image)], first.target.kept(self.options.threshold)
        losses |= self.prototype_losses(features, labeled, first.target, kept, clock)
        return StepResult(scaled(losses, 1 / 2), {"kept": share(pseudo.kept(self.options.threshold), pseudo.valid)})
