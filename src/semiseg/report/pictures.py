"""Validation images with their truth and what the runs make of them, chosen by a rule instead of by hand."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, ImageSet, Pixels
from semiseg.data.loading import whole_images
from semiseg.evaluation.evaluator import NativeMasks
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.windows import predict_image
from semiseg.report.sheet import beside, fitted, painted, save, small, strip
from semiseg.report.texts import data_uri
from semiseg.runtime.precision import precision_context
from semiseg.runtime.screen import without_warnings
from semiseg.training.experiment import Experiment
from semiseg.training.finished import load_run

POOL = 60  # the pictures are chosen among so many validation images

_ENLARGED = {True: cv2.INTER_LINEAR, False: cv2.INTER_NEAREST}  # by whether it is a photograph


@dataclass(frozen=True)
class Picture:
    """One cell: RGB pixels, the words above and below it, and its description."""

    pixels: Pixels  # (H, W, 3)
    title: str
    note: str
    alt: str
    photograph: bool = False  # JPEG instead of PNG

    @property
    def uri(self) -> str:
        """The picture itself, as a `data:` address."""
        file, kind = io.BytesIO(), "jpeg" if self.photograph else "png"
        picture = Image.fromarray(self.pixels) if self.photograph else _in_palette(self.pixels)
        picture.save(file, kind, quality=88, optimize=True)
        return data_uri(kind, file.getvalue())


def _in_palette(pixels: Pixels) -> Image.Image:
    """The same picture (H, W, 3) of at most 256 colours in a byte a pixel."""
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)  # (H, W)
    colors, places = np.unique(codes, return_inverse=True)
    picture = Image.fromarray(places.reshape(codes.shape).astype(np.uint8))
    picture.putpalette([value for color in colors.tolist() for value in (color >> 16, color >> 8 & 255, color & 255)])
    return picture


@dataclass(frozen=True)
class Row:
    """One validation image: input, truth, and each run's prediction."""

    title: str  # by which rule it was chosen
    name: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures and the rule that chose them; `missing` says why there are none."""

    rule: str
    rows: list[Row]
    classes: list[tuple[str, str]]  # (name, colour as rgb(...))
    missing: str | None = None


@dataclass(frozen=True)
class Prediction:
    """One run's predictions of the pool, from its last checkpoint."""

    labels: list[Pixels]  # (H, W) each
    scores: list[float]  # `image_score` of each image


def gallery(runs: list[Path], labels: list[str]) -> Gallery:
    """The pictures of one run, or of runs against the first. A dataset or checkpoint that is gone is no error here."""
    try:
        with without_warnings("semiseg.data"):  # which the training gave
            experiments = [load_run(run, "last") for run in runs]
        images = NativeMasks(experiments[0].dataset.val, 1.0)
        predictions = [predict_pool(experiment) for experiment in experiments]
    except (ValueError, OSError) as error:
        return Gallery("", [], [], f"No pictures: {error}")
    dataset = experiments[0].dataset
    by_label = dict(zip(labels, predictions, strict=True))
    rows = [_row(images, index, title, by_label, dataset.colors) for title, index in choose(predictions)]
    names = [(name, f"rgb{color}") for name, color in zip(dataset.classes, dataset.colors, strict=True)]
    return Gallery(rule(len(predictions[0].scores), labels), rows, names)


def predict_pool(experiment: Experiment) -> Prediction:
    """The first POOL validation images, predicted and scored one by one as the run's config says."""
    count = len(experiment.dataset.classes)
    pool = range(min(POOL, len(experiment.dataset.val)))
    labels, scores = [], []
    for label, truth in predicted_labels(experiment, experiment.dataset.val, pool):
        labels.append(label.byte().numpy())
        scores.append(image_score(label, truth, count))
    return Prediction(labels, scores)


@torch.inference_mode()
def predicted_labels(
    experiment: Experiment, images: ImageSet, indices: Iterable[int] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Prediction and truth, both (H, W) int64 on the CPU, of each image (None: of all), predicted as the config says.

    `images` are at native size, as the validation images are, and have masks.
    """
    config = experiment.config
    predictor = experiment.method.predictor.headline_alone.eval()
    for _, image, truth in whole_images(NativeMasks(images, config.data.scale), indices=indices):
        assert truth is not None
        with precision_context(config.train.precision, experiment.device):
            size = (truth.shape[0], truth.shape[1])
            logits = predict_image(predictor, image.to(experiment.device), size, config.evaluation)
        yield next(iter(logits.values())).argmax(1)[0].cpu(), truth


def image_score(label: Tensor, truth: Tensor, count: int) -> float:
    """Mean IoU over the classes that the truth (H, W) of one image shows, per cent; NaN if it shows none.

    A few pixels of a class that is not there would otherwise cost as much as missing a whole class.
    """
    matrix = ConfusionMatrix.of(label, truth, count)
    shown = matrix.counts.sum(1) > 0
    return 100 * float(matrix.iou()[shown].mean()) if shown.any() else math.nan


def choose(predictions: list[Prediction]) -> list[tuple[str, int]]:
    """(title, image), each image once: the best, the median and the worst of a run.

    Of several runs the extremes and the median of the last run's gain over the first, then its best and worst. Images
    without a labelled pixel have no score and are left out.
    """
    scores = np.array(predictions[-1].scores)
    chosen: dict[int, str] = {}
    if len(predictions) > 1:
        for place, index, value in _extremes(scores - np.array(predictions[0].scores)):
            chosen.setdefault(index, _title(place, value, compared=True))
    for place, index, value in _extremes(scores):
        if place != "middle" or len(predictions) == 1:
            chosen.setdefault(index, _title(place, value, compared=False))
    return [(title, index) for index, title in chosen.items()]


def _extremes(values: np.ndarray) -> list[tuple[str, int, float]]:
    """(place, image, value) of the largest, the median and the smallest value (N,); none without a finite one."""
    order = [int(index) for index in np.argsort(-values, kind="stable") if math.isfinite(values[index])]
    places = {"first": order[0], "middle": order[len(order) // 2], "last": order[-1]} if order else {}
    return [(place, index, float(values[index])) for place, index in places.items()]


def _title(place: str, value: float, compared: bool) -> str:
    if not compared:
        return {"first": "Best", "middle": "Median", "last": "Worst"}[place] + f": {value:.1f} mIoU"
    if abs(value) < 0.05 and place != "middle":
        return "No difference"
    names = {
        "first": "Most improved" if value > 0 else "Smallest loss",
        "middle": "Median",
        "last": "Largest loss" if value < 0 else "Smallest gain",
    }
    return f"{names[place]}: {value:+.1f} mIoU"


def rule(count: int, labels: list[str]) -> str:
    """How the pictures were chosen, in words."""
    by = f"the largest, the median and the smallest mIoU of {labels[-1]}"
    if len(labels) > 1:
        by = f"the largest, the median and the smallest gain of {labels[-1]} over {labels[0]}, then its best and worst"
    return (
        f"Of the first {count} validation images those with {by}, each image's mIoU taken over the classes that its "
        "truth shows, at the last checkpoint."
    )


def _row(
    images: ImageSet, index: int, title: str, predictions: dict[str, Prediction], colors: tuple[Color, ...]
) -> Row:
    name = images.names[index]
    photograph = small(as_photograph(images.image(index)), cv2.INTER_AREA)
    cells = [
        Picture(photograph, "input", "", f"Validation image {name}.", photograph=True),
        Picture(painted(images.mask(index), colors), "truth", "", f"True classes of {name}; black has no label."),
    ]
    for label, prediction in predictions.items():
        score = f"{prediction.scores[index]:.1f} mIoU"
        alt = f"Classes of {name} as predicted by {label}: {score}."
        cells.append(Picture(painted(prediction.labels[index], colors), label, score, alt))
    return Row(title, name, cells)


def save_sheet(runs: list[Path], labels: list[str], out: Path, width: int = 240) -> Path:
    """The gallery as one PNG of at most 256 colours, for a README: a row per image, `width` pixels per cell.

    In Python, after `semiseg demo`:

        demo = Path("runs/demo")
        save_sheet([demo / "supervised", demo / "prototype"], ["supervised", "prototype"], Path("docs/demo.png"))

    Raises ValueError where the runs have no pictures.
    """
    shown = gallery(runs, labels)
    if shown.missing is not None:
        raise ValueError(shown.missing)
    strips = [strip([picture.title for picture in shown.rows[0].pictures], width, 17)]
    for row in shown.rows[:3]:
        strips.append(beside([fitted(each.pixels, width, _ENLARGED[each.photograph]) for each in row.pictures]))
        strips.append(strip([row.title, "", *(picture.note for picture in row.pictures[2:])], width, 14))
    return save(strips, out)
