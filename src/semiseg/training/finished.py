"""A finished run, loaded again and scored again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from semiseg.config.checks import require
from semiseg.data.dataset import Dataset, check_same_lists
from semiseg.evaluation.model import written_classes
from semiseg.evaluation.same_classes import check_classes_file, check_same_classes
from semiseg.runtime.files import write_json
from semiseg.runtime.progress import Progress
from semiseg.runtime.provenance import provenance
from semiseg.training.checkpoint import BEST, LAST, load_checkpoint, load_into
from semiseg.training.experiment import Experiment, Network, build_experiment
from semiseg.training.keeping import State
from semiseg.training.record import VERDICT, run_behind
from semiseg.training.resuming import check_best, saved_config

OF_TRAINING = ("hidden", "instruments")
"""Options of the evaluations during training alone."""


def load_run(
    run: Path,
    checkpoint: str = "best",
    overrides: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    *,
    dataset: Dataset | None = None,
    network: Network | None = None,
) -> Experiment:
    """The experiment of a run folder with the weights of its `best` or `last` checkpoint.

    `overrides` are EvaluationOptions fields, `root` is where the data are now (None: where they were), `dataset` and
    `network` the objects that the run was given. A run from a GPU is loaded to any device at hand. Raises ValueError
    where the folder is no run or lacks the checkpoint, or where the validation or test images, or the classes and their
    colours, are not the run's.
    """
    run = run_behind(run)
    files = {"best": BEST, "last": LAST}
    if checkpoint not in files:
        raise ValueError(f"there is no checkpoint {checkpoint!r}; expected {' or '.join(files)}")
    if not (run / "checkpoints").is_dir():
        raise ValueError(f"{run} is not a run folder: expected {run / 'checkpoints'}; `semiseg train` makes one")
    path, last = (run / "checkpoints" / name for name in (files[checkpoint], LAST))
    state = load_checkpoint(path)
    config = saved_config(state, path)
    if checkpoint == "best" and last.is_file():
        newest = load_checkpoint(last)
        check_best(state, path, saved_config(newest, last), State.read(newest["state"], last).best_step)
    device = "cpu" if config.train.device == "cpu" else "auto"
    config = replace(
        config,
        run=run,
        data=config.data if root is None else replace(config.data, root=Path(root)),
        train=replace(config.train, device=device, devices=1),
        evaluation=replace(config.evaluation, **(overrides or {})),
    )
    classes = state.get("classes") or written_classes(run)
    if dataset is None:
        check_classes_file(classes, config.data, run)
    experiment = build_experiment(config, weights=False, dataset=dataset, network=network)
    check_same_classes(classes, experiment.dataset, run)
    check_same_lists(state["split"], experiment.dataset.split, ("val", "test"), run)
    load_into(experiment.method, state["method"], path)
    return experiment


def evaluate(
    run: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    subset: str = "val",
    evaluation: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    dataset: Dataset | None = None,
    network: Network | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Score a checkpoint of a run on its `val` or `test` images and write evaluation-*.json beside result.json.

    `evaluation` changes EvaluationOptions fields; without `images` among them, all images are scored. `root` is where
    the data are now; a run that was given a dataset or a network needs it again. Raises ValueError where the folder is
    no run, has no such checkpoint or images, or learnt its validation images.
    """
    run = run_behind(Path(run))
    experiment = load_run(run, checkpoint, evaluation, root, dataset=dataset, network=network)
    images = experiment.dataset.image_sets.get(subset)
    if images is None:
        raise ValueError(
            f"{run} has no {subset} images; it has {', '.join(experiment.dataset.image_sets)}. Score another --set, or "
            f"train with --data.{subset} LIST"
        )
    folds = run.parent / VERDICT
    require(
        subset != "val" or not experiment.config.data.val_trains,
        f"{run} was trained on its validation images: a score on them would say nothing of new pictures. "
        + (f"{folds} has the scores of the folds. " if folds.is_file() else "")
        + "Give --images and --masks of pictures that it has not learnt",
    )
    method, limit = experiment.method, (evaluation or {}).get("images")
    with Progress(f"evaluate {subset}", limit or len(images), console=console) as bar:
        began = time.monotonic()
        evaluator = experiment.evaluator(images)
        scores = evaluator(method.predictor, method.threshold, limit, lambda done, _: bar.step(done, {}))
    options = experiment.config.evaluation
    document = {
        "checkpoint": checkpoint,
        "subset": subset,
        "evaluation": {key: value for key, value in vars(options).items() if key not in OF_TRAINING}
        | {"images": limit},
        **scores.to_dict(),
        "split": experiment.dataset.split,
        "seconds": round(time.monotonic() - began, 1),
        **provenance(experiment.device),
    }
    name = options.label if limit is None else f"{options.label}-first{limit}"
    write_json(run / f"evaluation-{checkpoint}-{subset}-{name}.json", document)
    return document
