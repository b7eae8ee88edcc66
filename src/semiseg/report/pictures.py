"""Validation images with their truth and what the runs make of them, chosen by a rule instead of by hand."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from semiseg.data.dataset import Color, Dataset, ImageSet, Pixels
from semiseg.data.loading import whole_images
from semiseg.evaluation.evaluator import NativeMasks
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.windows import predict_image
from semiseg.report.overlay import background_of, over, overlay_colors
from semiseg.report.sheet import beside, fitted, save, small, strip
from semiseg.report.texts import data_uri
from semiseg.runtime.precision import precision_context
from semiseg.runtime.screen import without_warnings
from semiseg.training.experiment import Experiment
from semiseg.training.finished import load_run

POOL = 60  # the pictures are chosen among so many validation images
WORST = 3  # pictures of one run that went worst
ENOUGH = 5  # pictures of which one can be called typical
SHOWS = 0.003  # share of a picture that a class must have, to be named as missed in it


@dataclass(frozen=True)
class Picture:
    """One cell: RGB pixels, the words above and below it, and its description."""

    pixels: Pixels  # (H, W, 3)
    title: str
    note: str
    alt: str

    @property
    def uri(self) -> str:
        """The picture itself, as a `data:` address."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "jpeg", quality=82, optimize=True)
        return data_uri("jpeg", file.getvalue())


@dataclass(frozen=True)
class Row:
    """One image: the photograph; over it the truth, of a validation image; and over it each run's prediction."""

    title: str  # by which rule it was chosen
    name: str
    pictures: list[Picture]
    missed: str = ""  # what the last run did not find in it, in words


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


@dataclass(frozen=True)
class Paint:
    """How a dataset's classes are drawn."""

    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    bare: frozenset[int]  # classes that are left as the photograph shows them

    @classmethod
    def of(cls, dataset: Dataset) -> Paint:
        """Of its classes, in its colours if these show."""
        bare = background_of(dataset.classes, dataset.binary)
        return cls(dataset.classes, overlay_colors(dataset.colors), bare)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, colour as rgb(...)) of what is drawn."""
        pairs = enumerate(zip(self.classes, self.colors, strict=True))
        return [(name, f"rgb{color}") for at, (name, color) in pairs if at not in self.bare]

    def over(self, photograph: Pixels, label: Pixels) -> Pixels:
        """`label` (H, W) over `photograph` (H, W, 3), at most SIDE pixels a side."""
        shown = small(photograph, cv2.INTER_AREA)
        smaller = cv2.resize(label, (shown.shape[1], shown.shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return over(shown, np.asarray(smaller, np.uint8), self.colors, self.bare)


Load = Callable[[Path], Experiment]
"""Loads the experiment of a run folder as its last step left it."""


def load_last(run: Path) -> Experiment:
    """The experiment of a run folder as its last step left it; without the warnings that the training gave."""
    with without_warnings("semiseg.data"):
        return load_run(run, "last")


def gallery(runs: list[Path], labels: list[str], load: Load = load_last) -> Gallery:
    """The pictures of one run, or of runs against the first. A dataset or checkpoint that is gone is no error here."""
    try:
        experiments = [load(run) for run in runs]
        images = NativeMasks(experiments[0].dataset.val, 1.0)
        predictions = [predict_pool(experiment) for experiment in experiments]
    except (ValueError, OSError) as error:
        return Gallery("", [], [], f"No pictures: {error}")
    paint = Paint.of(experiments[0].dataset)
    by_label = dict(zip(labels, predictions, strict=True))
    rows = [_row(images, index, title, by_label, paint) for title, index in choose(predictions)]
    return Gallery(rule(len(predictions[0].scores), labels), rows, paint.legend)


def folds_gallery(runs: list[Path], load: Load = load_last) -> Gallery:
    """The worst, a typical and the best validation picture of several runs, each predicted by the run that scored it.

    A dataset or checkpoint that is gone is no error here.
    """
    try:
        experiments = [load(run) for run in runs]
        predictions = [predict_pool(experiment) for experiment in experiments]
    except (ValueError, OSError) as error:
        return Gallery("", [], [], f"No pictures: {error}")
    places = [(fold, index) for fold, each in enumerate(predictions) for index in range(len(each.scores))]
    together = Prediction([], [score for each in predictions for score in each.scores])
    rows, paint = [], Paint.of(experiments[0].dataset)
    for title, place in choose([together]):
        fold, index = places[place]
        images = NativeMasks(experiments[fold].dataset.val, 1.0)
        rows.append(_row(images, index, title, {"prediction": predictions[fold]}, paint))
    return Gallery(rule(len(places), ["the training that did not see it"]), rows, paint.legend)


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
    """(title, image), each image once: the worst WORST of a run, a typical one and the best.

    Of several runs the extremes and the middle of the last run's gain over the first, then its worst and best. The
    middle is shown among ENOUGH images or more. Images without a labelled pixel have no score and are left out.
    """
    scores = np.array(predictions[-1].scores)
    chosen: dict[int, str] = {}
    if len(predictions) > 1:
        for place, index, value in _extremes(scores - np.array(predictions[0].scores)):
            chosen.setdefault(index, _gain(place, value))
    order = [int(index) for index in np.argsort(scores, kind="stable") if math.isfinite(scores[index])]
    single = len(predictions) == 1
    worst = order[: min(WORST, max(1, len(order) - 2)) if single else 1]
    titles = ["Worst", "Second worst", "Third worst"] if len(order) > 1 else ["The only validation picture"]
    named = list(zip(titles, worst, strict=False))
    named += [("Typical", order[len(order) // 2])] if single and len(order) >= ENOUGH else []
    named += [("Best", order[-1])] if len(order) > 1 else []
    for title, index in named:
        chosen.setdefault(index, f"{title}: {scores[index]:.1f} mIoU")
    return [(title, index) for index, title in chosen.items()]


def _extremes(values: np.ndarray) -> list[tuple[str, int, float]]:
    """(place, image, value) of the largest, the middle and the smallest value (N,); none without a finite one."""
    order = [int(index) for index in np.argsort(-values, kind="stable") if math.isfinite(values[index])]
    places = {"first": order[0], "middle": order[len(order) // 2], "last": order[-1]} if order else {}
    if len(order) < ENOUGH:
        places.pop("middle", None)
    return [(place, index, float(values[index])) for place, index in places.items()]


def _gain(place: str, value: float) -> str:
    if abs(value) < 0.05 and place != "middle":
        return "No difference"
    names = {
        "first": "Most improved" if value > 0 else "Smallest loss",
        "middle": "Typical",
        "last": "Largest loss" if value < 0 else "Smallest gain",
    }
    return f"{names[place]}: {value:+.1f} mIoU"


def rule(count: int, labels: list[str]) -> str:
    """How the pictures were chosen, in words."""
    by = f"with the lowest mIoU, one in the middle and the highest of {labels[-1]}"
    if len(labels) > 1:
        by = f"with the largest and the smallest gain of {labels[-1]} over {labels[0]}, one between, its worst and best"
    first = f"Of the first {count} validation pictures those" if count > 1 else "The one validation picture,"
    return f"{first} {by}. A picture's mIoU is over the classes that its mask shows; predicted by the last checkpoint."


def _row(images: ImageSet, index: int, title: str, predictions: dict[str, Prediction], paint: Paint) -> Row:
    name, photograph, truth = images.names[index], images.image(index), images.mask(index)
    alt = f"True classes of {name} over the photograph."
    cells = [
        Picture(small(photograph, cv2.INTER_AREA), "photograph", "", f"Validation picture {name}."),
        Picture(paint.over(photograph, truth), "truth", "", alt),
    ]
    for label, prediction in predictions.items():
        score = f"{prediction.scores[index]:.1f} mIoU"
        alt = f"Classes of {name} as predicted by {label}, over the photograph: {score}."
        cells.append(Picture(paint.over(photograph, prediction.labels[index]), label, score, alt))
    last = [*predictions.values()][-1].labels[index]
    return Row(title, name, cells, missed(last, truth, paint.classes))


def missed(label: Pixels, truth: Pixels, classes: tuple[str, ...]) -> str:
    """The two classes of which least was found in a picture, in words; empty where all was found by half or more."""
    said, shown = (torch.from_numpy(each.astype(np.int64)) for each in (label, truth))
    counts = ConfusionMatrix.of(said, shown, len(classes)).counts
    true = counts.sum(1)  # (C,)
    large = [at for at in range(len(classes)) if true[at] > SHOWS * true.sum()]
    words = []
    for share, at in sorted((counts[at, at] / true[at], at) for at in large)[:2]:
        if share < 0.5:
            part = f"{share:.0%}" if share >= 0.005 else "none"
            rest = classes[_rest(counts[at], at)]
            words.append(f"{part} of {classes[at]} is found, most of the rest is called {rest}")
    return "; ".join(words)


def _rest(row: np.ndarray, at: int) -> int:
    """The class that most of the wrong pixels of class `at` were called."""
    wrong = np.array(row)
    wrong[at] = -1
    return int(wrong.argmax())


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
        strips.append(beside([fitted(each.pixels, width, cv2.INTER_AREA) for each in row.pictures]))
        strips.append(strip([row.title, "", *(picture.note for picture in row.pictures[2:])], width, 14))
    return save(strips, out)
