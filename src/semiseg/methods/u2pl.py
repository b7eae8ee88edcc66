"""U2PL: unreliable pseudo-labels as negatives (Wang et al., CVPR 2022).

    t = share of the steps done;  H = entropy of the teacher on the mixed images
    label       = teacher on the weak view;  mixed image, label = CutMix within the batch, with probability 0.5
    taught      = unlabelled pixels but the share drop * (1 - t) of the highest H
    reliable    = labelled pixels, and the share extremes * (1 - t) of the unlabelled ones of the lowest H
    unreliable  = the share extremes * (1 - t) of the unlabelled pixels of the highest H
    for each class c, with the representations z of the student and z' of the teacher:
        anchors   z  of reliable pixels of class c with p'(c) > 0.3
        positive  mean z' of reliable pixels of class c
        negatives z' of unreliable pixels where c has rank 3..19 in the teacher's order, and of labelled pixels of another
                  class where it has rank 0..2; they enter the queue of class c, from which negatives are drawn
    loss = CE(student(x), y) + (pixels / taught) * CE(student(mixed), label) over the taught
         + 0.25 * mean over classes and 256 anchors of -log softmax(cos(z, positive and 50 negatives) / 0.5)[positive]
    teacher, and the head that makes its representation, follow the student

Differences from the paper and the authors' code: 1. the contrastive weight is what the code's comes to, which divides by
the number of GPUs (`contrastive_weight`); 2. anchors, positive and queue are those of one class always, where the code
mixes up classes as soon as one is missing; 3. percentiles are of the whole batch, not of a GPU's share; 4. t counts steps,
not epochs; 5. where more negatives come than a queue holds an even sample enters, not the last images' (`enqueue`);
6. queues are saved (`save_queues`) and hold directions; 7. the teacher answers in eval mode for the mixed images too;
8. the head is a 3 x 3 and a 1 x 1 convolution with GroupNorm and without dropout; 9. the negatives of two anchors of a
class are drawn independently of each other but not of a third's; 10. padding takes no part.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from semiseg.augment import strong_view
from semiseg.contrast import (
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
    shifted_draws,
)
from semiseg.losses import kept_cross_entropy, share
from semiseg.method_options import U2PLOptions
from semiseg.methods.averaged import TeacherMethod
from semiseg.methods.method import Setting, split_output
from semiseg.mixing import mix_batch
from semiseg.networks.segmentor import Segmentor
from semiseg.pseudo_labels import entropy, quantiles
from semiseg.sampling import nearest_pixels
from semiseg.teacher import average_into
from semiseg.types import IGNORE, Clock, LabeledBatch, PseudoLabel, SegmentationOutput, StepResult, UnlabeledBatch


class U2PL(TeacherMethod):
    """What the teacher is least certain of is at least certainly not of some classes."""

    def __init__(self, student: Segmentor, options: U2PLOptions, setting: Setting) -> None:
        super().__init__(student, options, setting)
        self.options = options
        self.projection = Projection(student.feature_channels, options.channels)
        self.teacher_projection = copy.deepcopy(self.projection).requires_grad_(False)
        sizes = [options.queue_size_first] + [options.queue_size] * (student.num_classes - 1)
        self.queues = ClassQueues(sizes, options.channels, options.save_queues)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The three losses. The teacher is through before the student starts, so their large maps never coexist."""
        image, pseudo = self.mixed(unlabeled, clock)
        together = torch.cat([labeled.image, image])
        self.teacher.observe(together)
        kept, contrast = self.judged(together, labeled, pseudo, clock)
        output = self.student(together)
        on_labeled, on_unlabeled = split_output(output, len(labeled.image))
        losses = self.supervised(on_labeled, labeled)
        by_teacher = (on_unlabeled.logits, pseudo.label, kept, pseudo.valid, "u2pl")
        losses["unlabeled"] = self.options.unlabeled_weight * kept_cross_entropy(*by_teacher, self.setting.loss.slices)
        rows = as_rows(self.projection(output.features))  # (N, D)
        contrastive = contrastive_loss(rows, contrast, self.queues, self.options.temperature)
        losses["contrastive"] = self.options.contrastive_weight * contrastive
        losses |= self.prototype_losses(output.features, labeled.label, pseudo, kept, clock, "u2pl")
        return StepResult(losses, {"kept": share(kept, pseudo.valid)})

    def mixed(self, unlabeled: UnlabeledBatch, clock: Clock) -> tuple[Tensor, PseudoLabel]:
        """The student's unlabelled images (B, 3, H, W), and what the teacher says of them."""
        pseudo, image = self.label(unlabeled), unlabeled.image
        if self.options.strong:
            image = strong_view(image, self.setting.augment, clock.generator)
        kind, probability = self.options.mix, self.options.mix_probability
        return mix_batch(kind, probability, image, pseudo, self.student.num_classes, clock.generator)

    @torch.no_grad()
    def judged(
        self, together: Tensor, labeled: LabeledBatch, pseudo: PseudoLabel, clock: Clock
    ) -> tuple[Tensor, Contrast]:
        """Which pixels (B', H, W) of the mixed images teach their label, and the contrast; negatives are enqueued.

        together: labelled and mixed images (B + B', 3, H, W).
        """
        output = self.teacher(together)
        labels = pseudo.valid & (pseudo.label != IGNORE)
        uncertainty = entropy(output.logits[len(labeled.image) :])  # (B', H, W)
        drop, extremes = (share * (1 - clock.step / clock.total_steps) for share in self.partition)
        limits = quantiles(uncertainty, labels, 1 - drop, extremes, 1 - extremes)
        kept, low, high = labels & (uncertainty <= limits[0]), uncertainty <= limits[1], uncertainty >= limits[2]
        pixels = self.pixels(output, labeled.label, pseudo, labels & low, labels & high)
        rows = as_rows(self.teacher_projection(output.features))  # (N, D)
        return kept, self.contrast(pixels, rows, clock.generator)

    @property
    def partition(self) -> tuple[float, float]:
        """Shares of the unlabelled pixels at first: dropped, and reliable as well as unreliable."""
        return self.options.drop, self.options.extremes

    def pixels(
        self, output: SegmentationOutput, true: Tensor, pseudo: PseudoLabel, low: Tensor, high: Tensor
    ) -> Pixels:
        """All that the contrast asks of a pixel, from full-size maps (B, H, W) and (B', H, W), at the features' size."""
        size = (output.features.shape[-2], output.features.shape[-1])
        label = torch.cat([true, torch.where(pseudo.valid, pseudo.label.long(), IGNORE)])
        reliable, unreliable = (
            torch.cat([true != IGNORE, low]),
            torch.cat([torch.zeros_like(true, dtype=torch.bool), high]),
        )
        label, reliable, unreliable = (nearest_pixels(maps, size) for maps in (label, reliable, unreliable))
        probability = as_rows(nearest_pixels(output.logits, size)).float().softmax(1)
        labeled = label[: len(true)].numel()
        return Pixels(label.flatten(), probability, reliable.flatten(), unreliable.flatten(), labeled)

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
            draws=shifted_draws(classes, options.anchors, options.negatives, generator, rows.device),
            usable=(anchors.total > 0) & (self.queues.written > 0),
            present=(counts > 0).sum(),
        )

    def copy_student(self) -> None:
        """The representation's head too."""
        super().copy_student()
        self.teacher_projection.load_state_dict(self.projection.state_dict())

    def follow_student(self, decay: float) -> None:
        """The representation's head too."""
        super().follow_student(decay)
        average_into(self.teacher_projection, self.projection, decay)

    def parameter_groups(self) -> list[dict]:
        """The representation's head learns as the network's does."""
        return [*super().parameter_groups(), {"role": "head", "params": list(self.projection.parameters())}]
