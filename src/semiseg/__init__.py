"""Semantic segmentation from a few labelled images and many unlabelled ones.

    import semiseg

    config = semiseg.load_config("folder", {"data.root": "photos", "train.steps": 2000})
    run = semiseg.train(config)

The public names below are imported when first used: `import semiseg` and `semiseg --help` do without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg.config.fields import ConfigError
    from semiseg.config.recipe import Config, load_config, save_config
    from semiseg.data import DATASETS, open_dataset
    from semiseg.evaluation.model import Model, load_model
    from semiseg.methods import METHODS
    from semiseg.methods.method import Method
    from semiseg.networks import NETWORKS
    from semiseg.studies.run import compare
    from semiseg.training.experiment import train
    from semiseg.training.finished import evaluate_run
    from semiseg.types import IGNORE

__all__ = [
    "DATASETS",
    "IGNORE",
    "METHODS",
    "NETWORKS",
    "Config",
    "ConfigError",
    "Method",
    "Model",
    "compare",
    "evaluate_run",
    "load_config",
    "load_model",
    "open_dataset",
    "save_config",
    "train",
]

_HOME = {
    "DATASETS": "data",
    "IGNORE": "types",
    "METHODS": "methods",
    "NETWORKS": "networks",
    "Config": "config.recipe",
    "ConfigError": "config.fields",
    "Method": "methods.method",
    "Model": "evaluation.model",
    "compare": "studies.run",
    "evaluate_run": "training.finished",
    "load_config": "config.recipe",
    "load_model": "evaluation.model",
    "open_dataset": "data",
    "save_config": "config.recipe",
    "train": "training.experiment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"semiseg has no public name {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"semiseg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
