"""One step of the prototype method, pixel by pixel in plain Python: the oracle of its tests."""

import math
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from support.tiny import CLASSES, segmentor, setting
from torch import Tensor

from semiseg.config.methods.prototype import PrototypeOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.methods.prototype import Prototype
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.types import IGNORE, LabeledBatch, UnlabeledBatch

Place = tuple[int, int, int]  # image, row, column
Assigned = dict[tuple[int, int], list[np.ndarray]]  # class, prototype -> its features

TAU = 0.55  # keeps some of the tiny network's pseudo-labels and drops others
PLAIN = {"per_class": 2, "threshold": TAU, "mix_probability": 1.0, "grid": None}


def options_of(*, prototypes: bool = True, **changes) -> PrototypeOptions:
    """The method's options; those of the section `prototypes` among them by their own names."""
    names = {item.name for item in fields(PrototypesOptions)}
    section = {name: value for name, value in changes.items() if name in names}
    others = {name: value for name, value in changes.items() if name not in names}
    return PrototypeOptions(**others, prototypes=PrototypesOptions(**section) if prototypes else None)


def method_of(aux: bool = False, **changes) -> Prototype:
    """The method, started: its teacher unlike its student, its prototypes drawn."""
    method = Prototype(segmentor(aux=aux), options_of(**(PLAIN | changes)), setting()).train()
    method.started.fill_(True)
    method.teacher.copy_from(segmentor(seed=1, aux=aux))
    generator = torch.Generator().manual_seed(5)
    if method.prototypes is not None:
        head = method.prototypes.predictor
        head.prototypes.copy_(0.3 + torch.rand(head.prototypes.shape, generator=generator))
        head.ready.fill_(True)
    return method


def softmax(row: np.ndarray) -> np.ndarray:
    exponentials = np.exp(row - row.max())
    return exponentials / exponentials.sum()


def feature_at(features: np.ndarray, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
    """The feature (D,) at pixel (y, x) of the map (D, h, w) upsampled to `size`, corners aligned."""
    _, h, w = features.shape
    v, u = y * (h - 1) / (size[0] - 1), x * (w - 1) / (size[1] - 1)
    total = np.zeros(len(features))
    for row in range(h):
        for column in range(w):
            total += max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column)) * features[:, row, column]
    return total


def cosines(head: PrototypePredictor, feature: np.ndarray, number: int) -> list[float]:
    """Cosine of the feature and each prototype of a class."""
    prototypes = head.prototypes[number].double().numpy()
    return [float(feature @ p / np.sqrt((feature @ feature) * (p @ p))) for p in prototypes]


def prototype_logits(head: PrototypePredictor, feature: np.ndarray, temperature: float) -> np.ndarray:
    """Eq. 2 before its softmax, (C,)."""
    return np.array([max(cosines(head, feature, number)) for number in range(len(CLASSES))]) / temperature


@dataclass
class SlowStep:
    """What a step should do, from the method before it and from what its student was shown and answered."""

    method: Prototype
    labeled: LabeledBatch
    unlabeled: UnlabeledBatch
    shown: Tensor  # labelled and mixed images
    logits: np.ndarray
    features: np.ndarray
    points: list[list[int]]  # rows and columns at which the prototypes look
    mixed: dict[Place, tuple[int, float, bool]] = field(default_factory=dict)  # label, confidence, valid

    @property
    def head(self) -> PrototypePredictor:
        return self.method.prototypes.predictor

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.labeled.label.shape[1:]
        return height, width

    def teach(self) -> dict[Place, tuple[int, float, bool]]:
        """Eq. 7 on every pixel of the weak views."""
        output = self.method.teacher(self.unlabeled.image)
        logits, features = output.logits.double().numpy(), output.features.double().numpy()
        pseudo = {}
        for b, y, x in np.ndindex(*self.unlabeled.valid.shape):
            row = logits[b, :, y, x]
            if not self.method.options.linear:
                feature = feature_at(features[b], y, x, self.size)
                row = prototype_logits(self.head, feature, self.method.prototypes.options.temperature)
            posterior = softmax(row)
            label = int(posterior.argmax())
            pseudo[b, y, x] = (label, posterior[label], bool(self.unlabeled.valid[b, y, x]))
        return pseudo

    def mix(self) -> None:
        """From whose image each pixel came, read off the pixels the student saw."""
        pseudo, images, shown = self.teach(), self.unlabeled.image, self.shown[len(self.labeled.image) :]
        for b, y, x in pseudo:
            partner = (b + 1) % len(images)
            if shown[b, :, y, x].equal(images[b, :, y, x]):
                self.mixed[b, y, x] = pseudo[b, y, x]
            elif shown[b, :, y, x].equal(images[partner, :, y, x]):
                self.mixed[b, y, x] = pseudo[partner, y, x]
            else:
                assert not shown[b, :, y, x].any()
                self.mixed[b, y, x] = (IGNORE, 0.0, False)

    def teaches(self, place: Place) -> bool:
        label, confidence, valid = self.mixed[place]
        enough = np.float16(confidence) >= np.float16(self.method.options.threshold)
        return valid and label != IGNORE and bool(enough)

    def divisor(self, places: list[Place]) -> float:
        kept = sum(self.teaches(place) for place in places)
        valid = sum(self.mixed[place][2] for place in places)
        return {"all": valid, "kept": kept, "u2pl": kept**2 / valid}[self.method.options.denominator]

    def sampled(self, count: int) -> list[Place]:
        return [(b, y, x) for b in range(count) for y, x in self.points]

    def linear_losses(self) -> dict[str, float]:
        """Eq. 5 and 9."""
        first, labels = len(self.labeled.image), self.labeled.label
        on_labeled = [place for place in np.ndindex(*labels.shape) if labels[place] != IGNORE]
        supervised = sum(-math.log(softmax(self.logits[b][:, y, x])[labels[b, y, x]]) for b, y, x in on_labeled)
        unlabeled = 0.0
        for b, y, x in filter(self.teaches, self.mixed):
            unlabeled -= math.log(softmax(self.logits[first + b][:, y, x])[self.mixed[b, y, x][0]])
        weight = self.method.options.unlabeled_weight
        return {
            "supervised": supervised / len(on_labeled),
            "unlabeled": weight * unlabeled / self.divisor(list(self.mixed)),
        }

    def prototype_losses(self) -> tuple[dict[str, float], Assigned]:
        """Eq. 6 and 10, and which feature belongs to which prototype."""
        options, first = self.method.prototypes.options, len(self.labeled.image)
        labels, everywhere = self.labeled.label, self.sampled(len(self.unlabeled.image))
        pixels = [(0, place, int(labels[place])) for place in self.sampled(first) if labels[place] != IGNORE]
        n_labeled = len(pixels)
        pixels += [(first, place, self.mixed[place][0]) for place in everywhere if self.teaches(place)]
        total, assigned = {0: 0.0, first: 0.0}, {}
        for offset, (b, y, x), label in pixels:
            feature = feature_at(self.features[offset + b], y, x, self.size)
            total[offset] -= math.log(softmax(prototype_logits(self.head, feature, options.temperature))[label])
            assigned.setdefault((label, int(np.argmax(cosines(self.head, feature, label)))), []).append(feature)
        weight = options.weight
        losses = {
            "prototype": weight * total[0] / n_labeled,
            "prototype_unlabeled": weight
            * self.method.options.unlabeled_weight
            * total[first]
            / self.divisor(everywhere),
        }
        return losses, assigned

    def updated(self, assigned: Assigned) -> np.ndarray:
        """Eq. 11: the prototypes after the step."""
        if self.method.prototypes is None:
            return np.zeros(0)
        options = self.method.prototypes.options
        prototypes = self.head.prototypes.double().numpy().copy()
        for place, features in assigned.items():
            mean = np.mean(features, axis=0)
            for _ in features if options.update == "per_pixel" else [None]:
                prototypes[place] = options.momentum * prototypes[place] + (1 - options.momentum) * mean
        return prototypes

    def run(self) -> tuple[dict[str, float], np.ndarray]:
        """Every loss, and the prototypes after the step."""
        self.mix()
        options = self.method.options
        losses = self.linear_losses() if options.linear else {}
        assigned: Assigned = {}
        if self.method.prototypes is not None:
            of_prototypes, assigned = self.prototype_losses()
            losses |= of_prototypes
        still = self.method.prototypes is not None and self.method.prototypes.options.update == "none"
        return losses, self.updated({} if still else assigned)
