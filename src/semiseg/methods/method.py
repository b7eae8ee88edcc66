"""The contract every method keeps."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from semiseg.config.options import AugmentOptions, LossOptions
from semiseg.parts.augment import some_strong_views
from semiseg.parts.losses import dice_loss, supervised_loss
from semiseg.parts.predictor import Predictor
from semiseg.parts.prototypes import Prototypes
from semiseg.parts.segmentor import Segmentor
from semiseg.types import Clock, LabeledBatch, SegmentationOutput, StepResult, UnlabeledBatch


@dataclass(frozen=True)
class MethodContext:
    """A method's view of its experiment."""

    classes: tuple[str, ...]
    total_steps: int = 0
    """Steps of the run: warm-up and ramps are shares of it. 0: not known, which a method without warm-up allows."""
    seed: int = 0
    loss: LossOptions = field(default_factory=LossOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    num_unlabeled: int = 0
    """Number of unlabelled images; `UnlabeledBatch.index` points among them."""
    batch_unlabeled: int = 0
    """Unlabelled images in a step of all ranks."""
    class_pixels: tuple[int, ...] | None = None
    """Labelled pixels of each class, over all labelled images; needed by options whose `reads_class_pixels` is True."""
    another: Callable[[], Segmentor] | None = None
    """Makes a network like the student with another random start and the same pretrained weights (CPS, GCT)."""


class Method(nn.Module):
    """A training algorithm. It never sees a file, a configuration, an optimizer, or other processes.

    The first steps (`warmup`, a share of them) are supervised; then comes `consistency_step`, which a subclass writes.

        method = FixMatch(network, threshold=0.95)                  # options by keyword; the rest as published
        method = FixMatch(network, FixMatchOptions(), context)      # as the trainer makes it

    With several processes each holds its share of the batch. What a method does with it through `losses`, `mixing`,
    `augment` and `sampling` is then done for the whole batch; a mean or a draw of its own would be the share's.

    Whatever a method remembers is a submodule or a buffer, so one state dict saves, moves and resumes it.
    """

    Options: ClassVar[type]
    """The dataclass of the method's own options."""
    options: Any
    """An instance of it."""
    uses_unlabeled: bool = True
    unlabeled_losses: ClassVar[tuple[str, ...]] = ("unlabeled", "prototype_unlabeled", "consistency")
    """Beginnings of the names of its losses on unlabelled images; all others are on labelled images alone."""
    reads_pyramid: bool = False
    """Whether it works on the encoder's maps themselves, which a wrapped network does not show."""
    prototypes: Prototypes | None
    """The prototypes of the network that is evaluated; None in a method that has none."""
    prepare_at: int | None
    """The step before which the trainer calls `prepare`; None: never."""
    started: Tensor  # () bool, whether the warm-up has ended
    class_pixels: Tensor | None  # (C,) int64, labelled pixels of each class; None where no option reads them

    def __init__(
        self, student: Segmentor, options: Any = None, context: MethodContext | None = None, **keywords: Any
    ) -> None:
        """`keywords` are fields of `Options` or of `MethodContext`. Raises ValueError for any other name."""
        super().__init__()
        if context is None:  # made by hand
            if not isinstance(student, Segmentor):
                raise ValueError(
                    f"{type(self).__name__} got a {type(student).__name__} as its network; it needs one that gives "
                    'logits and features: semiseg.wrap(module, features="NAME OF A SUBMODULE")'
                )
            context = MethodContext(tuple(f"class {number}" for number in range(student.num_classes)))
        self.student, self.prototypes = student, None
        self.options, self.context = self._with_keywords(options or self.Options(), context, keywords)
        if self.reads_pyramid:
            student.scales()  # raises ValueError where the network shows none
        warmup = self.options.warmup if self.uses_unlabeled else 1.0
        if self.uses_unlabeled and warmup and not self.context.total_steps:
            raise ValueError(
                f"{type(self).__name__} has a warmup of {warmup} of all steps: give total_steps=N, or warmup=0"
            )
        self.warmup_steps = round(warmup * self.context.total_steps)
        self.prepare_at = self.warmup_steps if self.uses_unlabeled else None
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("class_pixels", self._counted())
        self.make_parts()

    def make_parts(self) -> None:
        """Networks and memory beside the student: submodules and buffers. Called at the end of the constructor."""

    def _counted(self) -> Tensor | None:
        """The context's `class_pixels` where an option reads them. Raises ValueError where they are not given."""
        if not (self.context.loss.reads_class_pixels or getattr(self.options, "reads_class_pixels", False)):
            return None
        counts, classes = self.context.class_pixels, self.student.num_classes
        if counts is None or len(counts) != classes:
            given = "not given" if counts is None else f"{len(counts)} numbers"
            raise ValueError(
                f"class_pixels is {given}, and loss.class_weights, loss.logit_adjust or method.adapt needs it: give "
                f"class_pixels=(...), how many labelled pixels each of the {classes} classes has"
            )
        return torch.tensor(counts)

    def _with_keywords(
        self, options: Any, context: MethodContext, keywords: dict[str, Any]
    ) -> tuple[Any, MethodContext]:
        of_context = {item.name for item in fields(MethodContext)}
        names = [item.name for item in fields(options)]
        for name in keywords.keys() - of_context - set(names):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'none'}"
            raise ValueError(f"{type(self).__name__} has no option {name!r}; {hint}")
        own = {name: value for name, value in keywords.items() if name in names}
        return replace(options, **own), replace(context, **{k: v for k, v in keywords.items() if k in of_context})

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, clock: Clock) -> StepResult:
        """The losses of one (micro-)batch: of `supervised_step` in the warm-up, of `consistency_step` after it."""
        augment = self.context.augment
        if augment.labeled_colors:
            labeled = labeled._replace(image=some_strong_views(labeled.image, augment, clock.generator))
        if not self.uses_unlabeled or clock.step < self.warmup_steps:
            return self.supervised_step(labeled)
        assert unlabeled is not None, "this method needs unlabelled batches"
        return self.consistency_step(labeled, unlabeled, clock)

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """The algorithm box: the losses of a step with unlabelled images."""
        raise NotImplementedError

    def prepare(self, labeled: Iterable[LabeledBatch], clock: Clock) -> None:
        """The warm-up has ended. Called once, with every labelled image whole and unaugmented, one per batch."""
        self.started.fill_(True)

    def after_step(self, clock: Clock) -> None:
        """Called after each optimizer step."""

    @property
    def threshold(self) -> float | None:
        """Confidence from which this method's pseudo-labels teach; None where it has no such thing."""
        return getattr(self.options, "threshold", None)

    def ramp(self, clock: Clock, share: float) -> float:
        """exp(-5 (1 - t)^2): rises from 0.0067 to 1 over a `share` of the steps after warm-up."""
        steps = share * (clock.total_steps - self.warmup_steps)
        t = min((clock.step - self.warmup_steps) / steps, 1.0) if steps > 0 else 1.0
        return math.exp(-5 * (1 - t) ** 2)

    @property
    def labeler(self) -> Segmentor:
        """The network that is evaluated, and on whose features prototypes start: the student, or its teacher."""
        return self.student

    @property
    def predictor(self) -> Predictor:
        """For evaluation and export; shares its weights with the method: the labeler, with prototypes once placed."""
        placed = self.prototypes.predictor if self.prototypes is not None and self.started else None
        return Predictor(self.labeler, placed)

    @property
    def label_source(self) -> Predictor | None:
        """The predictor whose headline makes the pseudo-labels: the labeler's linear one. None in `supervised`.

        Two networks that teach each other are represented by the reported one.
        """
        return Predictor(self.labeler) if self.uses_unlabeled else None

    def parameter_groups(self) -> list[dict]:
        """Parameters by role, `encoder` or `head`; the optimizer gives the roles their learning rates.

        A group may name an optimizer of its own instead: `kind` (a key of `optim.KINDS`), `lr`, and its arguments. Its
        learning rate falls as the others do.
        """
        return [
            {"role": "encoder", "params": self.student.encoder_parameters()},
            {"role": "head", "params": self.student.head_parameters()},
        ]

    def health(self) -> tuple[dict[str, object], list[str]]:
        """Figures of the method's state for the record, and warnings for the user; asked at each evaluation."""
        if self.prototypes is None or not self.started:
            return {}, []
        return self.prototypes.health(self.context.classes)

    def supervised(self, output: SegmentationOutput, labeled: LabeledBatch) -> dict[str, Tensor]:
        """The losses on labelled images: Eq. 5, where there is an auxiliary head its own, and `loss.dice`."""
        options = self.context.loss
        losses = {"supervised": self.labeled_cross_entropy(output.logits, labeled)}
        if output.aux is not None:
            losses["aux"] = options.aux_weight * self.labeled_cross_entropy(output.aux, labeled)
        if options.dice:
            losses["dice"] = options.dice * dice_loss(output.logits, labeled.label)
        return losses

    def labeled_cross_entropy(self, logits: Tensor, labeled: LabeledBatch) -> Tensor:
        """Eq. 5 as the section `loss` has it, of logits (B, C, H, W) of the labelled images. Scalar"""
        return supervised_loss(logits, labeled.label, self.context.loss, labeled.pixels, self.class_pixels)

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
