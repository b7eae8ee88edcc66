"""IoU of "nucleus" by look of the image: python benchmarks/nuclei_looks.py runs/nuclei-12-*  (last checkpoint, val)."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from semiseg.augment import normalise
from semiseg.metrics import ConfusionMatrix
from semiseg.precision import precision_context
from semiseg.predict import predict_image
from semiseg.runs import load_run

COLORFUL = 15  # mean of max - min over the channels, of 255
BRIGHT = 100  # mean value, of 255


def look(image: np.ndarray) -> str:
    """Fluorescence, bright field or stained, by colour and brightness of an image (H, W, 3)."""
    colorful = (image.max(2).astype(int) - image.min(2)).mean() > COLORFUL
    return "stained" if colorful else "bright field" if image.mean() > BRIGHT else "fluorescence"


@torch.inference_mode()
def by_look(run: Path) -> dict[str, list[ConfusionMatrix]]:
    """Confusion matrices of a run's headline predictor, one per image."""
    experiment = load_run(run, "last")
    predictor, images = experiment.method.predictor.eval(), experiment.dataset.val
    found = defaultdict(list)
    for index in range(len(images)):
        image, mask = images.image(index), torch.from_numpy(images.mask(index).astype(np.int64))
        options, size = experiment.config.evaluation, (image.shape[0], image.shape[1])
        with precision_context(experiment.config.train.precision, torch.device("cpu")):
            logits = next(iter(predict_image(predictor, normalise(image)[None], size, options).values()))
        found[look(image)].append(ConfusionMatrix.of(logits.argmax(1)[0], mask, 2))
    return found


def main() -> None:
    for run in sys.argv[1:]:
        for name, matrices in sorted(by_look(Path(run)).items()):
            total = sum(matrices[1:], matrices[0])
            print(f"{run:<32} {name:<13} images {len(matrices):>3}  IoU of nucleus {100 * total.iou()[1]:5.1f}")


if __name__ == "__main__":
    main()
