"""PC2Seg (Zhong et al., ICCV 2021): consistent labels and contrasted features of two views of each pixel.

Re-implemented from the description: no code was released, and the constants are ours.

    p, f  = student's softmax and features on the weak view, without gradient
    p', f' = the same on the strong view
    phi   = projector(features at one random point per cell of a grid), of length 1
    loss  = CE(student(x), y) + w * mean over pixels of sum over classes of (p' - p)^2
          + w_c * mean over points i of -log(e_ii / (e_ii + N * sum over j of w_ij e_ij))
    e_ij  = exp(phi'_i . phi_j / T);  w_ij ~ 1 - p_i . p_j over the points j of other images, of sum 1

Differences from the paper and its code: docs/methods/pc2seg.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.config.methods.pc2seg import PC2SegOptions
from semiseg.methods.details.pc2seg_contrast import debiased_contrast
from semiseg.methods.method import Method, split_output
from semiseg.parts.augment import strong_view
from semiseg.parts.losses import softmax_squared_distance
from semiseg.parts.pseudo_labels import without_learning
from semiseg.parts.sampling import grid_points, pick, pick_pixels
from semiseg.types import Clock, LabeledBatch, SegmentationOutput, StepResult, UnlabeledBatch


class PC2Seg(Method):
    """Two views of a pixel have one label, and features unlike the features of other classes in other images."""

    Options = PC2SegOptions
    unlabeled_losses = ("consistency", "contrast")
    options: PC2SegOptions

    def make_parts(self) -> None:
        super().make_parts()
        channels = self.student.feature_channels
        self.projector = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, self.options.projection)
        )

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Eq. 5, the distance of the labels, and the contrast of the features."""
        with without_learning():
            weak = self.student(unlabeled.image)
            target = weak.logits.float().softmax(1)  # (B, C, H, W)
        strong = strong_view(unlabeled.image, self.context.augment, clock.generator)
        output = self.student(torch.cat([labeled.image, strong]))
        on_labeled, on_unlabeled = split_output(output, len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        distance = softmax_squared_distance(on_unlabeled.logits, target, unlabeled.valid)
        losses["consistency"] = self.options.unlabeled_weight * distance
        contrast = self.contrast(on_unlabeled, weak, target, unlabeled.valid, clock)
        losses["contrast"] = self.options.contrast_weight * contrast
        return StepResult(losses, {})

    def contrast(
        self, strong: SegmentationOutput, weak: SegmentationOutput, target: Tensor, valid: Tensor, clock: Clock
    ) -> Tensor:
        """The contrastive loss at the step's points. target (B, C, H, W), valid (B, H, W) bool. Scalar"""
        size = (valid.shape[-2], valid.shape[-1])
        points = grid_points(*size, self.options.grid, clock.generator)  # (N, 2)
        anchors = self.projector(pick(strong.features, points, size))  # (B, N, P)
        with without_learning():
            keys = self.projector(pick(weak.features, points, size))
        classes = pick_pixels(target.flatten(0, 1), points).unflatten(0, target.shape[:2]).mT  # (B, N, C)
        usable = pick_pixels(valid, points)  # (B, N)
        return debiased_contrast(anchors, keys, classes, usable, self.options.temperature, self.options.negatives)

    def parameter_groups(self) -> list[dict]:
        return [*super().parameter_groups(), {"role": "head", "params": list(self.projector.parameters())}]
