"""A device whose memory is too small: smaller parts in the first steps, to the bit, and a clear error later."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import tiny, tiny_run
from support.tiny_trainer import lines, resumed, trainer
from test_contract import ON_A_VIT, STEPS, VARIANTS, WARMUP, method_of
from test_resume import same_tensors

from semiseg.methods import METHODS
from semiseg.methods.method import Method
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.progress import Progress
from semiseg.training import memory
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.memory import FIRST_STEPS, Before, MemoryShortError
from semiseg.training.trainer import State, Trainer
from semiseg.types import LabeledBatch, SegmentationOutput, UnlabeledBatch

BATCH = 8  # labelled images of a step, and as many unlabelled ones


def eights(start: int, last: int = 99) -> Iterator[tuple[LabeledBatch, UnlabeledBatch]]:
    return (tiny.batches(BATCH, BATCH, seed=step) for step in range(start, last))


def short_of(room: int, method: Method, first: int = 0, call: int = 1) -> Method:
    """From step `first` on, the method's device has no memory for more than `room` labelled images at a time.

    It runs out in the `call`-th pass of an attempt that is too large, behind the student's decoder: statistics
    have moved and dropout has drawn by then, and passes before it have left gradients.
    """
    seen = {"step": -1, "images": 0, "calls": 0}

    def begin(_: Method, arguments: tuple) -> None:
        labeled, _, clock = arguments
        images = len(labeled.image)
        again = (seen["step"], seen["images"]) == (clock.step, images)
        seen.update(step=clock.step, images=images, calls=seen["calls"] + 1 if again else 1)

    def run_out(*_: object) -> None:
        if seen["step"] >= first and seen["images"] > room and seen["calls"] == call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    method.register_forward_pre_hook(begin)
    method.student.decoder.register_forward_hook(run_out)
    return method


def run_of(folder: Path, method: Method, state: State | None = None, **train) -> Trainer:
    run = trainer(folder, method, state, **{"steps": STEPS, "log_every": 1, **train})
    run.batches = eights
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


# A step that is taken back --------------------------------------------------------------------------------------------

ON_A_CNN = [name for name in VARIANTS if not name.endswith(ON_A_VIT)]


@pytest.mark.parametrize("variant", ON_A_CNN)
def test_a_run_that_is_short_from_the_start_equals_one_in_smaller_parts(tmp_path, variant):
    """It runs out in the second of two micro-batches; the same numbers are logged, those of the attempt are not."""
    run = run_of(tmp_path / "short", short_of(2, method_of(variant), call=2), accumulate=2)
    run.run()
    expected = run_of(tmp_path / "parts", method_of(variant), accumulate=4)
    expected.run()
    assert (run.state.accumulate, expected.state.accumulate) == (4, None)
    same_runs(run, expected)
    assert trained_lines(tmp_path / "short") == trained_lines(tmp_path / "parts")


@pytest.mark.parametrize("variant", [name for name in METHODS if name != "supervised"])
def test_a_run_that_is_short_with_unlabelled_images_goes_on_from_there_in_smaller_parts(tmp_path, variant):
    """The step behind `prepare`, which has drawn from the same generator."""
    run = run_of(tmp_path / "short", short_of(2, method_of(variant), first=WARMUP, call=2), accumulate=2)
    run.run()
    expected = run_of(tmp_path / "parts", method_of(variant), accumulate=2)
    prepare = expected.method.prepare

    def prepare_and_halve(*arguments) -> None:
        prepare(*arguments)
        expected.state.accumulate = 4

    expected.method.prepare = prepare_and_halve
    expected.run()
    same_runs(run, expected)
    assert trained_lines(tmp_path / "short") == trained_lines(tmp_path / "parts")
    assert [(entry["step"], entry["accumulate"]) for entry in lines(tmp_path / "short", "memory")] == [(WARMUP + 1, 4)]


def test_parts_are_halved_until_they_fit_and_it_is_said_once(tmp_path):
    run = run_of(tmp_path, short_of(2, method_of("prototype")))
    run.progress = Progress("test", STEPS, console=Console(record=True, width=300))
    run.run()
    assert run.state.accumulate == 4
    said = [line for line in run.progress.console.export_text().splitlines() if "memory" in line]
    assert len(said) == 1
    assert "step 1 did not fit into the device's memory: from here on as with --train.accumulate 4" in said[0]
    assert [(entry["step"], entry["accumulate"]) for entry in lines(tmp_path, "memory")] == [(1, 4)]


@pytest.mark.parametrize("stop", [1, WARMUP + 1, 5])
def test_it_resumes_exactly_with_the_options_it_was_started_with(tmp_path, stop):
    method = short_of(2, method_of("prototype"))
    run = run_of(tmp_path / "short", method, checkpoint_every=1)
    run.batches = lambda start: eights(start, stop)
    with pytest.raises(StopIteration):
        run.run()
    assert load_checkpoint(tmp_path / "short/checkpoints/last.pt")["state"]["accumulate"] == 4

    again = resumed(tmp_path / "short", method_of("prototype", seed=9), steps=STEPS, log_every=1, checkpoint_every=1)
    again.batches, images = eights, []
    again.method.register_forward_pre_hook(lambda _, arguments: images.append(len(arguments[0].image)))
    again.run()
    assert set(images) == {2}
    whole = run_of(tmp_path / "whole", short_of(2, method_of("prototype")), checkpoint_every=1)
    whole.run()
    same_runs(again, whole)
    assert trained_lines(tmp_path / "short") == trained_lines(tmp_path / "whole")
    assert len(lines(tmp_path / "short", "memory")) == 1


def test_the_first_steps_of_a_resumed_run_may_be_halved_too(tmp_path):
    """On another device, say; long after the run began."""
    first = FIRST_STEPS + 5
    run = run_of(tmp_path, short_of(4, method_of("supervised"), first), State(step=first), steps=first + 2)
    run.run()
    assert run.state.accumulate == 2


def test_a_run_that_fits_is_what_it_was(tmp_path):
    run, expected = (run_of(tmp_path / name, method_of("prototype")) for name in ("1", "2"))
    expected._starts = []  # nothing is remembered, and nothing taken back
    run.run(), expected.run()
    same_runs(run, expected)
    assert run.state.accumulate is None
    assert lines(tmp_path / "1", "memory") == []


def test_the_memory_of_an_attempt_is_free_before_the_next(tmp_path):
    method, alive, left = short_of(4, method_of("supervised")), [], []
    method.register_forward_pre_hook(lambda *_: left.append([ref() for ref in alive]))
    method.student.decoder.register_forward_hook(lambda *call: alive.append(weakref.ref(call[2][1])), prepend=True)
    run = run_of(tmp_path, method, steps=1)
    gc.disable()  # what the collector would find by chance does not count
    try:
        run.run()
    finally:
        gc.enable()
    assert left[:2] == [[], [None]]


def test_the_result_says_in_how_many_parts_a_run_was_trained(tmp_path, monkeypatch):
    """A whole run, of 4 + 4 images where there is room for 4; and `--resume` finds nothing else to complain of."""
    forward = Segmentor.forward

    def short(self: Segmentor, image: torch.Tensor) -> SegmentationOutput:
        if self.training and len(image) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, image)

    monkeypatch.setattr(Segmentor, "forward", short)
    config = tiny_run.tiny_config(tmp_path / "run", batch_labeled=4, batch_unlabeled=4)
    train(config, console=tiny_run.QUIET)
    train(config, resume=True, console=tiny_run.QUIET)
    assert json.loads((config.run_folder / "result.json").read_text())["accumulate"] == 2
    (entry,) = lines(config.run_folder, "memory")
    first = round(0.4 * 12)  # its warm-up takes 4 images at a time
    assert (entry["step"], entry["accumulate"]) == (first + 1, 2)


# Where it cannot be taken back ----------------------------------------------------------------------------------------


def refusal(run: Trainer) -> str:
    with pytest.raises(MemoryShortError) as caught:
        run.run()
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    message = str(caught.value)
    for repair in ("--network.checkpoint true", "--train.accumulate", "--augment.crop_height"):
        assert repair in message
    return message


def test_a_batch_that_has_no_two_equal_parts(tmp_path):
    run = run_of(tmp_path, short_of(1, method_of("supervised")), batch_labeled=6, batch_unlabeled=6)
    run.batches = lambda start: (tiny.batches(6, 6, seed=step) for step in range(start, 9))
    message = refusal(run)
    assert "too small for step 1 with 3 and 3 images at a time: a batch of 6 images has no 4 parts of one" in message
    assert message.endswith("No checkpoint was written before")


def test_parts_of_one_image_are_not_taken(tmp_path):
    """The decoder's image pooling would normalise one number by itself."""
    message = refusal(run_of(tmp_path, short_of(1, method_of("prototype"))))
    assert "with 2 and 2 images at a time: in 8 parts, a batch of 8 images leaves fewer than 2 for each" in message


def test_the_smaller_of_two_batches_decides(tmp_path):
    run = run_of(tmp_path, short_of(1, method_of("prototype")))
    run.batches = lambda start: (tiny.batches(4, 8, seed=step) for step in range(start, 9))
    assert "with 2 and 4 images at a time: in 4 parts, a batch of 4 images leaves" in refusal(run)


def test_later_than_the_first_steps(tmp_path):
    late = FIRST_STEPS + 2
    run = run_of(tmp_path, short_of(4, method_of("supervised"), late), steps=late + 3, checkpoint_every=5)
    message = refusal(run)
    assert f"for step {late + 1} with 8 and 8 images at a time: steps of this size did fit before" in message
    assert message.endswith(f"The last good checkpoint is {tmp_path / 'checkpoints/last.pt'}")
    assert load_checkpoint(tmp_path / "checkpoints/last.pt")["state"]["step"] == 10


@pytest.mark.parametrize(("step", "halves"), [(FIRST_STEPS - 1, True), (FIRST_STEPS, False), (14, False), (15, True)])
def test_which_steps_are_the_first(tmp_path, step, halves):
    """Those of the process, and those from `prepare_at` on, here 15."""
    method = short_of(4, method_of("prototype"), step)
    method.prepare_at = 15
    run = run_of(tmp_path, method, steps=40)
    run.batches = lambda start: eights(start, 30)
    with pytest.raises(StopIteration if halves else MemoryShortError):
        run.run()


def test_of_several_processes_none_decides_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "world_size", lambda: 2)
    message = refusal(run_of(tmp_path, short_of(4, method_of("supervised"))))
    assert "of several processes none can take smaller parts than the others" in message


def test_an_optimizer_that_finds_no_room_is_not_repeated(tmp_path):
    """Some weights may have moved already."""
    run = run_of(tmp_path, method_of("supervised"))

    def run_out() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    run.optimizer.step = run_out
    assert "it ran out behind the passes, where smaller parts are no help" in refusal(run)
    assert run.state.accumulate is None


def test_other_errors_are_what_they_were(tmp_path):
    run = run_of(tmp_path, method_of("supervised"))
    run.method.student.register_forward_hook(fail(RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        run.run()


def fail(error: Exception) -> Callable:
    def hook(*_: object) -> None:
        raise error

    return hook


# What is taken back ---------------------------------------------------------------------------------------------------


def test_buffers_generators_and_gradients_come_back():
    method, generator = method_of("prototype"), torch.Generator().manual_seed(3)
    torch.manual_seed(4)
    generator.get_state(), torch.rand(2)
    before = Before.of(method, generator)
    values = {name: buffer.clone() for name, buffer in method.named_buffers()}
    assert "prototypes.sums" in values  # what a step puts aside for `after_step` too
    drawn = torch.rand(3), torch.rand(3, generator=generator)
    for buffer in method.buffers():
        buffer.fill_(1)
    for parameter in method.student.parameters():
        parameter.grad = torch.ones_like(parameter)
    before.restore()
    same_tensors(dict(method.named_buffers()), values)
    assert all(parameter.grad is None for parameter in method.parameters())
    assert torch.equal(torch.rand(3), drawn[0])
    assert torch.equal(torch.rand(3, generator=generator), drawn[1])
