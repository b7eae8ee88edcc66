"""Functions in several gloo processes, and what the tests of them let them do."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from support import tiny, tiny_trainer
from torch import nn

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.options import EvaluationOptions, LossOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.data.dataset import ImageSet
from semiseg.evaluation.evaluator import Evaluator
from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.networks.checkpointing import recompute
from semiseg.parts.predictor import Predictor
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import own_slots
from semiseg.types import IGNORE, LabeledBatch, UnlabeledBatch

PATIENCE = 300  # seconds; a busy machine

BATCH = 8  # labelled images of a step, and as many unlabelled ones
STEPS = 6
WARM = {"warmup": 2 / STEPS}
WARMUP = {**WARM, "ema_decay": 0.8}


def in_ranks(count: int, folder: Path, function: Callable[..., Any], *arguments: object) -> list[Any]:
    """What `function` gives in each of `count` processes of one group; None where a process died."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["semiseg.training.experiment", "torch._dynamo"]
    )  # the server has imported what takes long
    folder.mkdir(parents=True)
    processes = [
        context.Process(target=_rank, args=(number, count, folder, function, arguments)) for number in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        process.kill()
    files = [folder / f"{number}.pt" for number in range(count)]
    return [torch.load(file, weights_only=False) if file.exists() else None for file in files]


def _rank(number: int, count: int, folder: Path, function: Callable[..., Any], arguments: tuple) -> None:
    os.environ.update(RANK=str(number), WORLD_SIZE=str(count), LOCAL_RANK=str(number))
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loading workers, as in a process the user started
    store = dist.FileStore(str(folder / "store"), count)
    dist.init_process_group("gloo", store=store, rank=number, world_size=count, timeout=timedelta(seconds=PATIENCE))
    try:
        torch.save(function(*arguments), folder / f"{number}.pt")
    except BaseException:
        (folder / f"{number}.txt").write_text(traceback.format_exc())
        os._exit(1)


# A training on a network without BatchNorm ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A method, its options, and in how many parts it takes a step."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    loss: LossOptions = field(default_factory=LossOptions)
    accumulate: int = 1
    aux: bool = False
    checkpoint: bool = False
    size: tuple[int, int] = (9, 11)  # of the images


OHEM = LossOptions(kind="ohem", ohem_threshold=0.1, ohem_min_kept=70)  # of 792 pixels

DETECTOR = {"detector_channels": 4, "detector_lr": 1e-5}
SMALL = {"queue_size": 70, "queue_size_first": 90, "anchors": 20, "negatives": 6, "channels": 8}

SCENARIOS = {
    "supervised": Scenario("supervised", aux=True),
    "supervised, hard pixels": Scenario("supervised", loss=OHEM),
    "mean_teacher": Scenario("mean_teacher", {**WARMUP, "noise": 0.3, "unlabeled_weight": 3.0}),
    "cutmix": Scenario("cutmix", {**WARMUP, "threshold": 0.6}),
    "cutmix in parts": Scenario("cutmix", {**WARMUP, "threshold": 0.6, "confidence": "pixel"}, accumulate=2),
    "fixmatch": Scenario(
        "fixmatch",
        {"warmup": 2 / STEPS, "threshold": 0.5, "prototypes": PrototypesOptions(grid=4, per_class=2)},
    ),
    "unimatch": Scenario(
        "unimatch", {"warmup": 2 / STEPS, "threshold": 0.5, "prototypes": PrototypesOptions()}, aux=True
    ),
    "unimatch in parts": Scenario(
        "unimatch", {"warmup": 2 / STEPS, "threshold": 0.5}, loss=OHEM, accumulate=2, checkpoint=True
    ),
    "unimatch_v2": Scenario("unimatch_v2", {**WARMUP, "threshold": 0.5, "prototypes": PrototypesOptions(grid=4)}),
    "unimatch_v2 in parts": Scenario("unimatch_v2", {**WARMUP, "threshold": 0.5}, accumulate=2),
    "corrmatch": Scenario(
        "corrmatch",
        {"warmup": 2 / STEPS, "threshold": 0.5, "threshold_momentum": 0.9, "regions": 20, "correlation_channels": 8},
    ),
    "corrmatch in parts": Scenario(
        "corrmatch", {"warmup": 2 / STEPS, "threshold": 0.5, "soft_target": "unmixed", "correlation_channels": 8},
        accumulate=2,
    ),
    "pseudoseg": Scenario("pseudoseg", {"warmup": 2 / STEPS, "background": True}),
    "pseudoseg in parts": Scenario("pseudoseg", {"warmup": 2 / STEPS}, accumulate=2),
    "cct": Scenario("cct", {"warmup": 2 / STEPS, "background": True, "ramp": 0.0}),
    "cct in parts": Scenario(
        "cct", {"warmup": 2 / STEPS, "ramp": 0.0, "channel_dropout": 1}, accumulate=2, checkpoint=True
    ),
    "pc2seg": Scenario("pc2seg", {"warmup": 2 / STEPS, "grid": 5, "contrast_weight": 1.0}),
    "ael": Scenario(
        "ael",
        {**WARMUP, "threshold": 0.5, "bank_momentum": 0.7, "bank_area": 0.1, "box_area": 0.02, "strong": True},
    ),
    "ael in parts": Scenario(
        "ael",
        {**WARMUP, "threshold": 0.4, "paste_probability": 1.0, "paste_leave_out": (1,), "bank_area": 0.3, "gamma": 1.0},
        accumulate=2,
    ),
    "u2pl": Scenario(
        "u2pl", {**WARMUP, **SMALL, "mix_probability": 0.7, "enqueue": 30, "prototypes": PrototypesOptions(grid=4)}
    ),
    "u2pl in parts": Scenario("u2pl", {**WARMUP, **SMALL, "low_rank": 1, "teacher_bn": "own"}, accumulate=2),
    # Adam makes whole steps of roundings where a gradient is 0, as it is where the detector's deepest map is one pixel.
    "gct": Scenario("gct", {**WARM, **DETECTOR, "flaw_threshold": 0.4, "ramp": 0.5}, aux=True, size=(18, 20)),
    "gct in parts": Scenario("gct", {**DETECTOR, "unlabeled_weight": 3.0}, accumulate=2, size=(18, 20)),
    "cps": Scenario("cps", {**WARM, "prototypes": PrototypesOptions(grid=4, per_class=2)}, size=(10, 12)),
    "cps in parts": Scenario("cps", {**WARM, "prototypes": PrototypesOptions(grid=None)}, loss=OHEM, accumulate=2),
    "cps without cutmix": Scenario(
        "cps", {**WARM, "cutmix": False, "prototypes": PrototypesOptions()}, checkpoint=True
    ),
    "prototype": Scenario(
        "prototype",
        {**WARMUP, "threshold": 0.5, "strong": True, "mix_probability": 0.7,
         "prototypes": PrototypesOptions(grid=4, per_class=2)},
    ),
    "prototype in parts": Scenario(
        "prototype",
        {**WARMUP, "threshold": 0.5, "mix": "classmix", "mix_probability": 1.0, "denominator": "u2pl",
         "prototypes": PrototypesOptions(grid=None)},
        loss=OHEM,
        accumulate=2,
        checkpoint=True,
    ),
    "prototype alone": Scenario(
        "prototype", {**WARMUP, "threshold": 0.4, "linear": False, "mix": "cutout", "denominator": "kept"}
    ),
}  # fmt: skip


SCENARIOS |= {
    name: Scenario(name, WARM if METHODS[name].uses_unlabeled else {})
    for name in METHODS
    if name not in {scenario.method for scenario in SCENARIOS.values()}
}
"""Every method has one: those that are not named above run with their defaults."""


def whole_batch(step: int, size: tuple[int, int] = (9, 11)) -> tuple[LabeledBatch, UnlabeledBatch]:
    """One step's images; each has fewer labelled, or valid, pixels than the one before."""
    labeled, unlabeled = tiny.batches(BATCH, BATCH, size, seed=step)
    for number in range(BATCH):
        labeled.label[number, :, :number] = IGNORE
        unlabeled.valid[number, :number] = False
    return labeled, unlabeled


def own_batches(
    start: int, accumulate: int, size: tuple[int, int] = (9, 11)
) -> Iterator[tuple[LabeledBatch, UnlabeledBatch]]:
    """What the loader gives this process."""
    slots = own_slots(BATCH, accumulate)
    for step in range(start, STEPS):
        labeled, unlabeled = whole_batch(step, size)
        yield LabeledBatch(*(part[slots] for part in labeled[:3])), unlabeled.each(lambda part: part[slots])


def partners(step: int, positions: Sequence[int], accumulate: int) -> Callable[[], UnlabeledBatch]:
    """The view of an image depends on the step and the slot."""
    slots, pool = own_slots(BATCH, accumulate), tiny.batches(BATCH, BATCH, seed=99)[1]
    index = torch.tensor(positions)[slots]
    seen = UnlabeledBatch(
        pool.image[index] + torch.tensor(slots).view(-1, 1, 1, 1) / 9 + step, pool.valid[index], index
    )
    return lambda: seen


def method_of(scenario: Scenario, batch_norm: bool = False) -> Method:
    def network(seed: int) -> Segmentor:
        made = tiny.segmentor(seed=seed, aux=scenario.aux)
        if scenario.checkpoint:
            for block in (made.encoder.shallow, made.encoder.deep):
                recompute(block)
        return made

    options = METHOD_OPTIONS[scenario.method](**scenario.options)
    setting = tiny.setting(STEPS, loss=scenario.loss, another=lambda: network(7))
    method = METHODS[scenario.method](network(0), options, setting)
    return method if batch_norm else without_batch_norm(method)


def without_batch_norm(method: Method) -> Method:
    """GroupNorm instead: a CPU process would normalise by its own images alone."""
    for module in list(method.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, layer.num_features))
    return method


def train(folder: Path, name: str, batch_norm: bool = False) -> dict[str, Any]:
    """Losses and statistics of every step, and the method's state at the end."""
    scenario = SCENARIOS[name]
    method = method_of(scenario, batch_norm)
    options = {"steps": STEPS, "log_every": 1, "accumulate": scenario.accumulate}
    trainer = tiny_trainer.trainer(folder, method, **options)
    trainer.request = partial(partners, accumulate=scenario.accumulate)
    trainer.batches = lambda start: own_batches(start, scenario.accumulate, scenario.size)
    trainer.labeled = tiny.one_by_one(whole_batch(0, scenario.size)[0])
    trainer.measures = True  # at the last step, which is evaluated
    trainer.run()
    trace = [
        {key: value for key, value in entry.items() if key not in ("seconds", "kind")}
        for entry in tiny_trainer.lines(folder, "train")
    ]
    evaluations = tiny_trainer.lines(folder, "evaluation")  # which the first rank writes
    pulls = evaluations[-1]["gradients"] if evaluations else {}
    return {
        "trace": trace,
        "pulls": pulls,
        "state": {key: tensor.clone() for key, tensor in method.state_dict().items()},
    }


def train_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Every scenario, in a folder of its own."""
    return {name: train(folder / name, name) for name in SCENARIOS}


# Other things to do ---------------------------------------------------------------------------------------------------


def evaluate(images: ImageSet, predictor: Predictor, limit: int | None) -> tuple[dict[str, Any], list[Any]]:
    """The scores, and the matrices that no rounding touches."""
    evaluator = Evaluator(images, tiny.CLASSES, 1.0, EvaluationOptions(), "fp32", torch.device("cpu"))
    found = evaluator(predictor, 0.5, limit, per_image=True)
    matrices = [(name, matrix.counts, found.by_image[name]) for name, matrix in found.confusion.items()]
    return found.to_dict(), [*matrices, found.kept.counts]
