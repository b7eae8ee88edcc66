"""The model for use: model.safetensors with the weights and model.json with all that is needed to run them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.config.recipe import Config
from semiseg.config.registry import CUSTOM
from semiseg.data.dataset import Color, Dataset, Pixels, resized
from semiseg.data.images import as_pixels
from semiseg.evaluation.windows import predict_image
from semiseg.networks import NETWORKS, build, check_segmentor, source
from semiseg.parts.augment import MEAN, STD, as_batch
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.files import write_atomically, write_json
from semiseg.runtime.precision import precision_context

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

    def to(self, device: str | torch.device) -> Model:
        """The same model, moved there (`cuda`)."""
        self.predictor.to(device)
        return self

    @torch.inference_mode()
    def predict(
        self, image: object, *, window: int | None = None, stride: int | None = None
    ) -> tuple[Pixels, NDArray[np.float32]]:
        """Class indices (H, W) uint8 and confidences (H, W) float32, in [0, 1], of an image at its own size.

        `image` is a path, a PIL image or an array (H, W, 3) uint8 in RGB. A model that was scored in windows predicts
        in the same windows, any other takes an image whole. `window` overrules that: overlapping windows of that many
        pixels a side (after the model's scale), `stride` pixels apart (None: three quarters of the window). Raises
        ValueError where it is no image, or `stride` comes without `window`.
        """
        pixels, options = as_pixels(image), self.windows(window, stride)
        # The same resize as in training, `Prepared`.
        small = resized(pixels, self.scale, cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR)
        device = next(self.predictor.parameters()).device
        batch, size = as_batch(small).to(device), (pixels.shape[0], pixels.shape[1])
        with precision_context(self.precision, device):  # the same as in the scores
            logits = predict_image(self.predictor.headline_alone, batch, size, options)
        confidence, label = next(iter(logits.values()))[0].float().softmax(0).max(0)
        return label.byte().cpu().numpy(), confidence.cpu().numpy()

    def windows(self, window: int | None, stride: int | None) -> EvaluationOptions:
        """How `predict` cuts an image. Raises ValueError for a `stride` without a `window`."""
        if window is None:
            if stride is not None:
                raise ValueError("--stride is the distance between windows: give --window too")
            return self.evaluation if self.evaluation.protocol == "slide" else EvaluationOptions()
        return EvaluationOptions(
            protocol="slide", window=window, stride=max(1, window * 3 // 4) if stride is None else stride
        )


def save_model(folder: Path, predictor: Predictor, config: Config, dataset: Dataset) -> None:
    """Write both files, each atomically."""
    segmentor = next(part for part in predictor.modules() if isinstance(part, Segmentor))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda file: file.write(save(weights)))
    write_json(
        folder / DESCRIPTION,
        {
            "network": asdict(config.network) | {"weights": "none"},
            "first_weights": source(config.network),
            **_about(predictor),
            "classes": list(dataset.classes),
            "colors": [list(color) for color in dataset.colors],
            "scale": config.data.scale,
            "precision": config.train.precision,
            "evaluation": asdict(config.evaluation),
            "mean": list(MEAN),  # of the images that the network is given
            "std": list(STD),
            "encoder_mean": _figure(segmentor.pixel_mean),  # to which it takes them itself
            "encoder_std": _figure(segmentor.pixel_std),
        },
    )


def _figure(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def load_model(run: str | os.PathLike[str], *, network: Segmentor | Make | None = None) -> Model:
    """The model of a run folder, or in its model/, on the CPU and ready to predict.

    `network`: the training's, where it cannot be built from its name; an object, of which a copy gets the weights, or
    a function that makes one. Raises ValueError that names what is missing or damaged.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    description, weights = folder / DESCRIPTION, folder / WEIGHTS
    for path in (description, weights):
        if not path.is_file():
            raise ValueError(f"{path} is not there; a finished `semiseg train` writes it into its run folder")
    try:
        about = json.loads(description.read_text("utf-8"))
        make = _maker(about["network"], len(about["classes"]), network, folder)
        predictor = _empty_predictor(make, len(about["classes"]), about)
        predictor.load_state_dict(load_file(weights))
        classes, colors = tuple(about["classes"]), tuple((r, g, b) for r, g, b in about["colors"])
        evaluation = EvaluationOptions(**about["evaluation"])
        return Model(predictor.eval(), classes, colors, about["scale"], about["precision"], evaluation)
    except _OtherNetworkError:
        raise
    except (KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        wrong = "does not hold a model of this version of semiseg, or it is damaged"
        wrong = wrong if network is None else "does not hold weights of the network that is given"
        raise ValueError(f"{folder} {wrong}: {error}") from error


class _OtherNetworkError(ValueError):
    """A network has to be given, or another one."""


def _maker(options: dict[str, Any], num_classes: int, network: Segmentor | Make | None, folder: Path) -> Make:
    """The function that makes the networks of a model, each time a new one."""
    name = options["name"]
    if network is not None:

        def given() -> Segmentor:
            made = deepcopy(network) if isinstance(network, nn.Module) else network()
            try:
                return check_segmentor(made, num_classes)
            except ValueError as error:
                raise _OtherNetworkError(str(error)) from None

        return given
    if name not in NETWORKS:
        which = "of your own, which was given as an object" if name == CUSTOM else f"{name!r}, unknown in this process"
        raise _OtherNetworkError(
            f"the model in {folder} has a network {which}: give it as load_model(..., network=...), or add what builds "
            "it to semiseg.NETWORKS and train under its name"
        )
    tuples = {key: tuple(value) for key, value in options.items() if isinstance(value, list)}  # JSON has lists alone
    named = NetworkOptions(**{**options, **tuples})
    return lambda: build(named, num_classes)


def _about(predictor: Predictor) -> dict[str, Any]:
    """The arguments of `_empty_predictor`. `several` is None where there is one network."""
    prototypes = several = None
    if predictor.prototypes is not None:
        head = predictor.prototypes
        prototypes = {"per_class": head.ready.shape[1], "temperature": head.temperature}
    if isinstance(predictor, JointPredictor):
        several = {"names": predictor.names, "reported": predictor.reported}
    return {"prototypes": prototypes, "headline": predictor.headline, "several": several}


def _empty_predictor(make: Make, num_classes: int, about: dict[str, Any]) -> Predictor:
    several, headline = about.get("several"), about["headline"]
    if several is None:
        return _empty_single(make, num_classes, about["prototypes"], headline)
    members = {name: _empty_single(make, num_classes, about["prototypes"], headline) for name in several["names"]}
    return JointPredictor(members, several["reported"])


def _empty_single(make: Make, num_classes: int, prototypes: dict | None, headline: str) -> Predictor:
    with torch.random.fork_rng(devices=[]):
        segmentor = make()
    if prototypes is None:
        return Predictor(segmentor, None, headline)
    per_class, temperature = prototypes["per_class"], prototypes["temperature"]
    head = PrototypePredictor(num_classes, per_class, segmentor.feature_channels, temperature)
    return Predictor(segmentor, head, headline)
