"""The model for use: model.safetensors with the weights and model.json with all that is needed to run them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.config.predicting import PredictOptions
from semiseg.config.recipe import Config
from semiseg.config.registry import CUSTOM
from semiseg.data.bands import Bands, Ready, blank_pixels
from semiseg.data.dataset import Color, Dataset, Pixels
from semiseg.data.images import as_pixels
from semiseg.data.rasters import Raster
from semiseg.evaluation.description import REPAIR, Description, read_description
from semiseg.evaluation.native import in_memory, label_maps, predict_pieces, small_size, too_large
from semiseg.evaluation.same_classes import class_record
from semiseg.evaluation.views import averaged
from semiseg.evaluation.weights import load_weights, packed
from semiseg.evaluation.windows import Piece, Predict
from semiseg.networks import NETWORKS, build, check_segmentor, source
from semiseg.parts.augment import figures_of
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.files import write_atomically, write_json
from semiseg.runtime.precision import precision_context
from semiseg.types import IGNORE

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"

Make = Callable[[], Segmentor]


@dataclass(frozen=True)
class Model:
    """A predictor with what it needs to know of images. It computes where `to` puts it, at first on the CPU."""

    predictor: Predictor
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    scale: float  # images are resized by this first
    precision: str  # of the training and its scores
    evaluation: EvaluationOptions  # how it was scored
    bands: Bands | None = None  # of its images, and the range of their values; None: RGB of 8 bits

    def to(self, device: str | torch.device) -> Model:
        """The same model, moved there (`cuda`)."""
        self.predictor.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.predictor.parameters()).device

    @torch.inference_mode()
    def predict(self, image: object, **options: Any) -> tuple[Pixels, NDArray[np.float32]]:
        """Class indices (H, W) uint8 and confidences (H, W) float32, in [0, 1], of an image at its own size.

        `image` is a path, a PIL image or an array (H, W, 3) uint8 in RGB; for a model of `bands` a path, an array
        (H, W, N) of their type, or what `Bands.mapped` made of one, as `Ready`. Where it has no data the index is 255
        and the confidence 0. `options` are `PredictOptions`: `window`, `stride`, `blend`, `flips`, `scales`. A model
        that was scored in windows predicts in the same windows, any other takes an image whole, unless it has more than
        8 million pixels at the model's scale: then in smoothly blended windows of 768. `window` overrules that:
        overlapping windows of that many pixels a side (after the model's scale), `stride` pixels apart (None: three
        quarters of the window). Raises ValueError where it is no image, `stride` comes without `window`, or the model
        gives NaN.
        """
        asked = PredictOptions(**options)
        self.windows(asked)  # a mistake is told before the image is read
        pixels = self._pixels(image)
        label, confidence = label_maps(self.pieces([in_memory(pixels)], asked), *pixels.shape[:2])
        blank = blank_pixels(pixels)
        label[blank], confidence[blank] = IGNORE, 0
        return label, confidence

    def _pixels(self, image: object) -> NDArray[Any]:
        """What `in_memory` takes."""
        if self.bands is None:
            return as_pixels(image)
        return image.image if isinstance(image, Ready) else self.bands.of(image, "the image")

    def pieces(self, pictures: Sequence[Raster], asked: PredictOptions) -> Iterator[Piece]:
        """The headline's logits (N, C, h, w) of N pictures of one size, piece by piece; call it in inference mode."""
        options = self.windows(asked, (pictures[0].height, pictures[0].width))
        return predict_pieces(self.forward(asked), pictures, self.scale, options, self.device)

    def forward(self, asked: PredictOptions) -> Predict:
        """Images (B, 3, h, w) at the model's scale to the logits of the headline, in the precision of the scores."""
        predict = averaged(self.predictor.headline_alone, asked.flips, asked.scales)

        def predicted(image: torch.Tensor) -> dict[str, torch.Tensor]:
            with precision_context(self.precision, self.device):
                logits = predict(image.contiguous(memory_format=torch.channels_last))  # half the time on a CPU
            return dict(itertools.islice(logits.items(), 1))

        return predicted

    def windows(self, asked: PredictOptions, size: tuple[int, int] = (1, 1)) -> EvaluationOptions:
        """How a picture of `size` (H, W) is cut. Raises ValueError for a stride that the window does not take."""
        if asked.window is not None:
            stride = max(1, asked.window * 3 // 4) if asked.stride is None else asked.stride
            return EvaluationOptions(protocol="slide", window=asked.window, stride=stride, blend=asked.blend)
        if self.evaluation.protocol == "slide":
            return self.evaluation
        return too_large(*small_size(*size, self.scale)) or EvaluationOptions()

    @cached_property
    def sha256(self) -> str:
        """Of the weights, and of what else decides a prediction."""
        seen = hashlib.sha256(
            repr((self.classes, self.colors, self.scale, self.precision, self.evaluation, self.bands)).encode()
        )
        for name, tensor in self.predictor.state_dict().items():
            seen.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            seen.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return seen.hexdigest()


def save_model(folder: Path, predictor: Predictor, config: Config, dataset: Dataset) -> None:
    """Write both files, each atomically."""
    segmentor = next(part for part in predictor.modules() if isinstance(part, Segmentor))
    classes = class_record(dataset.classes, dataset.colors)
    mean, std = figures_of(segmentor.bands)
    weights = packed(
        {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.state_dict().items()}, classes
    )
    write_atomically(folder / WEIGHTS, lambda file: file.write(weights))
    write_json(
        folder / DESCRIPTION,
        {
            "network": asdict(config.network) | {"weights": "none"},
            "first_weights": source(config.network),
            **_about(predictor),
            "classes": classes["names"],
            "colors": classes["colors"],
            "scale": config.data.scale,
            "precision": config.train.precision,
            "evaluation": asdict(config.evaluation),
            "bands": None if dataset.bands is None else dataset.bands.to_dict(),
            "mean": list(mean),  # of the images that the network is given
            "std": list(std),
            "encoder_mean": _figure(segmentor.pixel_mean),  # to which it takes them itself
            "encoder_std": _figure(segmentor.pixel_std),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        },
    )


def _figure(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def load_model(run: str | os.PathLike[str], *, network: Segmentor | Make | None = None) -> Model:
    """The model of a run folder, or in its model/, on the CPU and ready to predict.

    `network`: the training's, where it cannot be built from its name; an object, of which a copy gets the weights, or
    a function that makes one. Nothing outside the folder is read, whatever its files say. Raises ValueError that names
    what is missing or wrong.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    description, weights = folder / DESCRIPTION, folder / WEIGHTS
    for path in (description, weights):
        if not path.is_file():
            raise ValueError(f"{path} is not there; a finished `semiseg train` writes it into its run folder")
    about = read_description(description)
    bands = 3 if about.bands is None else about.bands.count
    make = _maker(about.network, len(about.classes), network, description, bands)
    of = None if network is None else "is given"
    predictor = load_weights(lambda: _empty_predictor(make, about), weights, about, of)
    assert isinstance(predictor, Predictor)
    predictor.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # as in training
    shared = (about.classes, about.colors, about.scale, about.precision, about.evaluation)
    return Model(predictor.eval(), *shared, bands=about.bands)


def written_classes(run: Path) -> dict[str, Any] | None:
    """The `class_record` of the model in a run folder; None where it has no model yet.

    Raises ValueError where model.json is not what it should be.
    """
    path = run / "model" / DESCRIPTION
    if not path.is_file():
        return None
    about = read_description(path)
    return class_record(about.classes, about.colors)


def _maker(options: dict[str, Any], num_classes: int, network: Segmentor | Make | None, path: Path, bands: int) -> Make:
    """The function that makes the networks of a model, each time a new one."""
    name = options["name"]
    if network is not None:
        given = network

        def made() -> Segmentor:
            return check_segmentor(deepcopy(given) if isinstance(given, nn.Module) else given(), num_classes, bands)

        return made
    if name not in NETWORKS:
        which = "of your own, which was given as an object" if name == CUSTOM else f"{name!r}, unknown in this process"
        raise ValueError(
            f"the model in {path.parent} has a network {which}: give it as load_model(..., network=...), or add what "
            "builds it to semiseg.NETWORKS and train under its name"
        )

    def built() -> Segmentor:
        try:
            # Whatever the file says: first weights of the encoder would only be replaced.
            return build(NetworkOptions(**options | {"weights": "none", "checkpoint": False}), num_classes)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path} describes a network that cannot be built: {error}. {REPAIR}") from error

    return built


def _about(predictor: Predictor) -> dict[str, Any]:
    """The arguments of `_empty_predictor`. `several` is None where there is one network."""
    prototypes = several = None
    if predictor.prototypes is not None:
        head = predictor.prototypes
        prototypes = {"per_class": head.ready.shape[1], "temperature": head.temperature}
    if isinstance(predictor, JointPredictor):
        several = {"names": predictor.names, "reported": predictor.reported}
    return {"prototypes": prototypes, "headline": predictor.headline, "several": several}


def _empty_predictor(make: Make, about: Description) -> Predictor:
    if about.several is None:
        return _empty_single(make, about)
    members = {name: _empty_single(make, about) for name in about.several["names"]}
    return JointPredictor(members, about.several["reported"])


def _empty_single(make: Make, about: Description) -> Predictor:
    with torch.random.fork_rng(devices=[]):
        segmentor = make()
    if about.prototypes is None:
        return Predictor(segmentor, None, about.headline)
    per_class, temperature = about.prototypes["per_class"], about.prototypes["temperature"]
    head = PrototypePredictor(len(about.classes), per_class, segmentor.feature_channels, temperature)
    return Predictor(segmentor, head, about.headline)
