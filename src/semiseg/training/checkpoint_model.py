"""A checkpoint of a run as a model for use."""

from __future__ import annotations

from pathlib import Path

import torch

from semiseg.evaluation.model import Model
from semiseg.evaluation.model import written_classes as classes_of_model
from semiseg.training.checkpoint import BEST, LAST, load_checkpoint, load_into
from semiseg.training.experiment import Network, build_method
from semiseg.training.resuming import saved_config


def load_checkpoint_model(run: Path, checkpoint: str, network: Network | None = None) -> Model:
    """The model that a run's `best` or `last` checkpoint holds, on the CPU; no data are needed.

    `network`: as in `load_model`. Raises ValueError where the folder is no run, or lacks the checkpoint.
    """
    path = run / "checkpoints" / {"best": BEST, "last": LAST}[checkpoint]
    if not path.parent.is_dir():
        raise ValueError(f"{run} is not a run folder: expected {path.parent}; leave --checkpoint out to take its model")
    state = load_checkpoint(path)
    config = saved_config(state, path)
    classes = state.get("classes") or classes_of_model(run)
    if classes is None:
        raise ValueError(f"{path} does not name its classes, as those of old versions: leave --checkpoint out")
    names, colors = tuple(classes["names"]), tuple((red, green, blue) for red, green, blue in classes["colors"])
    method = build_method(config, names, weights=False, network=network)
    load_into(method, state["method"], path)
    method.predictor.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # as in `load_model`
    return Model(method.predictor.eval(), names, colors, config.data.scale, config.train.precision, config.evaluation)
