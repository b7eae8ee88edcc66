"""AEL, adaptive equalization learning (Hu et al., NeurIPS 2021): what the student is bad at gets more of the lesson.

    C_k   = average probability that the student gives class k on pixels labelled k                  (confidence bank)
    x, y  : with probability 0.5, pixels of classes ~ softmax((1 - C)^0.5) come from another labelled image
    u'    = an image on which the teacher last saw class k, k ~ softmax(1 - C)                 (asked of the loader)
    mix   = u, and in the box around a random region of class k in teacher(u') u'; without such a region, any half
    q     = teacher(.), c = max q
    w     = c^2, with probability r_k = (1 - C_k) / max_j (1 - C_j), k what the student says; else 0
    L_con = sum of w CE(student(.), argmax q) where c >= 0.7 / sum of w
    loss  = CE(student(x), y) + L_con(x) + L_con(mix)

Differences from the paper and its code: docs/methods/ael.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.config.methods.ael import AELOptions
from semiseg.methods.details.ael_bank import NOTICE, ConfidenceBank
from semiseg.methods.details.ael_pasting import hard_classes, pixel_dice, region_boxes
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.parts.losses import share, weighted_cross_entropy
from semiseg.parts.mixing import french_boxes, paste
from semiseg.parts.partners import WantsImages
from semiseg.parts.pseudo_labels import pseudo_label
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, StepResult, UnlabeledBatch


class AEL(TeacherMethod, WantsImages):
    """A mean teacher that favours the classes the student is unsure of, four times over."""

    pasted_classes: Tensor  # (C,) bool, classes that copy-paste may take

    Options = AELOptions
    options: AELOptions

    def make_parts(self) -> None:
        super().make_parts()
        self.bank = ConfidenceBank(self.student.num_classes, self.context.num_unlabeled, self.context.batch_unlabeled)
        left_out = self.options.left_out(self.context.classes)
        allowed = torch.tensor([number not in left_out for number in range(self.student.num_classes)])
        self.register_buffer("pasted_classes", allowed, persistent=False)

    def wanted(self, step: int) -> Tensor | None:
        return None if step < self.warmup_steps else self.bank.wishes[step % NOTICE, 0]

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """One step: the teacher labels labelled images and mixes; hard classes weigh more."""
        labeled = self.pasted(labeled, clock)
        on_x, on_mix, mixed = self.taught(labeled, unlabeled, clock)
        together = torch.cat([labeled.image, mixed])
        self.teacher.observe(together)
        on_labeled, on_unlabeled = split_output(self.student(together), len(labeled.image))
        self.bank.observe(on_labeled.logits, labeled.label)
        losses = self.supervised(on_labeled, labeled)
        weight_x = self.weight(on_labeled.logits, on_x, clock)
        weight_mix = self.weight(on_unlabeled.logits, on_mix, clock)
        losses["consistency_labeled"] = self.consistency(on_labeled.logits, on_x, weight_x)
        losses["consistency"] = self.consistency(on_unlabeled.logits, on_mix, weight_mix)
        return StepResult(losses, {"kept": share(on_mix.kept(self.options.threshold) & (weight_mix > 0), on_mix.valid)})

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        """Warm-up: the bank observes the student already."""
        output = self.student(labeled.image)
        self.bank.observe(output.logits, labeled.label)
        return StepResult(self.supervised(output, labeled), {})

    def pasted(self, labeled: LabeledBatch, clock: Clock) -> LabeledBatch:
        """Adaptive copy-paste. Pixels without a label may get one, so a part of a step counts its own."""
        number, probability = self.options.paste_classes, self.options.paste_probability
        shown = hard_classes(
            labeled.label, self.bank.hardness, self.pasted_classes, number, probability, clock.generator
        )
        return labeled._replace(image=paste(labeled.image, shown), label=paste(labeled.label, shown), pixels=None)

    @torch.no_grad()
    def taught(
        self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock
    ) -> tuple[PseudoLabel, PseudoLabel, Tensor]:
        """The teacher's labels of the labelled images and of the mixed ones, and these (B, 3, H, W)."""
        partner = unlabeled.partner
        assert partner is not None, "what `wanted` asked for comes with the unlabelled batch"
        image = torch.cat([labeled.image, unlabeled.image, partner.image])
        valid = torch.cat([labeled.label != IGNORE, unlabeled.valid, partner.valid])
        parts = [len(labeled.image), len(unlabeled.image), len(partner.image)]
        said = pseudo_label(self.teacher(image).logits, valid)
        maps = (tensor.split(parts) for tensor in (said.label, said.confidence, said.valid))
        on_x, on_u, on_partner = (PseudoLabel(*part) for part in zip(*maps, strict=True))
        for index, pseudo in ((unlabeled.index, on_u), (partner.index, on_partner)):
            self.bank.note(index, pseudo, self.options.bank_area)
        box = self.boxes(partner, on_partner, clock)
        outside, inside = (self.view(batch.image, clock) for batch in (unlabeled, partner))
        return on_x, mixed_pseudo(on_u, on_partner, box), torch.where(box[:, None], inside, outside)

    def boxes(self, partner: UnlabeledBatch, pseudo: PseudoLabel, clock: Clock) -> Tensor:
        """Adaptive CutMix: around a region of the class that the partner was wished for, or half. (B, H, W) bool"""
        wanted = self.bank.classes_for(partner.index, clock.step)
        around, found = region_boxes(pseudo, wanted, self.options.box_area, clock.generator)
        return torch.where(found[:, None, None], around, french_boxes(partner.image, clock.generator))

    @torch.no_grad()
    def weight(self, logits: Tensor, pseudo: PseudoLabel, clock: Clock) -> Tensor:
        """How much each pixel weighs. logits (B, C, H, W) are the student's; (B, H, W)"""
        counted = pseudo.valid
        if self.options.equalize:
            counted = counted & (pixel_dice(logits, clock.generator) < self.bank.rate[logits.argmax(1)])
        return counted * pseudo.confidence.float() ** self.options.gamma

    def consistency(self, logits: Tensor, pseudo: PseudoLabel, weight: Tensor) -> Tensor:
        """L_con, weighted. Scalar"""
        kept = pseudo.kept(self.options.threshold)
        return self.options.unlabeled_weight * weighted_cross_entropy(logits, pseudo.label, weight, kept)

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        self.bank.follow(self.options.bank_momentum)
        self.bank.wish(clock.step + NOTICE, clock.generator)


def mixed_pseudo(outside: PseudoLabel, inside: PseudoLabel, box: Tensor) -> PseudoLabel:
    """The mix of two predictions, box (B, H, W) bool. Whole pixels move, so mixing labels equals mixing logits."""
    pairs = ((inside.label, outside.label), (inside.confidence, outside.confidence), (inside.valid, outside.valid))
    return PseudoLabel(*(torch.where(box, *pair) for pair in pairs))
