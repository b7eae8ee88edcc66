"""Semantic segmentation from a few labelled images and many unlabelled ones.

    import semiseg

    run = semiseg.train("folder", root="photos", method="prototype", steps=2000)
    labels, confidence = run.predict("photo.jpg")

The public names below are imported when first used: `import semiseg` and `semiseg --help` do without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg import methods
    from semiseg.config.fields import ConfigError
    from semiseg.config.recipe import Config, load_config, save_config
    from semiseg.data import DATASETS, open_dataset
    from semiseg.data.dataset import Dataset
    from semiseg.data.doctor.examine import check
    from semiseg.evaluation.model import Model, load_model
    from semiseg.front import Run, evaluate, train
    from semiseg.methods import METHODS
    from semiseg.methods.method import Method
    from semiseg.networks import NETWORKS, wrap
    from semiseg.parts import losses
    from semiseg.parts.prototypes import Prototypes
    from semiseg.parts.segmentor import Segmentor
    from semiseg.studies.run import compare
    from semiseg.types import (
        IGNORE,
        Clock,
        LabeledBatch,
        PseudoLabel,
        SegmentationOutput,
        StepResult,
        UnlabeledBatch,
    )

__all__ = [
    "DATASETS",
    "IGNORE",
    "METHODS",
    "NETWORKS",
    "Clock",
    "Config",
    "ConfigError",
    "Dataset",
    "LabeledBatch",
    "Method",
    "Model",
    "Prototypes",
    "PseudoLabel",
    "Run",
    "SegmentationOutput",
    "Segmentor",
    "StepResult",
    "UnlabeledBatch",
    "check",
    "compare",
    "evaluate",
    "load_config",
    "load_model",
    "losses",
    "methods",
    "open_dataset",
    "save_config",
    "train",
    "wrap",
]

_HOME = {
    "DATASETS": "data",
    "IGNORE": "types",
    "METHODS": "methods",
    "NETWORKS": "networks",
    "Clock": "types",
    "Config": "config.recipe",
    "ConfigError": "config.fields",
    "Dataset": "data.dataset",
    "LabeledBatch": "types",
    "Method": "methods.method",
    "Model": "evaluation.model",
    "Prototypes": "parts.prototypes",
    "PseudoLabel": "types",
    "Run": "front",
    "SegmentationOutput": "types",
    "Segmentor": "parts.segmentor",
    "StepResult": "types",
    "UnlabeledBatch": "types",
    "check": "data.doctor.examine",
    "compare": "studies.run",
    "evaluate": "front",
    "load_config": "config.recipe",
    "load_model": "evaluation.model",
    "open_dataset": "data",
    "save_config": "config.recipe",
    "train": "front",
    "wrap": "networks.wrap",
}
_MODULES = {"losses": "parts.losses", "methods": "methods"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"semiseg.{_MODULES[name]}")
    if name not in _HOME:
        raise AttributeError(f"semiseg has no public name {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"semiseg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
