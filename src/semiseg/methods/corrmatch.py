"""CorrMatch (Sun et al., CVPR 2024): UniMatch with one strong view, and labels that spread along correlations.

    label, confidence = student(u); spread: the same, once labels have spread over regions of A
    s    = CutMix of strong views of u; label and confidence, spread, and softmax q of student(u) mixed alike
    f    = decoder(encoder(u) with channels dropped)
    z(.) = student(.) handed on by A, the correlations of `semiseg.methods.details.corrmatch_correlation`
    H(p) = CE(p, label) where confidence >= tau, over all valid pixels; S(p) likewise with spread
    loss = 1/2 (1/2 CE(student(x), y) + 1/2 CE(z(x), y)
                + w/4 (S(student(s)) + KL(q || student(s)) where confidence >= tau + H(f) + 1/2 (S(z(s)) + H(z(u)))))
    tau <- 0.999 tau + 0.001 * mean over the predicted classes of their greatest confidence in the batch

Differences from the paper and its code: docs/methods/corrmatch.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semiseg.config.methods.corrmatch import CorrMatchOptions
from semiseg.methods.details.corrmatch_correlation import (
    Correlation,
    CorrelationHead,
    followed,
    greatest_by_class,
    propagate,
)
from semiseg.methods.method import Method, split_output
from semiseg.parts.channel_dropout import with_dropped
from semiseg.parts.losses import kept_divergence, share, supervised_loss
from semiseg.parts.matching import match, mixed_strong_view, scaled
from semiseg.parts.mixing import mix_label, paste
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import Clock, LabeledBatch, PseudoLabel, SegmentationOutput, StepResult, UnlabeledBatch


class CorrMatch(Method):
    """Where an image is like itself, one label holds."""

    tau: Tensor  # () float32, the confidence from which a pseudo-label teaches
    greatest: Tensor  # (C,) float32, with which each class was predicted in this step

    Options = CorrMatchOptions
    unlabeled_losses = ("unlabeled", "soft", "perturbed", "correlation_")
    options: CorrMatchOptions

    def make_parts(self) -> None:
        super().make_parts()
        width, _ = self.student.scales()[-1]
        self.correlate = CorrelationHead(width, self.student.num_classes, self.options.correlation_channels)
        self.register_buffer("tau", torch.tensor(self.options.threshold))
        # Between the passes and `after_step`; a buffer, so that a step that is only tried leaves nothing; not saved.
        self.register_buffer("greatest", torch.zeros(self.student.num_classes), persistent=False)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The weak views with the labelled images, clean and perturbed, then the strong ones."""
        image, first = torch.cat([labeled.image, unlabeled.image]), len(labeled.image)
        output = self.student(image, perturb=with_dropped(first, self.options.feature_dropout, clock.generator))
        on_labeled, others = split_output(output, first)
        on_weak, on_perturbed = split_output(others, len(unlabeled.image))
        correlation = self.correlation(output, (first, len(unlabeled.image)), clock)
        on_unlabeled = correlation.behind(first)

        own = pseudo_label(on_weak.logits, unlabeled.valid)
        self.greatest.copy_(self.greatest.maximum(greatest_by_class(own, self.student.num_classes)))
        spread = propagate(own, on_unlabeled, self.tau, self.options.regions, clock.generator)
        strong = mixed_strong_view(unlabeled.image, spread, self.context.augment, clock.generator)
        on_strong = self.student(strong.image)
        handed_on = self.correlation(on_strong, (len(strong.image),), clock).logits

        losses = self.supervised(on_labeled, labeled)
        handed = correlation.logits[:first]
        losses["correlation"] = supervised_loss(handed, labeled.label, self.context.loss, count=labeled.pixels)
        weight = self.options.unlabeled_weight / 4
        unlabeled_losses = {
            "unlabeled": weight * self.match(on_strong.logits, strong.target),
            "soft": weight * self.divergence(on_strong.logits, on_weak.logits, own, strong.boxes),
            "perturbed": weight * self.match(on_perturbed.logits, own),
            "correlation_strong": weight / 2 * self.match(handed_on, strong.target),
            "correlation_weak": weight / 2 * self.match(on_unlabeled.logits, own),
        }
        stats = {"kept": share(spread.kept(self.tau), spread.valid), "threshold": self.tau.clone()}
        return StepResult(scaled(scaled(losses, 1 / 2) | unlabeled_losses, 1 / 2), stats)

    def correlation(self, output: SegmentationOutput, batches: Sequence[int], clock: Clock) -> Correlation:
        """z of the formula and the factors of A, for the images of `batches` that the student was shown."""
        assert output.deepest is not None, "a step has gradients"
        return self.correlate(output.deepest, output.logits[: len(output.deepest)], batches, clock.generator)

    def match(self, logits: Tensor, target: PseudoLabel) -> Tensor:
        """H of the formula. logits (B, C, H, W). Scalar"""
        return match(logits, target, self.tau)

    def divergence(self, logits: Tensor, weak: Tensor, own: PseudoLabel, boxes: Tensor) -> Tensor:
        """KL of the formula. logits of the strong views; weak (B, C, H, W) and own of the unmixed weak ones. Scalar"""
        soft = weak.detach().float().softmax(1)
        if self.options.soft_target == "mixed":
            soft = paste(soft, boxes)
        mixed = mix_label(own, boxes)
        return kept_divergence(logits, soft, mixed.kept(self.tau), mixed.valid)

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        self.tau.copy_(followed(self.tau, self.greatest, self.options.threshold_momentum))
        self.greatest.zero_()

    @property
    def threshold(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return float(self.tau)

    def parameter_groups(self) -> list[dict]:
        return [*super().parameter_groups(), {"role": "head", "params": list(self.correlate.parameters())}]
