"""The model for use: model.safetensors with the weights and model.json with all that is needed to run them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.config.recipe import Config
from semiseg.data.dataset import Color, Dataset
from semiseg.networks import build
from semiseg.parts.augment import MEAN, STD
from semiseg.parts.predictor import JointPredictor, Predictor
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.runtime.files import write_atomically, write_json

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Model:
    """A predictor with what it needs to know of images."""

    predictor: Predictor
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    scale: float  # images are resized by this first
    precision: str  # of the training and its scores
    evaluation: EvaluationOptions  # how it was scored


def save_model(folder: Path, predictor: Predictor, config: Config, dataset: Dataset) -> None:
    """Write both files, each atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda file: file.write(save(weights)))
    write_json(
        folder / DESCRIPTION,
        {
            "network": asdict(config.network) | {"weights": "none"},
            **_about(predictor),
            "classes": list(dataset.classes),
            "colors": [list(color) for color in dataset.colors],
            "scale": config.data.scale,
            "precision": config.train.precision,
            "evaluation": asdict(config.evaluation),
            "mean": list(MEAN),
            "std": list(STD),
        },
    )


def load_model(folder: Path) -> Model:
    """Read a model folder onto the CPU, ready to predict. Raises ValueError that names what is missing or damaged."""
    description, weights = folder / DESCRIPTION, folder / WEIGHTS
    for path in (description, weights):
        if not path.is_file():
            raise ValueError(f"{path} is not there; a finished `semiseg train` writes it into its run folder")
    try:
        about = json.loads(description.read_text("utf-8"))
        network = NetworkOptions(**{key: _as_option(value) for key, value in about["network"].items()})
        predictor = _empty_predictor(network, len(about["classes"]), about)
        predictor.load_state_dict(load_file(weights))
        classes, colors = tuple(about["classes"]), tuple((r, g, b) for r, g, b in about["colors"])
        evaluation = EvaluationOptions(**about["evaluation"])
        return Model(predictor.eval(), classes, colors, about["scale"], about["precision"], evaluation)
    except (KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{folder} does not hold a model of this version of semiseg, or it is damaged: {error}"
        ) from error


def _as_option(value: object) -> Any:
    """A value of a JSON file as options have it, with tuples where that has lists."""
    return tuple(value) if isinstance(value, list) else value


def _about(predictor: Predictor) -> dict[str, Any]:
    """What `_empty_predictor` has to know. `several` is None where there is one network."""
    prototypes = predictor.prototypes
    return {
        "prototypes": None
        if prototypes is None
        else {"per_class": prototypes.ready.shape[1], "temperature": prototypes.temperature},
        "headline": predictor.headline,
        "several": {"names": predictor.names, "reported": predictor.reported}
        if isinstance(predictor, JointPredictor)
        else None,
    }


def _empty_predictor(network: NetworkOptions, num_classes: int, about: dict[str, Any]) -> Predictor:
    several, headline = about.get("several"), about["headline"]
    if several is None:
        return _empty_single(network, num_classes, about["prototypes"], headline)
    members = {name: _empty_single(network, num_classes, about["prototypes"], headline) for name in several["names"]}
    return JointPredictor(members, several["reported"])


def _empty_single(network: NetworkOptions, num_classes: int, prototypes: dict | None, headline: str) -> Predictor:
    with torch.random.fork_rng(devices=[]):
        segmentor = build(network, num_classes)
    if prototypes is None:
        return Predictor(segmentor, None, headline)
    head = PrototypePredictor(
        num_classes, prototypes["per_class"], segmentor.feature_channels, prototypes["temperature"]
    )
    return Predictor(segmentor, head, headline)
