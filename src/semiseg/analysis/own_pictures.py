"""A model scored on pictures and masks of one's own: what `semiseg evaluate RUN --images D --masks D` writes."""

from __future__ import annotations

import csv
import io
import math
import shlex
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from semiseg.analysis.own_scores import BY_CLASS, MEANS, OwnScores, image_miou
from semiseg.analysis.own_sheet import Shown, write_page, write_sheet
from semiseg.config.checks import Count, check_value
from semiseg.data.dataset import Pixels
from semiseg.data.sets.two_folders import Pairs, open_pairs
from semiseg.evaluation.boundary import TOLERANCE, boundary_matches, tolerance_pixels
from semiseg.evaluation.evaluator import Evaluation, Evaluator
from semiseg.evaluation.model import Make, Model, load_model
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.files import write_atomically, write_json
from semiseg.runtime.progress import Progress
from semiseg.runtime.provenance import provenance

SCORES, TABLE, SHEET, PAGE = "scores.json", "images.csv", "worst.png", "evaluation.html"


@dataclass
class _Seen:
    """What is kept of each image while it is scored: counts at boundaries, and the worst predictions, packed."""

    num_classes: int
    tolerance: float
    most: int
    boundaries: list[np.ndarray] = field(default_factory=list)  # (C, 4) each
    worst: dict[int, tuple[float, bytes, tuple[int, ...]]] = field(default_factory=dict)  # image -> mIoU, and the map

    def add(self, index: int, prediction: Tensor, label: Tensor) -> None:
        """One image, prediction and label (H, W) int64."""
        predicted, truth = (each.byte().cpu().numpy() for each in (prediction, label))
        pixels = tolerance_pixels(truth.shape, self.tolerance)
        self.boundaries.append(boundary_matches(predicted, truth, self.num_classes, pixels))
        known = truth < self.num_classes
        pairs = truth[known].astype(np.int64) * self.num_classes + predicted[known]
        counts = np.bincount(pairs, minlength=self.num_classes**2).reshape(self.num_classes, self.num_classes)
        if counts.any():
            self.worst[index] = (image_miou(counts), zlib.compress(predicted.tobytes(), 1), predicted.shape)
        if len(self.worst) > self.most:
            del self.worst[max(self.worst, key=lambda image: (self.worst[image][0], image))]

    def prediction(self, index: int) -> Pixels:
        """The predicted classes of one of the worst images, (H, W) uint8."""
        _, packed, shape = self.worst[index]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)


def evaluate_pictures(
    run: Path,
    images: Path,
    masks: Path,
    *,
    out: Path | None = None,
    evaluation: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
    worst: int = 6,
    network: Segmentor | Make | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Score the model of a run on pictures of one's own, as validation scores it, and write a page.

    Args:
        run: a run folder, or a model's.
        images, masks: folders, as `open_pairs` pairs them.
        out: folder for scores.json, images.csv, worst.png and evaluation.html. None: RUN/evaluation-NAME, where NAME
            is the folder of the images, or the one above where it is called `images`.
        evaluation: EvaluationOptions fields that differ from the training's, as in `semiseg.evaluate`; with `images`,
            the first so many are scored.
        tolerance: of boundaries, as a share of the image's diagonal.
        worst: how many of the worst images are shown.
        network: as in `load_model`.
        console: where progress goes.

    Returns the content of scores.json. `scores` has mIoU, Dice, boundary F and accuracy, each {value, low, high} in per
    cent, with the 95 % interval over images; `failed` the files that cannot be read. Raises ValueError where the run
    has no model, or as `open_pairs`, before anything is predicted.
    """
    check_value("worst", worst, Count)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a share of the diagonal above 0 and below 1")
    began = time.monotonic()
    model, options = load_model(run, network=network), dict(evaluation or {})
    limit = options.pop("images", None)
    pairs = open_pairs(images, masks, model.classes, model.colors, model.bands)
    device = pick_device("auto")
    settings = replace(model.evaluation, **options)
    precision = model.precision
    evaluator = Evaluator(pairs.images, model.classes, model.scale, settings, precision, device)
    seen = _Seen(len(model.classes), tolerance, worst)
    total = min(limit or len(pairs.images), len(pairs.images))
    with Progress("evaluate", total, console=console) as bar:
        predictor = model.to(device).predictor
        step = lambda done, _: bar.step(done, {})  # noqa: E731
        scored = evaluator(predictor, None, limit, step, per_image=True, seen=seen.add)
    headline = next(iter(scored.confusion))
    scores = OwnScores(model.classes, pairs.images.names[:total], scored.by_image[headline], np.stack(seen.boundaries))
    folder = out or run / f"evaluation-{_name(images)}"
    document = _document(run, images, masks, pairs, scored, scores) | {
        "tolerance": tolerance,
        "worst": [scores.names[index] for index in scores.worst(worst)],
        "evaluation": {**vars(settings), "images": limit},
        "command": _command(run, images, masks, out, tolerance, worst, evaluation or {}),
        "seconds": round(time.monotonic() - began, 1),
        **provenance(device),
    }
    _write(folder, document, scores, pairs, seen, model, settings.protocol == "crop" and settings.window)
    return document | {"out": folder}


def _name(images: Path) -> str:
    """What the folder of pictures is called; `images` says nothing."""
    whole = images.resolve()
    return (whole.parent.name if whole.name == "images" else whole.name) or "own"


def _command(
    run: Path, images: Path, masks: Path, out: Path | None, tolerance: float, worst: int, evaluation: Mapping[str, Any]
) -> str:
    words = ["semiseg", "evaluate", str(run), "--images", str(images), "--masks", str(masks)]
    given = {"out": out, "tolerance": None if tolerance == TOLERANCE else tolerance, "worst": worst}
    given |= {f"evaluation.{name}": value for name, value in evaluation.items()}
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _document(
    run: Path, images: Path, masks: Path, pairs: Pairs, scored: Evaluation, scores: OwnScores
) -> dict[str, Any]:
    return {
        "run": str(run),
        "images": str(images),
        "masks": str(masks),
        "count": len(scores.names),
        "scores": scores.overall(),
        "as_in_validation": scored.to_dict(),
        "failed": {str(path): reason for path, reason in pairs.failed.items()},
        "without_mask": [str(path) for path in pairs.without_mask],
    }


def _write(
    folder: Path,
    document: dict[str, Any],
    scores: OwnScores,
    pairs: Pairs,
    seen: _Seen,
    model: Model,
    crop: int | bool,
) -> None:
    each = scores.by_image()
    shown = [
        Shown.of(pairs.images, index, seen.prediction(index), dict(zip(MEANS, each[index], strict=True)), crop)
        for index in scores.worst(seen.most)
    ]
    write_json(folder / SCORES, document)
    text = _table(scores, pairs)
    write_atomically(folder / TABLE, lambda file: file.write(text.encode("utf-8-sig")))
    write_sheet(folder / SHEET, shown, model.classes, model.colors)
    write_page(folder / PAGE, document, shown, model.classes, model.colors)


def _table(scores: OwnScores, pairs: Pairs) -> str:
    """A line for each image, the lowest mIoU first; per cent, and nothing where there is no score."""
    text = io.StringIO()
    writer = csv.writer(text)
    by_class = [f"{kind} {name}" for kind in BY_CLASS for name in scores.classes]
    writer.writerow(["name", "image", "mask", "labelled_pixels", *MEANS, *by_class])
    means, classes = scores.by_image(), scores.by_image_and_class()
    assert pairs.images.masks is not None
    for index in np.argsort(means[:, 0], kind="stable").tolist():
        figures = [*means[index], *classes[index].ravel()]
        cells = ["" if math.isnan(value) else f"{100 * value:.4f}" for value in figures]
        files = [str(pairs.images.images[index]), str(pairs.images.masks[index])]
        writer.writerow([scores.names[index], *files, int(scores.confusions[index].sum()), *cells])
    return text.getvalue()
