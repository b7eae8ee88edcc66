"""A predictor and labelled images make scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semiseg.config.options import EvaluationOptions
from semiseg.data.dataset import Dataset, ImageSet, Pixels
from semiseg.data.loading import whole_images
from semiseg.data.prepared import Prepared
from semiseg.evaluation.hidden import hidden_pool
from semiseg.evaluation.metrics import Calibration, ConfusionMatrix
from semiseg.evaluation.windows import center_crop, predict_image
from semiseg.methods.method import Method
from semiseg.parts.predictor import Predictor
from semiseg.runtime.distributed import gathered, rank, world_size
from semiseg.runtime.precision import precision_context
from semiseg.types import IGNORE


class NativeMasks(Prepared):
    """Images at `data.scale` with masks at native size, for scoring."""

    def mask(self, index: int) -> Pixels:
        """As it is on the disk."""
        return self.source.mask(index)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """`module` in eval mode for a while; then each of its parts is in its own mode again.

    The parts may differ: a method in training has its student in train mode and its teacher in eval mode.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@dataclass(frozen=True)
class Tally:
    """Counts over images. Tallies of parts add up."""

    confusion: dict[str, ConfusionMatrix]  # by predictor, the headline first
    kept: ConfusionMatrix  # of the headline's pixels whose confidence reaches the threshold
    calibration: Calibration  # of the headline

    def __add__(self, other: Tally) -> Tally:
        confusion = dict(self.confusion)
        for name, matrix in other.confusion.items():
            confusion[name] = confusion[name] + matrix if name in confusion else matrix
        return Tally(confusion, self.kept + other.kept, self.calibration + other.calibration)


@dataclass(frozen=True)
class Evaluation:
    """The scores that follow from a tally."""

    classes: tuple[str, ...]
    tally: Tally
    threshold: float | None
    by_image: dict[str, np.ndarray] = field(default_factory=dict)
    """Predictor -> counts (N, C, C) int64 of each image, in the set's order; only where they were asked for."""
    hidden: dict[str, Any] | None = None
    """The figures of `HiddenLabels`, measured beside it."""

    @property
    def confusion(self) -> dict[str, ConfusionMatrix]:
        """By predictor, the headline first."""
        return self.tally.confusion

    @property
    def kept(self) -> ConfusionMatrix:
        """Of the headline's confident pixels."""
        return self.tally.kept

    @property
    def miou(self) -> float:
        """The headline, in per cent."""
        return 100 * next(iter(self.confusion.values())).miou()

    def to_dict(self) -> dict[str, Any]:
        """Scores in per cent: by predictor and class, the headline's calibration, and of the pseudo-labels.

        `pseudo_labels`: as they would have been at the threshold; `hidden_labels`: as they are.
        """
        scores: dict[str, Any] = {"headline": next(iter(self.confusion)), "miou": self.miou}
        for name, matrix in self.confusion.items():
            miou, accuracy = 100 * matrix.miou(), 100 * matrix.accuracy()
            scores[name] = {"miou": miou, "accuracy": accuracy, "iou": self._by_class(matrix.iou())}
        scores["calibration_error"] = 100 * self.tally.calibration.error()
        scores["calibration"] = self.tally.calibration.to_dict()
        if self.threshold is not None:
            scores["pseudo_labels"] = self.pseudo_labels()
        if self.hidden is not None:
            scores["hidden_labels"] = self.hidden
        return scores

    def pseudo_labels(self) -> dict[str, Any]:
        """Share of each class's pixels that are confident, and how many of the confident predictions are right."""
        every = next(iter(self.confusion.values())).counts.sum(1)  # (C,) pixels of each class
        kept = self.kept.counts.sum(1)
        share = np.divide(kept, every, out=np.full(len(every), np.nan), where=every > 0)
        return {
            "threshold": self.threshold,
            "share": 100 * float(kept.sum() / every.sum()),
            "accuracy": 100 * self.kept.accuracy(),
            "share_by_class": self._by_class(share),
            "precision_by_class": self._by_class(self.kept.precision()),
            "recall_by_class": self._by_class(self.kept.recall()),
        }

    def _by_class(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.classes, (100 * values).tolist(), strict=True))


@dataclass(frozen=True)
class Evaluator:
    """Scores predictors on one set of images, always in the same way."""

    images: ImageSet
    classes: tuple[str, ...]
    scale: float
    options: EvaluationOptions
    precision: str
    device: torch.device

    def __post_init__(self) -> None:
        if self.options.protocol == "crop" and self.scale != 1:
            raise ValueError(
                f"evaluation.protocol is crop, which is defined at native size, but data.scale is {self.scale}; "
                "use --evaluation.protocol whole"
            )

    @torch.inference_mode()
    def __call__(
        self,
        predictor: Predictor,
        threshold: float | None = None,
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        per_image: bool = False,
        seen: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Evaluation:
        """Score the first `limit` images (None: all); `progress(done, of)` is called after each.

        `seen` is given each image's index, the headline's prediction and the label, both (H, W) int64, as they are
        scored. Several processes share the images, and each gets the scores of all; with `per_image` the counts of
        every single image too. Raises ValueError where no image has a labelled pixel.
        """
        count = min(limit or len(self.images), len(self.images))
        own = range(rank(), count, world_size())
        tally = nothing = Tally({}, ConfusionMatrix.empty(len(self.classes)), Calibration.empty())
        counts: list[dict[str, np.ndarray]] = []  # of each own image, by predictor
        with eval_mode(predictor):
            for done, (logits, label) in enumerate(self._predictions(predictor, own), 1):
                found = self._tally(logits, label, threshold)
                tally += found
                if seen is not None:
                    seen(own[done - 1], next(iter(logits.values()))[0].argmax(0), label)
                if per_image:
                    counts.append({name: matrix.counts for name, matrix in found.confusion.items()})
                if progress is not None:
                    progress(done, len(own))
        tally = sum(gathered(tally), nothing)
        if not any(matrix.counts.any() for matrix in tally.confusion.values()):
            raise ValueError(f"the {count} {self.images.name} images have no labelled pixel to score: all are {IGNORE}")
        return Evaluation(self.classes, tally, threshold, _in_order(gathered(counts)))

    def _predictions(self, predictor: Predictor, indices: range) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Image by image, the logits (1, C, H, W) of each predictor and the label (H, W) they are held against."""
        for _, image, label in whole_images(NativeMasks(self.images, self.scale), indices=indices):
            assert label is not None
            image, label = image.to(self.device), label.to(self.device)
            if self.options.protocol == "crop":
                image, label = (center_crop(maps, self.options.window, 0) for maps in (image, label))
            with precision_context(self.precision, self.device):
                logits = predict_image(predictor, image, (label.shape[0], label.shape[1]), self.options)
            yield logits, label

    def _tally(self, logits: dict[str, Tensor], label: Tensor, threshold: float | None) -> Tally:
        """The counts of one image; without a threshold none of its pixels is kept."""
        count = len(self.classes)
        confidence, predicted = next(iter(logits.values()))[0].softmax(0).max(0)  # (H, W)
        sure = confidence >= threshold if threshold is not None else torch.zeros_like(label, dtype=torch.bool)
        return Tally(
            {name: ConfusionMatrix.of(value.argmax(1)[0], label, count) for name, value in logits.items()},
            ConfusionMatrix.of(predicted, label.masked_fill(~sure, IGNORE), count),
            Calibration.of(confidence, predicted, label),
        )


@dataclass(frozen=True)
class HiddenLabels:
    """How many of a method's pseudo-labels are right, on unlabelled images whose masks it never sees."""

    evaluator: Evaluator  # of a `HiddenPool`

    def __call__(self, method: Method) -> dict[str, Any] | None:
        """As `Evaluation.pseudo_labels`, of the method's label source; None for a method without pseudo-labels.

        On whole images without augmentation, in eval mode. Without a threshold every pixel is kept. While there are
        only supervised steps, what the labels would be.
        """
        source = method.label_source
        if source is None:
            return None
        found = self.evaluator(source, method.threshold or 0.0)
        figures = {**found.pseudo_labels(), "threshold": method.threshold, "images": len(self.evaluator.images)}
        if self.evaluator.options.instruments and method.labeler is not method.student:
            student = self.evaluator(Predictor(method.student))
            figures["miou"] = {"teacher": found.miou, "student": student.miou}
        return figures


def hidden_labels(evaluator: Evaluator, dataset: Dataset) -> HiddenLabels | None:
    """A measure like `evaluator`, on `evaluation.hidden` images; None where no unlabelled image has a mask."""
    options = evaluator.options
    pool = hidden_pool(dataset, options.hidden)
    if pool is None:
        return None
    protocol = "whole" if options.protocol == "crop" else options.protocol  # nobody labels the frame around a crop
    return HiddenLabels(replace(evaluator, images=pool, options=replace(options, protocol=protocol)))


def _in_order(shares: list[list[dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Counts (N, C, C) by predictor from each process's images, of which it has every `len(shares)`-th."""
    images = [counts for row in zip_longest(*shares) for counts in row if counts is not None]
    names = dict.fromkeys(chain.from_iterable(images))
    return {name: np.stack([counts[name] for counts in images]) for name in names}
