"""Nuclei by look of the image: python benchmarks/nuclei_looks.py [--labeled] runs/nuclei-12-*  (last checkpoint).

Of the validation images, or with `--labeled` of the images that were learnt from.

IoU of "nucleus", and how many of its pixels are missed further than EDGE pixels from an edge: insides of nuclei, or
whole ones; and the image in which most of these lie, with its part of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.windows import predict_image
from semiseg.parts.augment import as_batch
from semiseg.runtime.precision import precision_context
from semiseg.training.finished import load_run

COLORFUL = 15  # mean of max - min over the channels, of 255
EDGE = 3  # pixels
BRIGHT = 100  # mean value, of 255


def look(image: np.ndarray) -> str:
    """Fluorescence, bright field or stained, by colour and brightness of an image (H, W, 3)."""
    colorful = (image.max(2).astype(int) - image.min(2)).mean() > COLORFUL
    return "stained" if colorful else "bright field" if image.mean() > BRIGHT else "fluorescence"


class Seen(NamedTuple):
    """What a run makes of one image."""

    name: str
    matrix: ConfusionMatrix
    missed: int  # nucleus pixels further than EDGE from an edge, called background


@torch.inference_mode()
def by_look(run: Path, labeled: bool = False) -> dict[str, list[Seen]]:
    """The validation, or labelled, images of each look, by a run's headline predictor."""
    experiment = load_run(run, "last")
    predictor, dataset = experiment.method.predictor.eval(), experiment.dataset
    images = dataset.labeled if labeled else dataset.val
    found = defaultdict(list)
    for index in range(len(images)):
        image, mask = images.image(index), images.mask(index)
        options, size = experiment.config.evaluation, (image.shape[0], image.shape[1])
        with precision_context(experiment.config.train.precision, torch.device("cpu")):
            logits = next(iter(predict_image(predictor, as_batch(image), size, options).values()))
        said = logits.argmax(1)[0]
        inside = cv2.erode((mask == 1).astype(np.uint8), np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)) > 0
        matrix = ConfusionMatrix.of(said, torch.from_numpy(mask.astype(np.int64)), 2)
        found[look(image)].append(Seen(images.names[index], matrix, int((inside & (said.numpy() == 0)).sum())))
    return found


def main() -> None:
    runs = [word for word in sys.argv[1:] if word != "--labeled"]
    for run in runs:
        for name, seen in sorted(by_look(Path(run), len(runs) < len(sys.argv) - 1).items()):
            total = sum((each.matrix for each in seen), ConfusionMatrix.empty(2))
            missed, worst = sum(each.missed for each in seen), max(seen, key=lambda each: each.missed)
            print(
                f"{run:<32} {name:<13} images {len(seen):>3}  IoU of nucleus {100 * total.iou()[1]:5.1f}  "
                f"insides missed {100 * missed / total.counts[1].sum():4.1f} %, of these "
                f"{100 * worst.missed / max(missed, 1):3.0f} % in {worst.name[:8]}"
            )


if __name__ == "__main__":
    main()
