"""Where a run stops before its end, or goes back: signals, minutes, losses or weights that are not finite."""

import json
import signal
from pathlib import Path

import pytest
import torch
from support.tiny_trainer import SGD, Plain, lines, resumed, step_batches, trainer, weights
from torch import Tensor

from semiseg.runtime.stopping import Stopped
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.keeping import NonFiniteError
from semiseg.training.optim import build_optimizer, learning_rate, set_learning_rate
from semiseg.training.trainer import Trainer
from semiseg.types import Clock, StepResult


def test_ctrl_c_leaves_a_run_that_goes_on_as_if_nothing_was(tmp_path):
    run = trainer(tmp_path, checkpoint_every=2)
    after_step = run.method.after_step

    def interrupt(clock: Clock) -> None:
        after_step(clock)
        if clock.step == 4:
            raise KeyboardInterrupt

    run.method.after_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.run()
    again, uninterrupted = resumed(tmp_path, checkpoint_every=2), trainer(tmp_path / "whole", checkpoint_every=2)
    assert again.state.step == 4
    again.run(), uninterrupted.run()
    assert torch.equal(weights(again.method), weights(uninterrupted.method))
    drop = {"seconds": 0}
    assert [e | drop for e in lines(tmp_path, "train")] == [e | drop for e in lines(tmp_path / "whole", "train")]


class BadGradient(Plain):
    """A loss that is finite while its gradient is not."""

    def poisoned(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        zero = self.student["head"].bias.sum() * 0
        return losses | {"consistency": zero.abs().sqrt()}  # 0, with a slope of 0 x infinity


def poisoned(folder: Path, step: int, kind: type[Plain] = Plain, **train) -> tuple[Trainer, str]:
    """A run whose losses go bad in step `step`, counted from 0, and what it says."""
    method = kind()
    method.poison = step
    run = trainer(folder, method, **train)
    with pytest.raises(NonFiniteError) as caught:
        run.run()
    return run, str(caught.value)


@pytest.mark.parametrize(("checkpoint_every", "log_every"), [(2, 1), (2, 100), (1, 100)])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, checkpoint_every, log_every):
    _, message = poisoned(tmp_path, 4, checkpoint_every=checkpoint_every, log_every=log_every)
    last = tmp_path / "checkpoints/last.pt"
    assert message.startswith(f"the loss supervised is not finite at step 5. The last good checkpoint is {last}. ")
    assert "--optim.lr" in message
    saved = load_checkpoint(last)
    assert saved["state"]["step"] == 4
    assert all(tensor.isfinite().all() for tensor in saved["method"].values())
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert lines(tmp_path, "train")[-1]["step"] == 4


def test_there_is_a_checkpoint_before_the_first_step(tmp_path):
    _, message = poisoned(tmp_path, 0, log_every=1)
    assert f"is not finite at step 1. The last good checkpoint is {tmp_path / 'checkpoints/last.pt'}. " in message
    assert "--resume --train.on_nonfinite retreat" in message
    saved = load_checkpoint(tmp_path / "checkpoints/last.pt")
    assert saved["state"]["step"] == 0
    assert torch.equal(saved["method"]["student.head.bias"], Plain().student["head"].bias)


def test_a_step_that_ruins_the_weights_is_not_saved(tmp_path):
    """The gradient overflows in the very step behind which a checkpoint is due; the losses were all finite."""
    _, message = poisoned(tmp_path, 3, BadGradient, checkpoint_every=2, log_every=1)
    last = tmp_path / "checkpoints/last.pt"
    assert message.startswith(f"student.head.bias is not finite after step 4. The last good checkpoint is {last}")
    saved = load_checkpoint(last)
    assert saved["state"]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in saved["method"].values())


def test_the_best_checkpoint_is_never_a_bad_one(tmp_path):
    _, message = poisoned(tmp_path, 3, evaluate_every=2, log_every=100, scores=[10, 99])
    assert "the loss supervised is not finite at step 4" in message
    assert load_checkpoint(tmp_path / "checkpoints/best.pt")["state"]["best"] == 10


# Back to the last good checkpoint ------------------------------------------------------------------------------------


class Fragile(Plain):
    """Its loss is not finite in step 4 while the rate there is above `limit`."""

    limit = 0.0

    def forward(self, labeled, unlabeled, clock):
        result = super().forward(labeled, unlabeled, clock)
        rate = self.optimizer.param_groups[0]["lr"]
        if clock.step == 4 and rate > self.limit:
            return StepResult(self.poisoned(result.losses), result.stats)
        return result


def fragile(folder: Path, share: float, **train) -> Trainer:
    """A run that stands `share` of the rate of step 4."""
    run = trainer(folder, Fragile(), **{"log_every": 1, "checkpoint_every": 3, "on_nonfinite": "retreat", **train})
    run.method.optimizer, run.method.limit = run.optimizer, share * learning_rate(4, 6, SGD) * 1.0001
    return run


@pytest.mark.parametrize(("share", "retreats"), [(1, 0), (0.5, 1), (0.25, 2), (0.125, 3)])
def test_retreats_halve_the_rate_from_the_last_checkpoint_on(tmp_path, share, retreats):
    """Held against the steps by hand: three at the whole rate, three at what is left of it."""
    run = fragile(tmp_path, share)
    run.run()
    method, factor = Plain(), 0.5**retreats
    optimizer = build_optimizer(method.parameter_groups(), SGD)
    for step in range(6):
        set_learning_rate(optimizer, learning_rate(step, 6, SGD) * (1 if step < 3 else factor))
        method(*step_batches(step), run.clock(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(weights(run.method), weights(method))
    assert run.state.retreats == retreats
    told = lines(tmp_path, "retreat")
    assert [(entry["step"], entry["from"], entry["rate_factor"]) for entry in told][-1:] == [(3, 5, factor)][:retreats]
    assert [entry["step"] for entry in lines(tmp_path, "train")] == [1, 2, 3, 4, 5, 6]
    rates = [entry["lr"] for entry in lines(tmp_path, "train")]
    assert rates == [learning_rate(step, 6, SGD) * (1 if step < 3 else factor) for step in range(6)]


def test_after_three_retreats_the_run_stops_and_says_that_the_rate_is_not_the_cause(tmp_path):
    with pytest.raises(NonFiniteError, match=r"at step 5\. .* was halved 3 times, so it is not the cause"):
        fragile(tmp_path, 0.01).run()
    assert load_checkpoint(tmp_path / "checkpoints/last.pt")["state"]["retreats"] == 3


def test_a_retreat_survives_an_interruption(tmp_path):
    whole = fragile(tmp_path / "whole", 0.5)
    whole.run()
    run = fragile(tmp_path / "run", 0.5)
    run.batches = lambda start, batches=run.batches: stopping(run, batches(start), 4 if run.state.retreats else None)
    with pytest.raises(Stopped):
        run.run()
    again = resumed(tmp_path / "run", Fragile(), log_every=1, checkpoint_every=3, on_nonfinite="retreat")
    again.method.optimizer, again.method.limit = again.optimizer, run.method.limit
    assert (again.state.step, again.state.retreats) == (5, 1)
    again.run()
    assert torch.equal(weights(again.method), weights(whole.method))


# Signals and minutes -------------------------------------------------------------------------------------------------


def stopping(run: Trainer, batches, at: int | None):
    """The batches; with the one of step `at` comes a signal."""
    for step, batch in enumerate(batches, run.state.step):
        if step == at:
            run.stop.number = signal.SIGTERM
        yield batch


@pytest.mark.parametrize("at", range(6))
def test_a_signal_saves_the_step_it_came_in_and_the_resumed_run_is_the_whole_one(tmp_path, at):
    """Between two lines of the record, too: what is averaged in them is the same."""
    whole = trainer(tmp_path / "whole", log_every=4, checkpoint_every=100, evaluate_every=5)
    whole.run()
    run = trainer(tmp_path / "run", log_every=4, checkpoint_every=100, evaluate_every=5)
    run.batches = lambda start, batches=run.batches: stopping(run, batches(start), at)
    with pytest.raises(Stopped) as caught:
        run.run()
    assert caught.value.number == signal.SIGTERM
    again = resumed(tmp_path / "run", log_every=4, checkpoint_every=100, evaluate_every=5)
    assert again.state.step == at + 1
    again.run()
    assert torch.equal(weights(again.method), weights(whole.method))
    for kind in ("train", "evaluation"):
        pair = [lines(tmp_path / name, kind) for name in ("whole", "run")]
        for entry in [*pair[0], *pair[1]]:
            entry.pop("seconds", None)
        assert pair[0] == pair[1] != []


def test_a_checkpoint_is_written_when_minutes_ask_for_one(tmp_path):
    run, saved = trainer(tmp_path, log_every=100, checkpoint_every=100), []
    run.keeper.minutes = 5
    keep, run.keeper.save = (
        run.keeper.save,
        lambda name, *rest: (saved.append((name, run.state.step)), keep(name, *rest)),
    )

    def batches(start: int, of=run.batches):
        for step, batch in enumerate(of(start), start):
            if step in (1, 3):
                run.keeper.saved_at -= 301
            yield batch

    run.batches = batches
    run.run()
    assert saved == [("last.pt", 0), ("last.pt", 2), ("last.pt", 4), ("best.pt", 6), ("last.pt", 6)]
