"""Cross Pseudo Supervision (Chen et al., CVPR 2021): two networks, each learns what the other predicts.

    with CutMix:     M  = three boxes per image, toggled where they overlap; v = (1 - M) * u + M * u'
                     yl = (1 - M) * argmax left(u) + M * argmax left(u'), no gradient; yr likewise
    without CutMix:  v  = x and u; yl = argmax left(v), no gradient; yr likewise
    loss = CE(left(x), y) + CE(right(x), y) + w * (CE(left(v), yr) + CE(right(v), yl))

Every pixel teaches, however doubtful. Differences from the paper and its code: 1. the partner u' is the batch rolled by
one, not a second batch; 2. labelled and unlabelled images pass through a network together, so that BatchNorm normalises
them together, where the code passes them one after the other; 3. as in the code, the networks label the unmixed images
in train mode, and BatchNorm's statistics move with them; dropout is on too, which the original's decoder has not
(`--network.dropout 0`); without CutMix the labels are read off the pass that learns;
4. padding takes no part, nor do, without CutMix, labelled images' pixels that have no label; 5. the losses are plain
means: the code divides them once more by the number of GPUs; 6. recipes start with supervised steps (`warmup`) of both
networks; 7. with `prototypes`, each network has its own, taught by the other network's labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semiseg.config.methods import CPSOptions
from semiseg.methods.method import Setting, split_output
from semiseg.methods.paired_method import SIDES, PairedMethod, by_side
from semiseg.parts.losses import kept_cross_entropy, share
from semiseg.parts.mixing import mix_label, paste, toggled_boxes
from semiseg.parts.pseudo_labels import labelling, pseudo_label
from semiseg.parts.segmentor import Segmentor
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class CPS(PairedMethod):
    """Left learns right's labels, and right left's."""

    def __init__(self, student: Segmentor, options: CPSOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        self.options = options

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Cross-entropy with the truth, and with the other's labels."""
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
        losses |= self.prototypes_by_side([output.features for output in outputs], labeled, (right, left), clock)
        return StepResult(losses, {"agreed": share(left.label == right.label, left.valid)})

    def mixed(self, unlabeled: UnlabeledBatch, clock: Clock) -> tuple[Tensor, list[PseudoLabel]]:
        """Mixed images (B, 3, H, W), and what left and right said of their parts."""
        boxes = toggled_boxes(unlabeled.image, clock.generator)
        with labelling():
            said = [pseudo_label(output.logits, unlabeled.valid) for output in self.outputs(unlabeled.image)]
        return paste(unlabeled.image, boxes), [mix_label(pseudo, boxes) for pseudo in said]

    def cross_entropy(self, logits: Tensor, taught: PseudoLabel) -> Tensor:
        """Of (B, C, H, W) with hard labels, mean over all pixels that are not padding."""
        valid = taught.valid
        return kept_cross_entropy(logits, taught.label, valid, valid, "all", self.setting.loss.slices)

    def prototypes_by_side(
        self, features: Sequence[Tensor], labeled: LabeledBatch, taught: Sequence[PseudoLabel], clock: Clock
    ) -> dict[str, Tensor]:
        """The losses of both networks' prototypes; of `taught` the unlabelled images, which are the last, count."""
        losses: dict[str, Tensor] = {}
        for side, maps, pseudo, (prototypes, _) in zip(SIDES, features, taught, self.regularized, strict=False):
            first = len(pseudo.label) - (len(maps) - len(labeled.image))
            own = PseudoLabel(pseudo.label[first:], pseudo.confidence[first:], pseudo.valid[first:])
            found = self.prototype_losses(maps, labeled.label, own, own.valid, clock, prototypes=prototypes)
            losses |= by_side(found, side)
        return losses
