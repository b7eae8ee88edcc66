"""The loop: gradients, clock, schedule, record, and what it keeps."""

import pytest
import torch
from support import ranks
from support.tiny_trainer import SGD, Plain, lines, resumed, step_batches, trainer, weights

from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.keeping import State
from semiseg.training.optim import learning_rate
from semiseg.types import IGNORE, Clock

# Gradients and schedule -----------------------------------------------------------------------------------------------


def test_weights_follow_a_twin_that_spells_out_the_loop(tmp_path):
    run = trainer(tmp_path)
    run.run()
    twin, velocity = Plain(), {}
    for step in range(6):
        result = twin(*step_batches(step), Clock(step, 6, torch.Generator()))
        gradients = torch.autograd.grad(sum(result.losses.values()), list(twin.parameters()))
        rate = 0.1 * (1 - step / 6) ** 0.9
        with torch.no_grad():
            for (name, parameter), gradient in zip(twin.named_parameters(), gradients, strict=True):
                velocity[name] = 0.9 * velocity.get(name, 0) + gradient + 1e-3 * parameter
                parameter -= rate * (2 if "head" in name else 1) * velocity[name]
    torch.testing.assert_close(weights(run.method), weights(twin), rtol=1e-5, atol=1e-6)


def test_two_micro_batches_are_one_batch(tmp_path):
    whole, halves = trainer(tmp_path / "1", steps=3), trainer(tmp_path / "2", steps=3, accumulate=2)
    whole.run(), halves.run()
    torch.testing.assert_close(weights(halves.method), weights(whole.method), rtol=0, atol=1e-6)
    assert [call for call in halves.method.calls if call[1] == 1] == [("forward", 1)] * 2 + [("after_step", 1)]
    for step in range(3):
        parts = halves.method.seen[2 * step : 2 * step + 2]
        for found, expected in zip(zip(*parts, strict=True), step_batches(step), strict=True):
            for tensors, tensor in zip(list(zip(*found, strict=True))[:3], expected[:3], strict=True):
                assert torch.equal(torch.cat(tensors), tensor)


@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_with_fewer_labels_weigh_less(tmp_path, parts):
    """The first images have no label at all, the others fewer and fewer; the auxiliary head's loss counts alike."""
    gradients = []
    for number in (1, parts):
        method = ranks.method_of(ranks.SCENARIOS["supervised"])
        labeled, unlabeled = ranks.whole_batch(0)
        labeled.label[:2] = IGNORE
        run = trainer(tmp_path / str(number), method, accumulate=number)
        run.passes(labeled, unlabeled, run.clock(0), number)
        gradients.append([parameter.grad for parameter in method.student.parameters()])
    for one, several in zip(*gradients, strict=True):
        torch.testing.assert_close(several, one, rtol=1e-5, atol=1e-6)


def test_the_schedule_is_set_before_each_step(tmp_path):
    run = trainer(tmp_path)
    step = run.optimizer.step
    rates = []
    run.optimizer.step = lambda: (rates.append([group["lr"] for group in run.optimizer.param_groups]), step())
    run.run()
    expected = [[factor * 0.1 * (1 - i / 6) ** 0.9 for factor in (1, 2)] for i in range(6)]
    assert rates == [pytest.approx(pair) for pair in expected]


def test_bf16_is_for_the_networks_only(tmp_path):
    run = trainer(tmp_path, steps=1, precision="bf16")
    seen = []
    run.method.student["head"].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    run.run()
    assert seen == [torch.bfloat16] * 2
    assert {parameter.dtype for parameter in run.method.parameters()} == {torch.float32}


# Clock ----------------------------------------------------------------------------------------------------------------


def test_randomness_follows_from_seed_and_step_alone(tmp_path):
    first, second = trainer(tmp_path / "1"), trainer(tmp_path / "2")
    first.run()
    torch.manual_seed(99)
    second.run()
    assert first.method.drawn == second.method.drawn
    assert len(set(first.method.drawn)) == 6
    other = trainer(tmp_path / "3")
    other.seed = 6
    other.run()
    assert not set(other.method.drawn) & set(first.method.drawn)


def test_a_step_is_called_forward_then_after_step(tmp_path):
    run = trainer(tmp_path, steps=4)
    run.run()
    calls = [("forward", 0), ("after_step", 0), ("forward", 1), ("after_step", 1), ("forward", 2), ("after_step", 2)]
    assert run.method.calls == [*calls, ("prepare", 3), ("forward", 3), ("after_step", 3)]
    assert [batch.image.shape[0] for batch in run.method.prepared] == [1] * 4


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_prepare_comes_once_also_across_a_resume(tmp_path, stop):
    run = trainer(tmp_path, checkpoint_every=1)
    run.batches = lambda start: iter([step_batches(step) for step in range(start, stop)])
    with pytest.raises(StopIteration):
        run.run()
    again = resumed(tmp_path)
    again.run()
    calls = [call for call in run.method.calls + again.method.calls if call[0] == "prepare"]
    # Stopped behind the preparation of step 3 but before that step was saved, the run must prepare again.
    assert calls == [("prepare", 3)] * (2 if stop == 3 else 1)
    assert [call[1] for call in again.method.calls if call[0] == "forward"] == list(range(stop, 6))
    uninterrupted = trainer(tmp_path / "whole")
    uninterrupted.run()
    assert torch.equal(weights(again.method), weights(uninterrupted.method))


# Record ---------------------------------------------------------------------------------------------------------------


def test_a_line_holds_the_means_since_the_last(tmp_path):
    every, some = trainer(tmp_path / "1", log_every=1, steps=5), trainer(tmp_path / "2", log_every=2, steps=5)
    every.run(), some.run()
    single, found = lines(tmp_path / "1", "train"), lines(tmp_path / "2", "train")
    assert [entry["step"] for entry in single] == [1, 2, 3, 4, 5]
    assert [entry["step"] for entry in found] == [2, 4, 5]
    for entry, parts in zip(found, (single[0:2], single[2:4], single[4:5]), strict=True):
        for name in ("supervised", "consistency"):
            assert entry[name] == pytest.approx(sum(part[name] for part in parts) / len(parts), rel=1e-6)
    assert "kept" not in found[0]
    assert found[1]["kept"] == pytest.approx((0.2 + 0.3) / 2)
    assert [entry["lr"] for entry in found] == pytest.approx([learning_rate(i, 5, SGD) for i in (1, 3, 4)])


def test_micro_batches_enter_the_means_one_by_one(tmp_path):
    whole, halves = trainer(tmp_path / "1", steps=2), trainer(tmp_path / "2", steps=2, accumulate=2)
    whole.run(), halves.run()
    expected, found = lines(tmp_path / "1", "train"), lines(tmp_path / "2", "train")
    assert found[0]["supervised"] == pytest.approx(expected[0]["supervised"], rel=1e-5)


def test_a_checkpoint_falls_behind_a_line(tmp_path):
    """So the line after it averages the same steps whether the run went on or was resumed there."""
    trainer(tmp_path, steps=7, log_every=5, checkpoint_every=3).run()
    assert [entry["step"] for entry in lines(tmp_path, "train")] == [3, 5, 6, 7]


# Best and last --------------------------------------------------------------------------------------------------------


def test_the_best_evaluation_and_the_last_step_are_kept(tmp_path):
    run = trainer(tmp_path, steps=7, evaluate_every=2, scores=[30, 45, 45, 40])
    state = run.run()
    assert (state.best, state.best_step, state.step) == (45, 4, 7)
    best, last = (load_checkpoint(tmp_path / f"checkpoints/{name}.pt") for name in ("best", "last"))
    assert (best["state"]["step"], best["state"]["best"]) == (4, 45)
    assert (last["state"]["step"], last["state"]["best"], last["state"]["best_step"]) == (7, 45, 4)
    assert [(entry["step"], entry["miou"]) for entry in lines(tmp_path, "evaluation")] == [
        (2, 30), (4, 45), (6, 45), (7, 40)
    ]  # fmt: skip
    at_four = trainer(tmp_path / "other", steps=7, evaluate_every=2, scores=[30, 45, 45, 40])
    at_four.batches = lambda _: iter([step_batches(step) for step in range(4)])
    with pytest.raises(StopIteration):
        at_four.run()
    saved = torch.cat([best["method"][name].flatten() for name, _ in run.method.named_parameters()])
    assert torch.equal(saved, weights(at_four.method))


def test_a_resumed_run_remembers_its_best(tmp_path):
    """U2PL wrote the best score into the checkpoint before it was updated."""
    run = trainer(tmp_path, evaluate_every=2, scores=[70])
    run.batches = lambda _: iter([step_batches(step) for step in range(2)])
    with pytest.raises(StopIteration):
        run.run()
    again = resumed(tmp_path, evaluate_every=2, scores=[60, 65])
    assert (again.run().best, again.state.best_step) == (70, 2)
    assert load_checkpoint(tmp_path / "checkpoints/best.pt")["state"]["step"] == 2


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    trainer(tmp_path).run()
    before = (tmp_path / "metrics.jsonl").read_text()
    again = resumed(tmp_path)
    assert again.run().step == 6
    assert again.method.calls == []
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_time_is_that_of_the_run_without_its_interruptions(tmp_path):
    state = trainer(tmp_path, state=State(seconds=1000.0)).run()
    assert 1000 < state.seconds < 1010
