"""Where names become objects: a config in, a run folder out."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from semiseg.config.network import require_multiple
from semiseg.config.options import require
from semiseg.config.recipe import Config, config_text, config_to_dict
from semiseg.config.registry import CUSTOM
from semiseg.data import open_dataset, split_in_words
from semiseg.data.class_pixels import count_class_pixels
from semiseg.data.damage import require_whole
from semiseg.data.dataset import Dataset, ImageSet, check_same_lists
from semiseg.data.loading import PartnerLoader, Views, labeled_images, training_batches
from semiseg.evaluation.evaluator import Evaluation, Evaluator, hidden_labels
from semiseg.evaluation.same_classes import check_same_classes, class_record
from semiseg.methods import METHODS, Method, MethodContext
from semiseg.networks import ViTEncoder, build, check_segmentor, with_shared_statistics
from semiseg.parts.partners import WantsImages
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import pick_device, process_group, rank
from semiseg.runtime.files import write_atomically
from semiseg.runtime.launch import resolve_devices
from semiseg.runtime.lock import only_here
from semiseg.runtime.progress import Progress
from semiseg.runtime.stopping import StopRequest
from semiseg.training.agreement import check_agreement, check_folder
from semiseg.training.bands import as_before, with_learnt
from semiseg.training.checkpoint import LAST, load_into
from semiseg.training.compilation import compile_networks, uncompiled
from semiseg.training.health import build_monitor
from semiseg.training.keeping import Keeper, State
from semiseg.training.optim import Optimizer, build_optimizer
from semiseg.training.record import CONFIG, METRICS, Record
from semiseg.training.result import finish
from semiseg.training.resuming import find_checkpoint, saved_config, where_it_goes_on
from semiseg.training.single import check_single_images
from semiseg.training.trainer import Trainer

log = logging.getLogger(__name__)

Network = Segmentor | Callable[[], Segmentor]
"""A network of one's own: an object, of which copies are trained, or a function that makes one."""


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


def build_experiment(
    config: Config,
    weights: bool = True,
    *,
    first_steps: int | None = None,
    dataset: Dataset | None = None,
    network: Network | None = None,
    opened: Dataset | None = None,
) -> Experiment:
    """Dataset, network and method of a config; `weights` False leaves the encoder random, for a checkpoint to fill.

    `first_steps` are the steps that a run was begun for, where it was made longer since. `dataset` and `network` are
    given as objects, instead of the config's; `opened` is the config's, opened before.
    """
    device = pick_device(config.train.device)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    dataset = opened or open_dataset(config.data, METHODS[config.method].uses_unlabeled, dataset)
    config = with_learnt(config, dataset.bands)
    made: dict[str, Any] = {"network": network, "first_steps": first_steps}
    if weights and (config.loss.reads_class_pixels or config.method_options.reads_class_pixels):
        made["class_pixels"] = count_class_pixels(dataset.labeled, len(dataset.classes))
    method = build_method(config, dataset.classes, weights, len(dataset.unlabeled), **made).to(device)
    return Experiment(config, dataset, with_shared_statistics(method, device), device)


def build_method(
    config: Config,
    classes: tuple[str, ...],
    weights: bool = True,
    unlabeled: int = 0,
    *,
    network: Network | None = None,
    first_steps: int | None = None,
    class_pixels: tuple[int, ...] | None = None,
) -> Method:
    """Network and method of a config, on the CPU, started from config.seed; `unlabeled` images are there to train on.

    With `weights` False the encoder is left random, and `class_pixels`, the labelled pixels of each class, are for a
    checkpoint to fill too. Raises ValueError for a network that cannot be had, or crops that a ViT cannot cut into
    patches.
    """
    torch.manual_seed(config.seed)
    options = config.network if weights else replace(config.network, weights="none")
    make = (lambda: build(options, len(classes))) if network is None else _maker(network, config)

    def another() -> Segmentor:
        """The global generator has moved on since the last one."""
        made = check_segmentor(make(), len(classes), options.bands)
        if isinstance(made.encoder, ViTEncoder):
            require_multiple(*made.encoder.patch, config.augment.crop_height, config.augment.crop_width)
        if config.train.channels_last:
            made = made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return made

    steps = first_steps or config.train.steps  # warm-up is a share of these
    if not weights:
        class_pixels = (1,) * len(classes)
    sizes = {"num_unlabeled": unlabeled, "class_pixels": class_pixels, "batch_unlabeled": config.train.batch_unlabeled}
    context = MethodContext(classes, steps, config.seed, config.loss, config.augment, another=another, **sizes)
    return METHODS[config.method](another(), config.method_options, context)


def _maker(network: Network, config: Config) -> Callable[[], object]:
    """The source of a method's networks: a copy of `network` once, or as many as `network` makes."""
    require(not config.network.checkpoint, "network.checkpoint is for networks by name: leave it off")
    require(
        config.network.mean is None,
        "network.mean and network.std are for networks by name: give `normalisation` to semiseg.wrap",
    )
    if not isinstance(network, nn.Module):
        return network
    copies = iter([copy.deepcopy(network)])

    def one() -> object:
        for made in copies:
            return made
        raise ValueError(
            f"{config.method} trains several networks that start differently, and one was given: give a function that "
            "makes a new one at each call, as in network=lambda: semiseg.wrap(MyNetwork(), features=...)"
        )

    return one


def train(
    config: Config,
    resume: bool = False,
    console: Console | None = None,
    *,
    longer: bool = False,
    brief: bool = False,
    dataset: Dataset | None = None,
    network: Network | None = None,
    opened: Dataset | None = None,
) -> Path:
    """Train, or go on with, the run that `config` describes; returns its folder.

    With `longer` the run may be asked for more steps than it was begun for. With `brief` the lists and the last scores
    are not printed: the caller tells them. `dataset` and `network` are given as objects, instead of the config's; the
    run's config then says `custom`. `opened` is the config's dataset, opened and told of before, as `start.train` does.

    In each of several processes (`train.devices`) the same call; the first one writes and prints. Raises ValueError
    where the run folder holds a run and `resume` is False, or another run and `resume` is True, or is in use,
    AloneError where the other processes were not started, and Stopped, with the run saved, at a signal.
    """
    config = replace(config, train=replace(config.train, devices=resolve_devices(config.train.devices)))
    if dataset is not None:
        config = replace(config, data=replace(config.data, dataset=CUSTOM))
    if network is not None:
        config = replace(config, network=replace(config.network, name=CUSTOM))
    with StopRequest() as stop, process_group(pick_device(config.train.device)):
        own = {"dataset": dataset, "network": network, "opened": opened}
        console = console if rank() == 0 else Console(quiet=True)
        with only_here(config.run_folder) if rank() == 0 else contextlib.nullcontext():
            saved = find_checkpoint(config, resume, longer)
            if resume and longer and saved is None:  # a study resumes what there is, and has said so
                log.warning("there is no run in %s to resume: it begins at step 0", config.run_folder)
            return _train(config, saved, stop, console, own, brief)


def _train(
    config: Config,
    saved: dict[str, Any] | None,
    stop: StopRequest,
    console: Console | None,
    own: dict[str, Any],
    brief: bool,
) -> Path:
    first_steps = None if saved is None else saved["state"].get("first_steps")
    if own["dataset"] is None and own["opened"] is None:
        check_folder(config, console)
    if saved is not None:
        asked, config = config, as_before(config, saved_config(saved, config.run_folder / "checkpoints" / LAST))
        own = own | {"opened": own["opened"] if config.data == asked.data else None}  # opened as it was asked for
    experiment = build_experiment(config, weights=saved is None, first_steps=first_steps, **own)
    config = experiment.config
    check_agreement(experiment.dataset, 0 if saved is None else saved["state"]["step"], experiment.folder)
    require_whole(experiment.dataset, console, METHODS[config.method].uses_unlabeled)
    optimizer, state = build_optimizer(experiment.method.parameter_groups(), config.optim), State()
    going_on: list[str] = []
    if saved is None:
        check_single_images(experiment.method, config.train, config.augment, experiment.device)
    else:
        check_same_lists(saved["split"], experiment.dataset.split, saved["split"], experiment.folder)
        check_same_classes(saved["classes"], experiment.dataset, experiment.folder)
        load_into(experiment.method, saved["method"], experiment.checkpoints / LAST)
        load_into(optimizer, saved["optimizer"], experiment.checkpoints / LAST)
        state = State.read(saved["state"], experiment.checkpoints / LAST)
        going_on = [where_it_goes_on(config, state, saved["config"]["train"]["steps"])]
    del saved  # as large as the method and its optimizer together
    images = config.train.batch_labeled + config.train.batch_unlabeled * experiment.method.uses_unlabeled
    with Progress(config.method, config.train.steps, state.step, console, images) as bar:
        said = brief or own["opened"] is not None
        for line in [*([] if said else split_in_words(experiment.dataset)), *going_on]:
            bar.say(line)
        trainer = build_trainer(experiment, optimizer, state, bar, stop)
        if rank() == 0:
            # Whole or not at all: half a YAML file reads as a config with defaults for the other half.
            text = config_text(config).encode()
            write_atomically(experiment.folder / CONFIG, lambda file: file.write(text))
        finish(experiment, trainer.run(), bar, brief)
    return experiment.folder


def build_trainer(
    experiment: Experiment, optimizer: Optimizer, state: State, bar: Progress, stop: StopRequest | None = None
) -> Trainer:
    """The loop of an experiment, from `state` on, under the live progress `bar`."""
    config, dataset = experiment.config, experiment.dataset
    evaluator = experiment.evaluator(dataset.val)
    hidden = hidden_labels(evaluator, dataset) if experiment.method.uses_unlabeled else None
    views = Views(dataset, config.augment, config.data.pad_label, config.seed, config.data.on_error == "skip")

    def batches(start: int) -> Any:
        options = (config.data, config.augment, config.train)
        use_unlabeled = experiment.method.uses_unlabeled
        return training_batches(
            dataset, *options, seed=config.seed, start=start, use_unlabeled=use_unlabeled, device=experiment.device
        )

    def evaluate(method: Method) -> Evaluation:
        with uncompiled():
            shown = functools.partial(bar.part, "scoring validation image")
            found = evaluator(method.predictor, method.threshold, config.evaluation.images, shown)
            return found if hidden is None else replace(found, hidden=hidden(method))

    if config.train.compile:
        compile_networks(experiment.method)
    classes = class_record(dataset.classes, dataset.colors, dataset.binary)
    identity = {"config": config_to_dict(config), "split": dataset.split, "classes": classes}
    record = Record(experiment.folder / METRICS, state.step)
    wants_images = isinstance(experiment.method, WantsImages)
    return Trainer(
        method=experiment.method,
        optimizer=optimizer,
        train=config.train,
        optim=config.optim,
        seed=config.seed,
        device=experiment.device,
        batches=batches,
        labeled=bar.counted(labeled_images(dataset.labeled), "preparing: labelled image"),
        evaluate=evaluate,
        record=record,
        keeper=Keeper(experiment.checkpoints, identity, config.train.checkpoint_minutes),
        progress=bar,
        stop=stop or StopRequest(),
        state=state,
        measures=config.evaluation.instruments,
        monitor=build_monitor(experiment.method, dataset.labeled, config.train, record, bar, experiment.device),
        request=PartnerLoader(views, config.train, experiment.device) if wants_images else None,
    )
