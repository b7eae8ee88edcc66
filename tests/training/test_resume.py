"""A run that is killed at any moment and resumed ends, bit by bit, as the one that was left alone."""

import multiprocessing
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_run
from support.equality import entries, same, same_tensors, step_of

from semiseg.config.recipe import Config
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train

RUNS = [("prototype", 0), ("prototype", 2), ("cutmix", 0), ("cutmix", 2), ("ael", 0), ("ael", 2)]


@pytest.fixture(scope="module")
def process() -> Callable[..., int | None]:
    """Call a function in a process of its own; gives its exit code. The server has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.tiny_run", "torch._dynamo"])  # torch imports the latter in its first step

    def call(function: Callable, *arguments: object) -> int | None:
        child = context.Process(target=function, args=arguments)
        child.start()
        child.join()
        return child.exitcode

    return call


@pytest.fixture(scope="module")
def reference(process, tmp_path_factory) -> Callable[[str], tuple[Path, int]]:
    """By method, the folder of a run that was left alone, and how many Python calls it took."""
    done: dict[str, tuple[Path, int]] = {}

    def run(method: str) -> tuple[Path, int]:
        if method not in done:
            folder = tmp_path_factory.mktemp("reference") / method
            calls = folder.with_suffix(".calls")
            assert process(tiny_run.count_calls, tiny_run.tiny_config(folder, method), calls) == 0
            done[method] = folder, int(calls.read_text())
        return done[method]

    return run


@pytest.mark.parametrize(("method", "workers"), RUNS)
def test_a_run_killed_at_random_moments(process, reference, tmp_path, method, workers):
    expected, calls = reference(method)
    config = tiny_run.tiny_config(tmp_path / "run", method, workers=workers)
    rng, reached = random.Random(f"{method} {workers}"), []
    for _ in range(3):
        killed = process(tiny_run.train_and_die, config, rng.randrange(calls // 3, calls * 2 // 3))
        assert killed in (-signal.SIGKILL, 0)
        reached.append(step_of(config))
    assert reached == sorted(reached)
    assert reached[-1] > 0
    assert process(tiny_run.train_quietly, config) == 0
    same(config.run_folder, expected)


@pytest.mark.parametrize(("method", "half"), [("prototype", True), ("cutmix", False)])
def test_a_run_killed_in_every_write(process, reference, tmp_path, method, half):
    """Whole files are left by every kill, and every life gets on: the n-th dies in its second write, or third, ..."""
    expected, _ = reference(method)
    config = tiny_run.tiny_config(tmp_path / "run", method)
    reached = []
    for write in (1, 2, 3, 4):
        assert process(tiny_run.train_and_die_writing, config, write, half) == -signal.SIGKILL
        reached.append(step_of(config))
    assert reached[:2] == [0, 0]  # in the record's first write, and in the first checkpoint's
    assert reached == sorted(reached)
    assert 0 < reached[-1] <= 12
    assert process(tiny_run.train_quietly, config) == 0
    same(config.run_folder, expected)


def test_the_reference_does_what_can_go_wrong(reference):
    """Warm-up ends on the way, pseudo-labels teach, prototypes move: else the runs above prove little."""
    for method in ("prototype", "cutmix"):
        folder, _ = reference(method)
        lines = [entry for entry in entries(folder) if entry["kind"] == "train"]
        kept = [entry["kept"] for entry in lines if "kept" in entry]
        assert "kept" not in lines[0]
        assert max(kept) > 0
        state = load_checkpoint(folder / "checkpoints/last.pt")["method"]
        assert state["started"]
        student, teacher = (state[f"{part}.decoder.classifier.0.weight"] for part in ("student", "teacher.segmentor"))
        assert not torch.equal(student, teacher)


# What --resume accepts, and what it does not --------------------------------------------------------------------------


@pytest.fixture
def finished(reference, tmp_path) -> Config:
    """A copy of the finished run, to be written to."""
    shutil.copytree(reference("cutmix")[0], tmp_path / "run")
    return tiny_run.tiny_config(tmp_path / "run", "cutmix")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_existing_run_is_not_overwritten(finished):
    before = contents(finished.run_folder)
    with pytest.raises(ValueError, match=r"run already holds a run: go on with it by --resume, choose another folder"):
        train(finished, console=tiny_run.QUIET)
    assert contents(finished.run_folder) == before


def test_a_run_that_was_stopped_before_its_first_checkpoint_is_not_overwritten_either(finished):
    shutil.rmtree(finished.run_folder / "checkpoints")
    with pytest.raises(ValueError, match="already holds a run"):
        train(finished, console=tiny_run.QUIET)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"seed": 4}, r"other options: seed was 3 and is 4\. Resume with the same, or use another --run"),
        ({"optim": {"lr": 0.5}}, r"optim\.lr was 0\.02 and is 0\.5"),
        ({"train": {"steps": 24, "batch_labeled": 4}}, r"steps was 12 and is 24, train\.batch_labeled was 2 and is 4"),
        ({"method_options": {"threshold": 0.9}}, r"method\.threshold was 0\.18 and is 0\.9"),
        ({"data": {"pad_label": 0}}, r"data\.pad_label was 255 and is 0"),
    ],
)  # fmt: skip
def test_other_options_are_refused_by_name(finished, change, pattern):
    before = contents(finished.run_folder)
    parts = {
        key: replace(getattr(finished, key), **new) if isinstance(new, dict) else new for key, new in change.items()
    }
    with pytest.raises(ValueError, match=pattern):
        train(replace(finished, **parts), resume=True, console=tiny_run.QUIET)
    assert contents(finished.run_folder) == before


def test_another_method_is_refused(finished):
    with pytest.raises(ValueError, match=r"method\.name was 'cutmix' and is 'prototype'"):
        train(tiny_run.tiny_config(finished.run_folder, "prototype"), resume=True, console=tiny_run.QUIET)


def test_what_does_not_touch_the_weights_may_change(finished):
    free = replace(finished.train, workers=1, log_every=7, checkpoint_every=100)
    network = replace(finished.network, checkpoint=True)
    config = replace(finished, train=free, data=replace(finished.data, cache=True), network=network)
    before = load_checkpoint(config.run_folder / "checkpoints/last.pt")["method"]
    train(config, resume=True, console=tiny_run.QUIET)
    same_tensors(load_checkpoint(config.run_folder / "checkpoints/last.pt")["method"], before)


def test_a_damaged_checkpoint_is_named_and_left(finished):
    last = finished.run_folder / "checkpoints/last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    before = contents(finished.run_folder)
    with pytest.raises(ValueError, match=r"checkpoints/last\.pt is damaged"):
        train(finished, resume=True, console=tiny_run.QUIET)
    assert contents(finished.run_folder) == before
