"""PseudoSeg (Zou et al., ICLR 2021): soft labels from two sources, the decoder and an image classifier's attention.

    z = student(u), g = attention CAM(encoder(u))           on the weak view, without gradient
    z, g <- each over the root mean square of both
    q    = sharpen((softmax(z) + softmax(g)) / 2)           q^(1/T), of sum 1
    s    = the strong view with a square cut out
    loss = CE(student(x), y) + CE(attention CAM(encoder(x)), y) + w_p * BCE(classifier(encoder(x)), classes in y)
         + w * mean over pixels outside of the square of CE(student(s), q)

`details.pseudoseg_attention` has the attention CAM. It and the classifier are left out of what is saved for use.

Differences from the paper and its code: docs/methods/pseudoseg.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods.pseudoseg import PseudoSegOptions
from semiseg.methods.details.pseudoseg_attention import AttentionCAM
from semiseg.methods.method import Method, split_output
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import classes_shown, cross_entropy, presence_loss, soft_cross_entropy
from semiseg.parts.mixing import squares
from semiseg.parts.predictor import Predictor
from semiseg.parts.pseudo_labels import calibrated_fusion, sharpened_fusion, without_learning
from semiseg.parts.segmentor import Segmentor
from semiseg.types import IGNORE, Clock, LabeledBatch, SegmentationOutput, StepResult, UnlabeledBatch


class FusedPredictor(Predictor):
    """Decoder and attention as one predictor."""

    def __init__(self, segmentor: Segmentor, attention: AttentionCAM, temperature: float) -> None:
        super().__init__(segmentor)
        self.attention, self.temperature = attention, temperature

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logarithms of the soft labels, as logits."""
        pyramid = self.segmentor.encode(image)
        logits = self.segmentor.decode(pyramid, (image.shape[-2], image.shape[-1])).logits
        attended = self.attention(pyramid, torch.ones_like(logits[:, 0], dtype=torch.bool))
        both = torch.stack([logits, attended]).float()  # (2, B, C, H, W)
        mean_square = both.square().mean((0, 2, 3, 4))[:, None, None, None]
        fused = sharpened_fusion(both, mean_square, self.temperature)
        return {self.headline: fused.clamp(min=torch.finfo(fused.dtype).tiny).log()}


class PseudoSeg(Method):
    """The decoder learns from what it and the classifier's attention agree on."""

    Options = PseudoSegOptions
    options: PseudoSegOptions

    def make_parts(self) -> None:
        super().make_parts()
        (before, _), (deepest, _) = self.student.scales()[-2:]
        background = self.options.has_background(self.context.classes)
        classes, channels = self.student.num_classes, self.options.attention_channels
        self.attention = AttentionCAM((before, deepest), classes, background, channels)

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        """Warm-up: classifier and attention learn, too."""
        pyramid = self.student.encode(labeled.image)
        output = self.student.decode(pyramid, (labeled.image.shape[-2], labeled.image.shape[-1]))
        return StepResult(self.labeled_losses(output, pyramid, labeled), {})

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The losses on labels, and the soft cross-entropy on the strong view."""
        target = self.soft_label(unlabeled)  # (B, C, H, W)
        image = strong_view(unlabeled.image, self.context.augment, clock.generator)
        hole = squares(image, self.options.cutout, clock.generator)  # (B, H, W)
        together = torch.cat([labeled.image, image.masked_fill(hole[:, None], 0.0)])
        first = len(labeled.image)
        pyramid = self.student.encode(together)
        output = self.student.decode(pyramid, (together.shape[-2], together.shape[-1]))
        on_labeled, on_unlabeled = split_output(output, first)
        losses = self.labeled_losses(on_labeled, [maps[:first] for maps in pyramid[-2:]], labeled)
        soft = soft_cross_entropy(on_unlabeled.logits, target, valid=unlabeled.valid & ~hole)
        losses["unlabeled"] = self.options.unlabeled_weight * soft
        return StepResult(losses, {})

    def soft_label(self, unlabeled: UnlabeledBatch) -> Tensor:
        """The calibrated fusion of both predictions of the weak view, in train mode as the original's. (B, C, H, W)"""
        with without_learning():
            pyramid = self.student.encode(unlabeled.image)
            logits = self.student.decode(pyramid, (unlabeled.image.shape[-2], unlabeled.image.shape[-1])).logits
            attended = self.attention(pyramid, unlabeled.valid)
        return calibrated_fusion(logits, attended, unlabeled.valid, self.options.temperature)

    @property
    def label_source(self) -> Predictor:
        """The fusion, in eval mode, each image with a scale of its own."""
        return FusedPredictor(self.student, self.attention, self.options.temperature)

    def labeled_losses(
        self, output: SegmentationOutput, pyramid: list[Tensor], labeled: LabeledBatch
    ) -> dict[str, Tensor]:
        """Eq. 5 for the decoder, cross-entropy for the attention CAM of the classes shown, the classifier's loss."""
        presence = self.attention.shown(pyramid[-1])  # (B, F)
        shown = classes_shown(labeled.label, self.student.num_classes)  # (B, C)
        known = shown.any(1, keepdim=True)  # without a labelled pixel the prediction has to do
        present = torch.where(known, shown[:, -presence.shape[1] :], presence >= 0)
        attended = self.attention(pyramid, labeled.label != IGNORE, present)
        losses = self.supervised(output, labeled)
        losses["attention"] = cross_entropy(attended, labeled.label, count=labeled.pixels)
        losses["presence"] = self.options.presence_weight * presence_loss(presence, shown)
        return losses

    def parameter_groups(self) -> list[dict]:
        return [*super().parameter_groups(), {"role": "head", "params": list(self.attention.parameters())}]
