"""A run folder whose model was never trained: all that loading and predicting need."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg.config.recipe import load_config
from semiseg.data import open_dataset
from semiseg.evaluation.model import save_model
from semiseg.networks import build
from semiseg.parts.predictor import Predictor
from semiseg.parts.prototype_predictor import PrototypePredictor

SMALL = {"method": "supervised", "data.scale": 0.5, "network.encoder": "test_resnet", "network.channels": 8}


def untrained_run(folder: Path, per_class: int | None = None, **options: Any) -> Path:
    """`folder` with a model of the demo's classes, with `per_class` prototypes of each, if any.

    `options` are a config's, by their names with `__` for the dot.
    """
    config = load_config("demo", SMALL | {key.replace("__", "."): value for key, value in options.items()})
    dataset = open_dataset(config.data)
    network = build(replace(config.network, weights="none"), len(dataset.classes))
    prototypes = None
    if per_class is not None:
        prototypes = PrototypePredictor(len(dataset.classes), per_class, network.feature_channels)
    save_model(folder / "model", Predictor(network, prototypes), config, dataset)
    return folder
