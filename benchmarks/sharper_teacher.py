"""What views and the prior make of a model's labels on unlabelled images that do have masks, which nothing learnt from.

    python benchmarks/sharper_teacher.py RUN --images 50

Each row is mIoU in per cent of the most probable class: of one pass, of the mean over flips and scales, and of that
mean divided by the power tau of its own average over the images, as logit adjustment does (Menon et al. 2021).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from semiseg.data.loading import whole_images
from semiseg.evaluation.evaluator import NativeMasks
from semiseg.evaluation.hidden import hidden_pool
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.views import averaged
from semiseg.evaluation.windows import Predict
from semiseg.training.finished import load_run

VIEWS = (
    ("one pass", "none", (1.0,)),
    ("flip", "horizontal", (1.0,)),
    ("flip, scale 1.25", "horizontal", (1.25,)),
    ("flip, scales 0.75 to 1.5", "horizontal", (0.75, 1.0, 1.25, 1.5)),
)
TAUS = (0.1, 0.2, 0.3, 0.5, 0.75)


def probabilities(predict: Predict) -> Callable[[Tensor], Tensor]:
    """Images (1, 3, H, W) to probabilities (C, H, W)."""
    return lambda image: next(iter(predict(image).values()))[0].float().softmax(0)


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--root", type=Path, help="where the data are now")
    typed = parser.parse_args()
    experiment = load_run(typed.run, "last", root=typed.root)
    pool = hidden_pool(experiment.dataset, typed.images)
    if pool is None:
        raise SystemExit("no unlabelled image of this run has a mask")
    predictor, classes = experiment.method.predictor.eval(), experiment.dataset.classes
    rows: dict[str, ConfusionMatrix] = {}
    sharp: list[tuple[Tensor, Tensor]] = []

    def count(title: str, probability: Tensor, label: Tensor) -> None:
        found = ConfusionMatrix.of(probability.argmax(0), label, len(classes))
        rows[title] = rows[title] + found if title in rows else found

    for _, image, label in whole_images(NativeMasks(pool, experiment.config.data.scale)):
        assert label is not None
        for title, flips, scales in VIEWS:
            probability = probabilities(averaged(predictor.headline_alone, flips, scales))(image)
            count(title, probability, label)
        sharp.append((probability, label))
    prior = torch.stack([probability.mean((1, 2)) for probability, _ in sharp]).mean(0)  # (C,)
    for tau in TAUS:
        for probability, label in sharp:
            count(f"the last, tau {tau}", probability / prior[:, None, None] ** tau, label)
    print(f"| {len(pool)} images | mIoU | {' | '.join(classes)} |")
    print(f"| --- |{' ---: |' * (len(classes) + 1)}")
    for title, matrix in rows.items():
        cells = " | ".join(f"{100 * value:.0f}" for value in matrix.iou())
        print(f"| {title} | {100 * matrix.miou():.1f} | {cells} |")


if __name__ == "__main__":
    main()
