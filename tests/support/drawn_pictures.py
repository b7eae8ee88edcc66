"""Pictures with masks, and a predictor and an evaluator for them."""

import numpy as np
import torch
from support import tiny
from torch import Tensor

from semiseg.config.options import EvaluationOptions
from semiseg.data.dataset import ImageSet, Pixels
from semiseg.evaluation.evaluator import Evaluator
from semiseg.parts.predictor import Predictor
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.types import IGNORE

SIZES = ((12, 10), (7, 15), (16, 16), (5, 6), (9, 20))


CPU = torch.device("cpu")


class Pictures(ImageSet):
    """A few random images of different sizes; the last row of every mask is IGNORE."""

    def __init__(self, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
        self.name, self.has_masks = "val", True
        self.names = [f"picture-{index}" for index in range(len(sizes))]
        generators = [np.random.default_rng(index) for index in range(len(sizes))]
        pairs = list(zip(sizes, generators, strict=True))
        self.images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size, rng in pairs]
        self.masks = [rng.integers(0, 3, size, dtype=np.uint8) for size, rng in pairs]
        for mask in self.masks:
            mask[-1] = IGNORE

    def image(self, index: int) -> Pixels:
        return self.images[index]

    def mask(self, index: int) -> Pixels:
        return self.masks[index]


@torch.no_grad()
def predictor(headline: str = "linear") -> Predictor:
    """A segmentor that predicts every class, and prototypes taken from its features."""
    segmentor = tiny.segmentor(seed=1).eval()
    output = segmentor(normalised(Pictures().images[4]))
    classifier = segmentor.decoder.classifier[1]
    classifier.weight.mul_(20)
    classifier.bias.zero_()
    classifier.bias.sub_(segmentor(normalised(Pictures().images[4])).logits.mean((0, 2, 3)))
    head = PrototypePredictor(3, 2, segmentor.feature_channels)
    head.prototypes.copy_(output.features[0].flatten(1)[:, ::7][:, :6].T.reshape(3, 2, -1))
    head.ready.fill_(True)
    return Predictor(segmentor, head, headline).eval()


def evaluator(images: ImageSet, scale: float = 1.0, **options) -> Evaluator:
    return Evaluator(images, tiny.CLASSES, scale, EvaluationOptions(**options), "fp32", CPU)


def normalised(image: Pixels) -> Tensor:
    pixels = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None]
