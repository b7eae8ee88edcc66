"""Where names become objects: a config in, a run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from semiseg.config.changes import check_same_run
from semiseg.config.network import require_multiple
from semiseg.config.recipe import Config, config_from_dict, config_to_dict, save_config
from semiseg.data import open_dataset
from semiseg.data.dataset import Dataset, ImageSet, check_same_lists
from semiseg.data.loading import PartnerLoader, Views, labeled_images, training_batches
from semiseg.evaluation.evaluator import Evaluation, Evaluator, hidden_labels
from semiseg.evaluation.model import save_model
from semiseg.methods import METHODS, Method, Setting
from semiseg.networks import ViTEncoder, build, with_shared_statistics
from semiseg.parts.partners import WantsImages
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import copy_from_first, gathered, pick_device, process_group, rank
from semiseg.runtime.files import write_arrays, write_json
from semiseg.runtime.launch import resolve_devices
from semiseg.runtime.progress import Progress
from semiseg.runtime.provenance import provenance
from semiseg.runtime.timing import process_peak
from semiseg.training.checkpoint import BEST, LAST, load_checkpoint
from semiseg.training.compilation import compile_networks, uncompiled
from semiseg.training.optim import Optimizer, build_optimizer
from semiseg.training.record import CONFIG, CONFUSIONS, METRICS, RESULT, Record
from semiseg.training.trainer import State, Trainer


@dataclass(frozen=True)
class Experiment:
    """The objects of a run."""

    config: Config
    dataset: Dataset
    method: Method
    device: torch.device

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.config.run_folder

    @property
    def checkpoints(self) -> Path:
        """Its folder of checkpoints."""
        return self.folder / "checkpoints"

    def evaluator(self, images: ImageSet) -> Evaluator:
        """Scores on `images` as the config says."""
        config = self.config
        return Evaluator(
            images, self.dataset.classes, config.data.scale, config.evaluation, config.train.precision, self.device
        )


def build_experiment(config: Config, weights: bool = True) -> Experiment:
    """Dataset, network and method of a config; `weights` False leaves the encoder random, for a checkpoint to fill."""
    device = pick_device(config.train.device)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    dataset = open_dataset(config.data, need_unlabeled=METHODS[config.method].uses_unlabeled)
    method = build_method(config, dataset.classes, weights, len(dataset.unlabeled)).to(device)
    return Experiment(config, dataset, with_shared_statistics(method, device), device)


def build_method(config: Config, classes: tuple[str, ...], weights: bool = True, unlabeled: int = 0) -> Method:
    """Network and method of a config, on the CPU, started from config.seed; `unlabeled` images are there to train on.

    With `weights` False the encoder is left random. Raises ValueError for a network that cannot be had, or crops that a
    ViT cannot cut into patches.
    """
    torch.manual_seed(config.seed)
    network = config.network if weights else replace(config.network, weights="none")

    def another() -> Segmentor:
        """The global generator has moved on since the last one."""
        made = build(network, len(classes))
        if isinstance(made.encoder, ViTEncoder):
            require_multiple(*made.encoder.patch, config.augment.crop_height, config.augment.crop_width)
        if config.train.channels_last:
            made = made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return made

    sizes = {"num_unlabeled": unlabeled, "batch_unlabeled": config.train.batch_unlabeled}
    setting = Setting(classes, config.train.steps, config.seed, config.loss, config.augment, another=another, **sizes)
    return METHODS[config.method](another(), config.method_options, setting)


def train(config: Config, resume: bool = False, console: Console | None = None) -> Path:
    """Train, or go on with, the run that `config` describes; returns its folder.

    In each of several processes (`train.devices`) the same call; the first one writes and prints. Raises ValueError
    where the run folder holds a run and `resume` is False, or another run and `resume` is True, and AloneError where
    the other processes were not started.
    """
    config = replace(config, train=replace(config.train, devices=resolve_devices(config.train.devices)))
    with process_group(pick_device(config.train.device)):
        return _train(config, resume, console if rank() == 0 else Console(quiet=True))


def _train(config: Config, resume: bool, console: Console | None) -> Path:
    saved = _checkpoint(config, resume)
    experiment = build_experiment(config, weights=saved is None)
    _check_agreement(experiment, 0 if saved is None else saved["state"]["step"])
    optimizer = build_optimizer(experiment.method.parameter_groups(), config.optim)
    state = State() if saved is None else _restore(saved, experiment, optimizer)
    del saved  # as large as the method and its optimizer together
    with Progress(config.method, config.train.steps, state.step, console) as bar:
        trainer = build_trainer(experiment, optimizer, state, bar)
        if state.step == 0 and rank() == 0:
            _write_config(config, experiment.folder / CONFIG)
        finish(experiment, trainer.run(), bar)
    return experiment.folder


def _check_agreement(experiment: Experiment, step: int) -> None:
    """Processes on machines that do not see the same files would train on something that nobody meant."""
    images = {name: record["sha256"] for name, record in experiment.dataset.split.items()}
    first, *others = gathered({"checkpoint": step, "images": images})
    for number, other in enumerate(others, 1):
        for what, seen in other.items():
            if seen != first[what]:
                raise ValueError(
                    f"process {number} does not see the {what} that process 0 sees: put the run folder "
                    f"({experiment.folder}) and the data where all machines see them, under one path"
                )


def _restore(saved: dict[str, Any], experiment: Experiment, optimizer: Optimizer) -> State:
    check_same_lists(saved["split"], experiment.dataset.split, saved["split"], experiment.folder)
    experiment.method.load_state_dict(saved["method"])
    optimizer.load_state_dict(saved["optimizer"])
    return State(**saved["state"])


def _write_config(config: Config, path: Path) -> None:
    """Whole or not at all: half a YAML file reads as a config with defaults for the other half."""
    partial = path.with_name(f".{path.name}.tmp")
    save_config(config, partial)
    partial.replace(path)


def _checkpoint(config: Config, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from; None to start, also where a run was stopped before it had one."""
    folder = config.run_folder
    last = folder / "checkpoints" / LAST
    record = folder / METRICS
    if not last.exists() and not (record.exists() and record.stat().st_size):
        return None  # nothing, or a run that was refused before its first step
    if not resume:
        raise ValueError(
            f"{folder} already holds a run: go on with it by --resume, choose another folder by --run, or delete it"
        )
    if not last.exists():
        return None
    state = load_checkpoint(last)
    check_same_run(config, config_from_dict(state["config"]), folder)
    return state


def build_trainer(experiment: Experiment, optimizer: Optimizer, state: State, bar: Progress) -> Trainer:
    """The loop of an experiment, from `state` on, under the live progress `bar`."""
    config, dataset = experiment.config, experiment.dataset
    evaluator = experiment.evaluator(dataset.val)
    hidden = hidden_labels(evaluator, dataset) if experiment.method.uses_unlabeled else None
    views = Views(dataset, config.augment, config.data.pad_label, config.seed)

    def batches(start: int) -> Any:
        """From step `start` on."""
        return training_batches(
            dataset,
            config.data,
            config.augment,
            config.train,
            seed=config.seed,
            start=start,
            use_unlabeled=experiment.method.uses_unlabeled,
            device=experiment.device,
        )

    def evaluate(method: Method) -> Evaluation:
        with uncompiled():
            found = evaluator(method.predictor, method.threshold, config.evaluation.images)
            return found if hidden is None else replace(found, hidden=hidden(method))

    if config.train.compile:
        compile_networks(experiment.method)
    return Trainer(
        method=experiment.method,
        optimizer=optimizer,
        train=config.train,
        optim=config.optim,
        seed=config.seed,
        device=experiment.device,
        batches=batches,
        labeled=labeled_images(dataset.labeled),
        evaluate=evaluate,
        record=Record(experiment.folder / METRICS, state.step),
        folder=experiment.checkpoints,
        config=config_to_dict(config),
        split=dataset.split,
        progress=bar,
        state=state,
        request=PartnerLoader(views, config.train, experiment.device)
        if isinstance(experiment.method, WantsImages)
        else None,
    )


def finish(experiment: Experiment, state: State, bar: Progress) -> None:
    """Score the method as the last step left it, then the best checkpoint; save that for use, write result.json."""
    config, dataset = experiment.config, experiment.dataset
    last = score_sets(experiment)
    scores = {"last": {"step": state.step, **_written(last)}}
    scores["best"] = scores["last"]
    if state.best_step != state.step:
        if rank() == 0:
            experiment.method.load_state_dict(load_checkpoint(experiment.checkpoints / BEST)["method"])
        copy_from_first(experiment.method)
        scores["best"] = {"step": state.best_step, **_written(score_sets(experiment))}
    if rank() > 0:
        return
    save_model(experiment.folder / "model", experiment.method.predictor, config, dataset)
    write_arrays(experiment.folder / CONFUSIONS, {"names": list(dataset.val.names), **last["val"].by_image})
    write_json(
        experiment.folder / RESULT,
        {
            "method": config.method,
            "recipe": config.recipe,
            "seed": config.seed,
            "steps": config.train.steps,
            "devices": config.train.devices,
            "accumulate": state.accumulate or config.train.accumulate,
            **scores,
            "split": dataset.split,
            "classes": list(dataset.classes),
            "seconds": round(state.seconds, 1),
            **_costs(experiment, state),
            **provenance(experiment.device),
        },
    )
    for name in ("best", "last"):
        for subset in ("val", "test"):
            if subset in scores[name]:
                bar.say(
                    f"{config.method} {name} checkpoint (step {scores[name]['step']}): {_line(scores, name, subset)}"
                )


def _line(scores: Mapping[str, Any], name: str, subset: str) -> str:
    found = scores[name][subset]
    predictors = [key for key, value in found.items() if isinstance(value, dict) and "miou" in value]
    return f"{subset} mIoU " + ", ".join(f"{found[predictor]['miou']:.2f} ({predictor})" for predictor in predictors)


def _costs(experiment: Experiment, state: State) -> dict[str, Any]:
    """What the run took beside its seconds; the images are those of the batches, labelled and unlabelled."""
    method, train = experiment.method, experiment.config.train
    images = train.batch_labeled + (train.batch_unlabeled if method.uses_unlabeled else 0)
    trained = [each for group in method.parameter_groups() for each in group["params"]]
    return {
        "images_per_second": state.step * images / max(state.seconds - state.evaluating, 1e-9),
        "peak_bytes": process_peak(experiment.device),
        "parameters": {
            name: sum(each.numel() for each in several)
            for name, several in (("trained", trained), ("used", method.predictor.parameters()))
        },
    }


def _written(scores: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {subset: found.to_dict() for subset, found in scores.items()}


def score_sets(experiment: Experiment) -> dict[str, Evaluation]:
    """Scores of the method as it stands on val, with those of each image, and, where there is one, on test."""
    sets = {name: images for name, images in experiment.dataset.image_sets.items() if name in ("val", "test")}
    method = experiment.method
    with uncompiled():
        return {
            name: experiment.evaluator(images)(method.predictor, method.threshold, each=name == "val")
            for name, images in sets.items()
        }
