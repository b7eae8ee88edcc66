"""Predictions averaged over mirrored and resized views of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from semiseg.evaluation.windows import Predict
from semiseg.parts.predictor import mean_prediction

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}
"""Name -> the dimensions that each view is mirrored along."""


def averaged(predict: Predict, flips: str, scales: Sequence[float]) -> Predict:
    """A predictor whose probabilities are the mean over all flips of all scales; `predict` itself for one view."""
    views = [(scale, mirrored) for scale in scales for mirrored in FLIPS[flips]]
    if views == [(1, ())]:
        return predict

    def predicted(image: Tensor) -> dict[str, Tensor]:
        size = (image.shape[-2], image.shape[-1])
        found: dict[str, list[Tensor]] = {}
        for scale, mirrored in views:
            changed = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            for name, logits in predict(_at(image, changed).flip(mirrored)).items():
                found.setdefault(name, []).append(_at(logits.flip(mirrored), size))
        return {name: mean_prediction(several) for name, several in found.items()}

    return predicted


def _at(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if size == tuple(maps.shape[-2:]):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
