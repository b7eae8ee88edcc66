"""The contract every method keeps, and what all of them are built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn

from semiseg.config.options import AugmentOptions, LossOptions
from semiseg.parts.losses import supervised_loss
from semiseg.parts.predictor import Predictor
from semiseg.parts.segmentor import Segmentor
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
        device has gone on: not even this makes a step wait (`semiseg.training.partners`).
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
