"""What AEL remembers of the classes: how sure the student is of each, which images show it, which it wants next.

With several processes all of them hold one bank: what enters it is summed, or joined, over all, and what is drawn from
it is drawn alike. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.runtime.distributed import joined, sum_over_ranks_
from semiseg.types import IGNORE, PseudoLabel

NOTICE = 3
"""Steps from a wish to the step that uses it: in the first its values travel to the host, in the second it loads."""


class ConfidenceBank(nn.Module):
    """The averages, the index of who shows what, and the wishes on their way; all of it buffers, so that it is saved.

    One byte per class and unlabelled image: 21 MB for 21 classes and a million images.
    """

    confidence: Tensor  # (C,) the student's average probability of the class on pixels labelled so
    seen: Tensor  # (C,) int64, steps that showed the class
    shows: Tensor  # (C, N) bool, whether the teacher last saw the class on unlabelled image n
    wishes: Tensor  # (NOTICE, 2, B) int64, images and classes wished for; step t's stand at t % NOTICE
    sums: Tensor  # (C,) float64, of this step's probabilities
    counts: Tensor  # (C,) float64, of this step's pixels

    def __init__(self, num_classes: int, images: int, batch: int) -> None:
        """`images`: all unlabelled ones; `batch`: of these in a step of all processes. The first wishes are random."""
        super().__init__()
        self.register_buffer("confidence", torch.zeros(num_classes))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("shows", torch.zeros(num_classes, images, dtype=torch.bool))
        first = [torch.randint(max(limit, 1), (NOTICE, batch)) for limit in (images, num_classes)]
        self.register_buffer("wishes", torch.stack(first, 1))
        # Between `observe` and `follow`: buffers, so that a step that is only tried leaves nothing; not saved.
        self.register_buffer("sums", torch.zeros(num_classes, dtype=torch.double), persistent=False)
        self.register_buffer("counts", torch.zeros_like(self.sums), persistent=False)

    @property
    def hardness(self) -> Tensor:
        """1 - confidence; 1 of a class that no labelled image has shown yet. (C,)"""
        return (1 - self.confidence).clamp(min=0)

    @property
    def rate(self) -> Tensor:
        """Adaptive equalization sampling: the share of a class's pixels that teach, 1 of the hardest class. (C,)"""
        return self.hardness / self.hardness.amax().clamp(min=1e-6)

    @torch.no_grad()
    def observe(self, logits: Tensor, label: Tensor) -> None:
        """The student's probabilities of the true classes. logits (B, C, H, W), label (B, H, W) int64"""
        loss = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
        slots = label.masked_fill(label == IGNORE, len(self.sums)).flatten()  # one more slot for IGNORE
        for total, values in ((self.sums, (-loss).exp()), (self.counts, torch.ones_like(loss))):
            found = total.new_zeros(len(total) + 1).index_add_(0, slots, values.flatten().double())
            total += found[:-1]

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Each class that the step showed moves towards its mean; the others stay.

        confidence <- m confidence + (1 - m) mean, with m = min(1 - 1 / (n + 1), momentum) at the class's n-th time from
        0: it starts with what is seen first.
        """
        sums, counts = sum_over_ranks_(self.sums), sum_over_ranks_(self.counts)
        kept = (1 - 1 / (self.seen + 1.0)).clamp(max=momentum)
        moved = kept * self.confidence + (1 - kept) * (sums / counts.clamp(min=1)).float()
        self.confidence.copy_(torch.where(counts > 0, moved, self.confidence))
        self.seen += counts > 0
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def note(self, index: Tensor, pseudo: PseudoLabel, least: float) -> None:
        """Remember which classes cover more than the share `least` of unlabelled views. index (B,), pseudo (B, H, W)

        Of an image that stands in the batch more than once, each view counts.
        """
        index, found = joined(index), joined(class_shares(pseudo, len(self.shows)) > least)
        same = index[:, None] == index  # (B, B)
        found = (same[:, :, None] & found).any(1)  # (B, C)
        self.shows.index_copy_(1, index, found.T.contiguous())

    @torch.no_grad()
    def wish(self, step: int, generator: torch.Generator) -> None:
        """Draw for `step`: a class for each slot, the harder the likelier, and an image that shows it, or any image."""
        classes, images = self.shows.shape
        batch = self.wishes.shape[-1]
        dice = torch.rand(2, batch, dtype=torch.double, generator=generator).to(self.shows.device, non_blocking=True)
        chance = self.hardness.double().softmax(0)
        drawn = torch.searchsorted(chance.cumsum(0), dice[0]).clamp(max=classes - 1)  # (B,)
        count = self.shows[drawn].cumsum(1, dtype=torch.int32)  # (B, N), of images up to here that show it
        total = self.shows.sum(1)[drawn]  # (B,)
        shown = torch.searchsorted(count, (dice[1] * total).int()[:, None] + 1).squeeze(1)
        image = torch.where(total > 0, shown, (dice[1] * images).long())
        self.wishes[step % NOTICE].copy_(torch.stack([image, drawn]))

    def classes_for(self, index: Tensor, step: int) -> Tensor:
        """For which class each partner of `step` was wished. index (B,), of a part of the batch or all of it; (B,)

        Of an image that was wished for twice in a step, the first class.
        """
        images, classes = self.wishes[step % NOTICE]
        return classes[(index[:, None] == images).int().argmax(1)]


def class_shares(pseudo: PseudoLabel, num_classes: int) -> Tensor:
    """Share of each image's pixels that are predicted to be of each class; padding is of none. (B, C)"""
    slots = pseudo.label.long().masked_fill(~pseudo.valid, num_classes).flatten(1)  # (B, HW), one more for padding
    counts = torch.zeros(len(slots), num_classes + 1, device=slots.device)
    counts.scatter_add_(1, slots, torch.ones((), device=slots.device).expand(slots.shape))
    return counts[:, :-1] / slots.shape[1]
