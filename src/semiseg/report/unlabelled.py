"""What the model makes of pictures without masks: no score, but the eye sees."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from semiseg.data.dataset import ImageSet, Pixels
from semiseg.data.loading import whole_images
from semiseg.evaluation.windows import predict_image
from semiseg.report.pictures import Gallery, Load, Paint, Picture, Row, load_last
from semiseg.report.sheet import small
from semiseg.runtime.precision import precision_context
from semiseg.training.experiment import Experiment

POOL = 24  # unlabelled pictures that are predicted, evenly over the list
SHOWN = 6


def unlabelled_gallery(chosen: Path, others: tuple[Path, ...] = (), load: Load = load_last) -> Gallery:
    """Unlabelled pictures as the run `chosen` predicts them: the least sure ones, the surest, and between.

    They are those of `chosen` or, where it has none, of one of `others`. A dataset or checkpoint that is gone is no
    error here.
    """
    try:
        experiment = load(chosen)
        images = experiment.dataset.unlabeled
        for other in others:
            images = images if len(images) else load(other).dataset.unlabeled
        if not len(images):
            return Gallery("", [], [], "This run has no pictures without masks.")
        predicted = _predicted(experiment, images)
    except (ValueError, OSError) as error:
        return Gallery("", [], [], f"No pictures: {error}")
    paint, names = Paint.of(experiment.dataset), experiment.dataset.classes
    order = sorted(predicted, key=lambda index: predicted[index][1])
    places = np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)).tolist()
    rows = []
    for place in places:
        index = order[place]
        label, sure = predicted[index]
        name, photograph = images.names[index], images.image(index)
        title = f"{'Least sure: ' if place == 0 and len(order) > 1 else ''}{sure:.0%} sure"
        cells = [
            Picture(small(photograph, cv2.INTER_AREA), "photograph", "", f"Unlabelled picture {name}."),
            Picture(paint.over(photograph, label), "prediction", "", f"Predicted classes of {name}, over it."),
        ]
        rows.append(Row(title, str(name), cells, _shares(label, names)))
    rule = (
        f"{len(order)} of the {len(images)} pictures without masks were predicted, evenly over the list; shown are "
        f"{len(rows)} of them, from the least sure to the surest. Sure is the mean confidence of a picture's pixels. "
        "It is no score: nobody drew these masks."
    )
    return Gallery(rule, rows, paint.legend)


@torch.inference_mode()
def _predicted(experiment: Experiment, images: ImageSet) -> dict[int, tuple[Pixels, float]]:
    """Class indices (H, W) and the mean confidence of POOL images at most, by their place in the list."""
    config = experiment.config
    predictor = experiment.method.predictor.headline_alone.eval()
    places = np.unique(np.linspace(0, len(images) - 1, min(POOL, len(images))).round().astype(int)).tolist()
    found = {}
    for place, (_, image, _) in zip(places, whole_images(images, with_label=False, indices=places), strict=True):
        size = (image.shape[-2], image.shape[-1])
        with precision_context(config.train.precision, experiment.device):
            logits = predict_image(predictor, image.to(experiment.device), size, config.evaluation)
        confidence, label = next(iter(logits.values()))[0].float().softmax(0).max(0)
        found[place] = (label.byte().cpu().numpy(), float(confidence.mean()))
    return found


def _shares(label: Pixels, classes: tuple[str, ...]) -> str:
    """The three largest classes of a picture, in words."""
    counts = np.bincount(label.ravel(), minlength=len(classes))[: len(classes)]
    order = [int(at) for at in np.argsort(-counts, kind="stable")[:3] if counts[at]]
    return ", ".join(f"{classes[at]} {counts[at] / counts.sum():.0%}" for at in order)
