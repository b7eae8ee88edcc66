"""Where a run stops before its end: Ctrl-C, and losses or weights that are not finite."""

import json
from pathlib import Path

import pytest
import torch
from support.tiny_trainer import Plain, lines, resumed, trainer, weights
from torch import Tensor

from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.keeping import NonFiniteError
from semiseg.training.trainer import Trainer
from semiseg.types import Clock


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


def test_before_the_first_checkpoint_there_is_none_to_name(tmp_path):
    run, message = poisoned(tmp_path, 0, log_every=1)
    assert "is not finite at step 1. No checkpoint was written before." in message
    assert not run.folder.exists()


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
