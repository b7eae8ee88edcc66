"""A device whose memory is too small: a step is tried before the first, in smaller parts until it fits."""

import json
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from support import ranks, tiny, tiny_run
from support.equality import same_tensors
from support.ranks import in_ranks
from support.tiny_trainer import lines, resumed, trainer
from support.variants import ON_A_VIT, STEPS, VARIANTS, WARMUP, method_of

from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.runtime import distributed
from semiseg.runtime.distributed import rank
from semiseg.training import memory
from semiseg.training import trainer as trainer_module
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.keeping import State
from semiseg.training.memory import MemoryShortError, probe, undone
from semiseg.training.trainer import Trainer
from semiseg.types import SegmentationOutput

BATCH = 8  # labelled images of a step, and as many unlabelled ones


def short_of(room: int, method: Method, first: int = 0) -> Method:
    """From step `first` on, the method's device has no memory for more than `room` labelled images at a time.

    It runs out behind the student's decoder: statistics have moved and dropout has drawn by then.
    """
    seen = {"step": -1, "images": 0}

    def begin(_: Method, arguments: tuple) -> None:
        labeled, _, clock = arguments
        seen.update(step=clock.step, images=len(labeled.image))

    def run_out(*_: object) -> None:
        if seen["step"] >= first and seen["images"] > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    method.register_forward_pre_hook(begin)
    method.student.decoder.register_forward_hook(run_out)
    return method


def run_of(folder: Path, method: Method, state: State | None = None, probes: bool = True, **train) -> Trainer:
    run = trainer(folder, method, state, **{"steps": STEPS, "log_every": 1, **train})
    run.batches = lambda start: (tiny.batches(BATCH, BATCH, seed=step) for step in range(start, 99))
    run.probes = probes
    return run


def same_runs(found: Trainer, expected: Trainer) -> None:
    """Weights, buffers and momenta, to the bit."""
    same_tensors(found.method.state_dict(), expected.method.state_dict())
    momenta = [
        {key: state["momentum_buffer"] for key, state in run.optimizer.state_dict()["sgd"]["state"].items()}
        for run in (found, expected)
    ]
    same_tensors(*momenta)


def trained_lines(folder: Path) -> list[dict]:
    return [entry | {"seconds": 0} for entry in lines(folder, "train")]


ON_A_CNN = [name for name in VARIANTS if not name.endswith(ON_A_VIT)]


@pytest.mark.parametrize(
    "variant", [name if name in METHODS else pytest.param(name, marks=pytest.mark.slow) for name in ON_A_CNN]
)
def test_a_run_that_was_tried_is_the_same_run(tmp_path, variant):
    run = run_of(tmp_path / "tried", method_of(variant))
    run.run()
    expected = run_of(tmp_path / "plain", method_of(variant), probes=False)
    expected.run()
    assert run.state.accumulate is None
    same_runs(run, expected)
    assert trained_lines(tmp_path / "tried") == trained_lines(tmp_path / "plain")
    assert lines(tmp_path / "tried", "memory") == []


@pytest.mark.parametrize("variant", ["supervised", "prototype", "ael", "u2pl"])
@pytest.mark.parametrize("first", [0, WARMUP])
def test_a_run_that_does_not_fit_equals_one_in_smaller_parts(tmp_path, variant, first):
    """Also where only steps with unlabelled images do not: these are tried, not those of the warm-up."""
    if variant == "supervised" and first:
        return
    run = run_of(tmp_path / "short", short_of(2, method_of(variant), first=first))
    run.run()
    expected = run_of(tmp_path / "parts", method_of(variant), probes=False, accumulate=4)
    expected.run()
    assert (run.state.accumulate, expected.state.accumulate) == (4, None)
    same_runs(run, expected)
    assert trained_lines(tmp_path / "short") == trained_lines(tmp_path / "parts")
    assert [(entry["step"], entry["accumulate"]) for entry in lines(tmp_path / "short", "memory")] == [(0, 4)]


def test_a_resumed_run_goes_on_in_the_parts_it_was_fitted_to(tmp_path):
    whole = run_of(tmp_path / "whole", short_of(2, method_of("prototype")), checkpoint_every=1)
    whole.run()
    begun = run_of(tmp_path / "begun", short_of(2, method_of("prototype")), checkpoint_every=1)
    batches = begun.batches
    begun.batches = lambda start: (batch for _, batch in zip(range(4), batches(start), strict=False))
    with pytest.raises((StopIteration, RuntimeError)):
        begun.run()
    again = resumed(tmp_path / "begun", method_of("prototype", seed=9), steps=STEPS, log_every=1, checkpoint_every=1)
    again.batches, again.probes = batches, True
    assert again.state.accumulate == 4
    again.run()
    same_runs(again, whole)
    assert load_checkpoint(tmp_path / "begun/checkpoints/last.pt")["state"]["accumulate"] == 4


def test_a_resumed_run_is_not_tried_again(tmp_path):
    """On a smaller device it stops: in other parts it would be another run."""
    begun = run_of(tmp_path, method_of("supervised"), steps=2, checkpoint_every=1)
    begun.run()
    again = resumed(tmp_path, short_of(2, method_of("supervised", seed=9)), steps=STEPS, log_every=1)
    again.batches, again.probes = begun.batches, True
    message = refusal(again)
    assert "with 8 and 8 images at a time: it did fit when the run began" in message
    assert again.state.accumulate is None


# Several ranks --------------------------------------------------------------------------------------------------------


def train_in_ranks(folder: Path, room: tuple[int, int], scenario: str, **options) -> dict:
    """A run of two ranks, of which each has memory for so many of its labelled images at a time."""
    method = ranks.method_of(ranks.SCENARIOS[scenario], batch_norm=True)
    run = trainer(folder, short_of(room[rank()], method), steps=ranks.STEPS, log_every=1, **options)
    run.batches = lambda start: ranks.own_batches(start, 1)
    run.request, run.probes = partial(ranks.partners, accumulate=1), True
    run.state.accumulate = None if min(room) < 4 else 2  # as if it had been found
    try:
        run.run()
    except MemoryShortError as error:
        return {"message": str(error)}
    return {"accumulate": run.state.accumulate, "state": run.method.state_dict(), "lines": trained_lines(folder)}


@pytest.mark.parametrize(
    "scenario", ["prototype", *(pytest.param(name, marks=pytest.mark.slow) for name in ("u2pl", "ael"))]
)
def test_ranks_take_the_parts_that_fit_on_all_of_them(tmp_path, scenario):
    """The second runs out of memory where the first would wait for it, in sums over ranks and for gradients."""
    found = in_ranks(2, tmp_path / "group", train_in_ranks, tmp_path / "short", (4, 2), scenario)
    expected = in_ranks(2, tmp_path / "given", train_in_ranks, tmp_path / "parts", (4, 4), scenario)
    assert None not in found, [file.read_text() for file in (tmp_path / "group").glob("*.txt")]
    assert [each["accumulate"] for each in found] == [2, 2]
    for one, other in zip(found, expected, strict=True):
        same_tensors(one["state"], other["state"])
    assert found[0]["lines"] == expected[0]["lines"]


def test_ranks_stop_together_where_one_is_short(tmp_path):
    found = in_ranks(2, tmp_path / "group", train_in_ranks, tmp_path / "short", (4, 1), "supervised")
    assert None not in found
    assert found[0] == found[1]
    assert "in 4 parts, a batch of 4 images leaves fewer than 2 for each" in found[0]["message"]


def test_alone_shared_statistics_wait_for_nobody():
    shared = torch.nn.SyncBatchNorm(3)
    fixed = torch.nn.SyncBatchNorm(3).eval()
    module = torch.nn.Sequential(shared, fixed, torch.nn.BatchNorm2d(3))
    with distributed.alone(module):
        assert [layer.training for layer in module] == [False, False, True]
    assert [layer.training for layer in module] == [True, False, True]


def test_it_is_said_on_screen_and_in_the_result(tmp_path, monkeypatch, capsys):
    """Drawn scenes and a real network, with a device that takes two images of each kind at a time."""
    fits = memory._fits
    monkeypatch.setattr(memory, "_fits", lambda *given: given[3] >= 2 and fits(*given))
    made = trainer_module.Trainer.__post_init__
    monkeypatch.setattr(Trainer, "__post_init__", lambda self: (made(self), setattr(self, "probes", True))[0])
    config = tiny_run.tiny_config(tmp_path / "run", batch_labeled=4, batch_unlabeled=4)
    train(config)
    assert json.loads((tmp_path / "run/result.json").read_text())["accumulate"] == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "taken in 2 parts, as with --train.accumulate 2" in said


# Where nothing fits ---------------------------------------------------------------------------------------------------


def refusal(run: Trainer) -> str:
    with pytest.raises(MemoryShortError) as error:
        run.run()
    return str(error.value)


def test_parts_of_one_image_are_not_taken(tmp_path):
    message = refusal(run_of(tmp_path, short_of(1, method_of("prototype"))))
    assert "in 8 parts, a batch of 8 images leaves fewer than 2 for each" in message
    assert "with 2 and 2 images at a time" in message
    for repair in ("--network.checkpoint true", "--train.accumulate", "--augment.crop_height"):
        assert repair in message
    assert lines(tmp_path, "train") == []


def test_a_batch_that_has_no_equal_parts(tmp_path):
    run = run_of(tmp_path, short_of(1, method_of("prototype")))
    run.batches = lambda start: (tiny.batches(6, 6, seed=step) for step in range(start, 99))
    assert "a batch of 6 images has no 4 parts of one size" in refusal(run)


def test_memory_that_runs_out_later_is_told_with_the_last_checkpoint(tmp_path):
    run = run_of(tmp_path, short_of(2, method_of("supervised"), first=3), probes=False, checkpoint_every=1)
    message = refusal(run)
    assert "something else may be using its memory" in message
    assert message.endswith("last.pt")
    assert run.state.step == 3


def test_room_is_kept_for_the_optimizers_tensors(monkeypatch):
    method, made, empty_like = method_of("supervised"), [], torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda like: made.append(like) or empty_like(like))
    assert probe(lambda parts: None, method, tiny.clock(), [8], 1, slots=2) == 1
    trained = [id(each) for each in method.parameters() if each.requires_grad]
    assert sorted(map(id, made)) == sorted(2 * trained)


def test_what_did_not_fit_is_let_go():
    """The activations of a failed pass are not kept alive by its error."""
    method, kept = method_of("supervised"), []

    def passes(parts: int) -> None:
        output: SegmentationOutput = method.student(tiny.batches(8)[0].image)
        kept.append(weakref.ref(output.logits))
        if parts < 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert probe(passes, method, tiny.clock(), [8], 1, 0) == 4
    assert [reference() for reference in kept[:2]] == [None, None]


def test_everything_is_as_it_was_before():
    method, generator = method_of("prototype"), torch.Generator().manual_seed(3)
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    with undone(method, generator):
        drawn = torch.rand(2, generator=generator), torch.rand(2)
        for buffer in method.buffers():
            buffer.copy_(torch.ones_like(buffer))
        next(method.parameters()).grad = torch.ones_like(next(method.parameters()))
    same_tensors(method.state_dict(), state)
    assert all(parameter.grad is None for parameter in method.parameters())
    assert torch.rand(2, generator=generator).equal(drawn[0])
    assert torch.rand(2).equal(drawn[1])


def test_on_a_gpu_the_memory_is_given_back_and_the_peak_forgotten(monkeypatch):
    """`peak_bytes` of a result is what the run took, not what was tried and did not fit."""
    done = []
    with undone(method_of("supervised"), torch.Generator()):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        for name in ("empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda name=name: done.append(name))
    assert done == ["empty_cache", "reset_peak_memory_stats"]
