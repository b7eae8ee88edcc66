"""The machine at hand, and how long a step takes on it: real steps of the planned method on the user's data."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console

from semiseg.config.methods import UnlabeledOptions
from semiseg.config.recipe import Config, load_config
from semiseg.data.damage import require_whole
from semiseg.networks.packaged import packaged_file
from semiseg.runtime.ahead import usable_cores
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.progress import Progress
from semiseg.runtime.screen import without_warnings
from semiseg.studies.own.plan import RECIPE, Machine
from semiseg.studies.own.schedule import Speed
from semiseg.training.experiment import Experiment, build_experiment, build_trainer
from semiseg.training.keeping import State
from semiseg.training.optim import build_optimizer
from semiseg.training.trainer import Trainer

STEPS = 4  # of each kind at most; the first, in which much is allocated, is left out...
LONG = 6.0  # ...and seconds after which two are enough
WARMUP = 0.25  # of ten times as many steps
_UNKNOWN = 4 * 2**30  # bytes, of a system that does not say


def machine_here(device: str, threads: int | None) -> Machine:
    """This machine, for a training on `device` (`auto`, `cpu`, `cuda:N`) with so many CPU threads (None: all)."""
    chosen = pick_device(device)
    cores = usable_cores()
    gpu = torch.cuda.get_device_properties(chosen) if chosen.type == "cuda" else None
    return Machine(
        cores=min(cores, threads or cores),
        memory=_free_memory(),
        gpu=None if gpu is None else gpu.name,
        gpu_memory=0 if gpu is None else gpu.total_memory,
        presets=frozenset(name for name in ("pretrained", "gpu") if _is_here(name)),
    )


def _free_memory() -> int:
    with suppress(OSError, StopIteration, ValueError):  # only Linux has that file
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _is_here(preset: str) -> bool:
    """Whether the first weights of a preset need no download."""
    network = load_config(RECIPE, {"preset": preset}).network
    try:
        if network.weights == "package":
            packaged_file(network.encoder)
            return True
        import timm
        from huggingface_hub import try_to_load_from_cache

        cfg = timm.get_pretrained_cfg(network.encoder)
        repo, file = cfg and cfg.hf_hub_id, (cfg and cfg.hf_hub_filename) or "model.safetensors"
        return bool(repo) and isinstance(try_to_load_from_cache(repo, file), str)
    except (ValueError, RuntimeError):
        return False


def measure(config: Config) -> Speed:
    """Seconds of a step of each kind, of scoring an image and of the start, by a few real ones; nothing is kept.

    Raises ValueError where the data, or the network's first weights, cannot be had.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, without_warnings("semiseg"):
        train = replace(config.train, steps=10 * STEPS, compile=False)
        options = config.method_options
        if isinstance(options, UnlabeledOptions):
            options = replace(options, warmup=WARMUP)  # steps of both kinds lie near each other
        config = replace(config, run=Path(folder) / "run", train=train, method_options=options)
        experiment = build_experiment(config)
        quiet = Console(quiet=True)
        require_whole(experiment.dataset, quiet, experiment.method.uses_unlabeled)
        optimizer = build_optimizer(experiment.method.parameter_groups(), config.optim)
        bar = Progress(config.method, config.train.steps, console=quiet)
        trainer = build_trainer(experiment, optimizer, State(), bar)
        start = time.monotonic() - began
        speed = _measured(trainer, experiment, start)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return speed


def _measured(trainer: Trainer, experiment: Experiment, start: float) -> Speed:
    """Of a few real steps; `start` is how many seconds it took to come here."""
    method, batches = trainer.method, trainer.batches(0)

    def timed(first: int) -> float:
        """Seconds of a step, the median of at most STEPS from step `first` on, less the very first."""
        found: list[float] = []
        for step in range(first, first + STEPS):
            if len(found) > 1 and sum(found) > LONG:
                break
            began = time.monotonic()
            trainer.step(*trainer.batch(batches, step), trainer.clock(step))
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()
            found.append(time.monotonic() - began)
        return median(found[1:])

    supervised = unlabeled = timed(0)
    if method.prepare_at is not None:
        began = time.monotonic()
        trainer.prepare(trainer.clock(method.prepare_at))
        start += time.monotonic() - began
        unlabeled = timed(method.prepare_at)
    began, images = time.monotonic(), min(2, len(experiment.dataset.val))
    experiment.evaluator(experiment.dataset.val)(method.predictor, None, images)
    return Speed(supervised, unlabeled, (time.monotonic() - began) / images, start)
