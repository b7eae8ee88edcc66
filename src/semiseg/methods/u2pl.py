"""U2PL: unreliable pseudo-labels as negatives (Wang et al., CVPR 2022).

    t = share of the steps done;  H = entropy of the teacher on the mixed images
    label      = teacher on the weak view; mixed image, label = CutMix within the batch, with probability 0.5
    taught     = unlabelled pixels but the share drop (1 - t) of the highest H
    reliable   = labelled pixels, and the share extremes (1 - t) of the unlabelled ones of the lowest H
    unreliable = the share extremes (1 - t) of the unlabelled pixels of the highest H
    for each class c, with representations z of the student, z' of the teacher, and p' its softmax:
        anchors:   z of reliable pixels of class c with p'(c) > 0.3
        positive:  mean z' of reliable pixels of class c
        negatives: z' of unreliable pixels where c has rank 3 to 19 in p', and of labelled pixels of another class where
                   it has rank 0 to 2; they join the queue of class c, from which 50 are drawn for each anchor
    loss = CE(student(x), y) + (all / taught) mean over taught of CE(student(mixed), label)
         + 0.25 mean over classes and 256 anchors of -log softmax(cos(z, positive and negatives) / 0.5)[positive]
    the teacher, and its head that makes z', follow the student

Differences from the paper and its code: docs/methods/u2pl.md.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from semiseg.config.methods.u2pl import U2PLOptions
from semiseg.methods.details.u2pl_contrast import (
    ClassQueues,
    Contrast,
    Counted,
    Pixels,
    Projection,
    anchor_masks,
    as_rows,
    class_masks,
    class_means,
    contrastive_loss,
    drawn_places,
    negative_masks,
)
from semiseg.methods.method import split_output
from semiseg.methods.teacher_method import TeacherMethod
from semiseg.methods.with_prototypes import WithPrototypes
from semiseg.parts.losses import kept_cross_entropy, share
from semiseg.parts.mixing import mix_batch
from semiseg.parts.pseudo_labels import entropy, quantiles
from semiseg.parts.sampling import device_random, nearest_pixels
from semiseg.parts.teacher import average_into
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, SegmentationOutput, StepResult, UnlabeledBatch


class U2PL(WithPrototypes, TeacherMethod):
    """What the teacher is least certain of is at least certainly not of some classes."""

    Options = U2PLOptions
    unlabeled_losses = ("unlabeled", "contrastive", "prototype_unlabeled")
    options: U2PLOptions

    def make_parts(self) -> None:
        super().make_parts()
        self.projection = Projection(self.student.feature_channels, self.options.channels)
        self.teacher_projection = copy.deepcopy(self.projection).requires_grad_(False)
        sizes = [self.options.queue_size_first] + [self.options.queue_size] * (self.student.num_classes - 1)
        self.queues = ClassQueues(sizes, self.options.channels, self.options.save_queues)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The three losses. The teacher is through before the student starts, so their large maps never coexist."""
        options = self.options
        image, pseudo = self.view(unlabeled.image, clock), self.label(unlabeled)
        image, pseudo = mix_batch(
            options.mix, options.mix_probability, image, pseudo, self.student.num_classes, clock.generator
        )
        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)
        kept, contrast = self.judged(together, labeled, pseudo, clock)
        output = self.student(together)
        on_labeled, on_unlabeled = split_output(output, len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        losses["unlabeled"] = options.unlabeled_weight * kept_cross_entropy(
            on_unlabeled.logits, pseudo.label, kept=kept, valid=pseudo.valid, denominator="u2pl"
        )
        rows = as_rows(self.projection(output.features))  # (N, D)
        contrastive = contrastive_loss(rows, contrast, self.queues, options.temperature)
        losses["contrastive"] = options.contrastive_weight * contrastive
        losses |= self.prototype_losses(output.features, labeled, pseudo, kept, clock, per="u2pl")
        return StepResult(losses, {"kept": share(kept, pseudo.valid)})

    @torch.no_grad()
    def judged(
        self, together: Tensor, labeled: LabeledBatch, pseudo: PseudoLabel, clock: Clock
    ) -> tuple[Tensor, Contrast]:
        """Which pixels (B', H, W) of the mixed images teach their label, and the contrast; negatives are enqueued.

        together: labelled and mixed images (B + B', 3, H, W).
        """
        output = self.teacher(together)
        uncertainty = entropy(output.logits[len(labeled.image) :])  # (B', H, W)
        left = 1 - clock.step / clock.total_steps
        drop, extremes = self.options.drop * left, self.options.extremes * left
        mask = pseudo.valid & (pseudo.label != IGNORE)
        taught, low, high = quantiles(uncertainty, mask, 1 - drop, extremes, 1 - extremes)
        pixels = self.pixels(output, labeled, pseudo, mask & (uncertainty <= low), mask & (uncertainty >= high))
        rows = as_rows(self.teacher_projection(output.features))  # (N, D)
        return mask & (uncertainty <= taught), self.contrast(pixels, rows, clock.generator)

    def pixels(
        self, output: SegmentationOutput, labeled: LabeledBatch, pseudo: PseudoLabel, low: Tensor, high: Tensor
    ) -> Pixels:
        """Labels and certainty of each pixel at the features' size. low and high entropies: (B', H, W) bool"""
        size = (output.features.shape[-2], output.features.shape[-1])
        maps = (labeled.label, pseudo.label.long(), low, high)
        true, label, low, high = (nearest_pixels(each, size) for each in maps)
        return Pixels(
            torch.cat([true, label]).flatten(),
            as_rows(nearest_pixels(output.logits, size)).float().softmax(1),
            reliable=torch.cat([true != IGNORE, low]).flatten(),
            unreliable=torch.cat([torch.zeros_like(true, dtype=torch.bool), high]).flatten(),
            labeled=true.numel(),
        )

    def contrast(self, pixels: Pixels, rows: Tensor, generator: torch.Generator) -> Contrast:
        """Anchors, positives and negatives of every class. rows (N, D) are the teacher's"""
        options, classes = self.options, self.student.num_classes
        anchors = Counted.of(anchor_masks(pixels, options.anchor_confidence), pixels.labeled)
        negatives = Counted.of(negative_masks(pixels, options.low_rank, options.high_rank), pixels.labeled)
        self.queues.enqueue(negatives, rows, options.enqueue, generator)
        positive, counts = class_means(rows, class_masks(pixels.label, classes) & pixels.reliable)
        draws = torch.rand(classes, options.anchors, generator=generator, dtype=torch.float64)
        place, here = drawn_places(anchors, draws.to(rows.device, non_blocking=True))
        return Contrast(
            place,
            here,
            positive,
            draws=device_random((classes, options.anchors, options.negatives), generator, rows.device, torch.float64),
            usable=(anchors.total > 0) & (self.queues.written > 0),
            present=(counts > 0).sum(),
        )

    def copy_student(self) -> None:
        super().copy_student()
        self.teacher_projection.load_state_dict(self.projection.state_dict())

    def follow_student(self, decay: float) -> None:
        super().follow_student(decay)
        average_into(self.teacher_projection, self.projection, decay)

    def parameter_groups(self) -> list[dict]:
        return [*super().parameter_groups(), {"role": "head", "params": list(self.projection.parameters())}]
