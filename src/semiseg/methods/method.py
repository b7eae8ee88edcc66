"""The contract every method keeps, and what all of them are built from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from semiseg.config.options import AugmentOptions, LossOptions
from semiseg.losses import supervised_loss
from semiseg.networks.segmentor import Segmentor
from semiseg.prototypes import PrototypePredictor
from semiseg.types import Clock, LabeledBatch, SegmentationOutput, StepResult, UnlabeledBatch


@dataclass(frozen=True)
class Setting:
    """What a method is told of the experiment it is part of."""

    classes: tuple[str, ...]
    total_steps: int
    seed: int = 0
    loss: LossOptions = field(default_factory=LossOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    num_unlabeled: int = 0
    """Unlabelled images there are; `UnlabeledBatch.index` points among them."""
    batch_unlabeled: int = 0
    """Unlabelled images in a step of all processes."""
    another: Callable[[], Segmentor] | None = None
    """Makes a network like the student with another random start (and the same pretrained weights): for two of them."""


class Predictor(nn.Module):
    """What is evaluated, saved for use and exported: a segmentor and, where the method has them, prototypes.

    Called with images (B, 3, H, W), it gives the logits (B, C, H, W) of each predictor by name, `headline` first.
    """

    def __init__(
        self, segmentor: Segmentor, prototypes: PrototypePredictor | None = None, headline: str = "linear"
    ) -> None:
        super().__init__()
        self.segmentor, self.prototypes, self.headline = segmentor, prototypes, headline

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits by predictor: `linear`, and `prototype` where there are prototypes with a place."""
        output: SegmentationOutput = self.segmentor(image)
        logits = {"linear": output.logits}
        if self.prototypes is not None:
            logits["prototype"] = self.prototypes.dense_logits(output.features, (image.shape[-2], image.shape[-1]))
        return {self.headline: logits.pop(self.headline), **logits}

    @property
    def headline_alone(self) -> Predictor:
        """What gives the same headline with as little work as there is."""
        return self


class JointPredictor(Predictor):
    """Several networks of one method: the predictor of the first of them, and beside it the others.

    Called, it gives `linear`, and `prototype` where there are prototypes, of the network that is `reported`, or of the
    mean of all; after these the linear predictor of each by its network's name, and of their `mean`.
    """

    def __init__(self, members: Mapping[str, Predictor], reported: str) -> None:
        """`members` by name, and `reported` one of the names or `mean`."""
        lead = reported if reported in members else next(iter(members))
        super().__init__(members[lead].segmentor, members[lead].prototypes)
        self.others = nn.ModuleDict({name: member for name, member in members.items() if name != lead})
        self.lead, self.reported = lead, reported

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """As the class says."""
        found = {self.lead: super().forward(image), **{name: other(image) for name, other in self.others.items()}}
        found["mean"] = {kind: mean_prediction([made[kind] for made in found.values()]) for kind in found[self.lead]}
        return {**found[self.reported], **{name: made["linear"] for name, made in found.items()}}

    @property
    def names(self) -> list[str]:
        """Of the networks, that of the first one first."""
        return [self.lead, *self.others]

    @property
    def headline_alone(self) -> Predictor:
        """The one network that is reported; all of them for their mean."""
        return self if self.reported == "mean" else Predictor(self.segmentor, self.prototypes)


def mean_prediction(logits: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the softmaxes of several `logits` (B, C, H, W). (B, C, H, W)"""
    return torch.stack([each.float().log_softmax(1) for each in logits]).logsumexp(0) - math.log(len(logits))


class Method(nn.Module):
    """A training algorithm. It never sees a file, a configuration, an optimizer, or other processes.

    With several processes each holds its share of the batch. What a method does with it through `losses`, `mixing`,
    `augment` and `sampling` is then done for the whole batch; a mean or a draw of its own would be the share's.

    Everything it remembers is a submodule or a buffer, so one state dict saves, moves and resumes it.
    """

    uses_unlabeled: bool = True
    uses_partner: bool = False
    """Whether it gets, beside its unlabelled batch, the images it asks for by `wanted`."""
    prepare_at: int | None = None
    """The step before which the trainer calls `prepare`; None: never."""
    threshold: float | None = None
    """Confidence from which this method's pseudo-labels teach; None where it has no such thing."""

    def __init__(self, student: Segmentor, setting: Setting) -> None:
        super().__init__()
        self.student = student
        self.setting = setting

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        """The training call: the losses of one (micro-)batch."""
        raise NotImplementedError

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """Called once, before step `prepare_at`, with every labelled image whole and unaugmented, one per batch."""

    def after_step(self, clock: Clock) -> None:
        """Called after each optimizer step."""

    def wanted(self, step: int) -> Tensor | None:
        """The unlabelled images that the batch of `step` is to have as `UnlabeledBatch.partner`; None: none.

        Positions in the unlabelled list, (B,) int64 on the device, one for each slot of the batch of all processes,
        which must agree. They are asked for two steps before they are used, or later, so they must be known by then,
        and be kept in a buffer until they are used, so that a resumed run asks for the same. They are read when the
        device has gone on: not even this makes a step wait (`semiseg.partners`).
        """
        return None

    @property
    def predictor(self) -> Predictor:
        """What is evaluated, saved for use and exported at this moment; shares its weights with the method."""
        return Predictor(self.student)

    @property
    def label_source(self) -> Predictor | None:
        """What makes the pseudo-labels, as a predictor whose headline they come from; None where nothing does.

        Two networks that teach each other are represented by what is reported.
        """
        return None

    def parameter_groups(self) -> list[dict]:
        """Parameters by role, `encoder` or `head`; the optimizer gives the roles their learning rates.

        A group may name an optimizer of its own instead: `kind` (a key of `optim.KINDS`), `lr`, and what else that
        takes. Its learning rate falls as those of the others do.
        """
        return [
            {"role": "encoder", "params": self.student.encoder_parameters()},
            {"role": "head", "params": self.student.head_parameters()},
        ]

    def health(self) -> tuple[dict[str, object], list[str]]:
        """What the record should hold of the method's state, and warnings for the user; asked at each evaluation."""
        return {}, []

    def supervised(self, output: SegmentationOutput, labeled: LabeledBatch) -> dict[str, Tensor]:
        """The losses on labelled images: Eq. 5 and, where there is an auxiliary head, its own."""
        truth = (labeled.label, self.setting.loss, labeled.pixels)
        losses = {"supervised": supervised_loss(output.logits, *truth)}
        if output.aux is not None:
            losses["aux"] = self.setting.loss.aux_weight * supervised_loss(output.aux, *truth)
        return losses

    def supervised_step(self, labeled: LabeledBatch) -> StepResult:
        """A step that learns from labelled images alone."""
        return StepResult(self.supervised(self.student(labeled.image), labeled), {})


def split_output(output: SegmentationOutput, first: int) -> tuple[SegmentationOutput, SegmentationOutput]:
    """The output of cat(labelled, unlabelled) as the two outputs; `first` labelled images."""

    sizes = [first, len(output.logits) - first]  # split, not sliced: the backward pass joins two gradients once
    logits, features = output.logits.split(sizes), output.features.split(sizes)
    aux = (None, None) if output.aux is None else output.aux.split(sizes)
    on_labeled, on_unlabeled = (SegmentationOutput(*parts) for parts in zip(logits, features, aux, strict=True))
    return on_labeled, on_unlabeled
