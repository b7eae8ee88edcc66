"""A run that is killed at any moment and resumed ends, bit by bit, as the one that was left alone."""

import json
import math
import multiprocessing
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import tiny_run
from support.equality import entries, same, same_tensors, step_of

from semiseg.config.recipe import Config
from semiseg.data import open_dataset
from semiseg.evaluation.same_classes import check_same_classes
from semiseg.training import experiment
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.finished import evaluate

RUNS = [
    ("prototype", 0),
    *(
        pytest.param(*run, marks=pytest.mark.slow)
        for run in (("prototype", 2), ("cutmix", 0), ("cutmix", 2), ("ael", 0), ("ael", 2))
    ),
]


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
        killed = process(tiny_run.train_and_die, config, rng.randrange(calls // 2, calls * 9 // 10))
        assert killed in (-signal.SIGKILL, 0)
        reached.append(step_of(config))
    assert reached == sorted(reached)
    assert reached[-1] > 0
    assert process(tiny_run.train_quietly, config) == 0
    same(config.run_folder, expected)


@pytest.mark.parametrize(
    ("method", "half"), [("prototype", True), pytest.param("cutmix", False, marks=pytest.mark.slow)]
)
def test_a_run_killed_in_every_write(process, reference, tmp_path, method, half):
    """Whole files are left by every kill, and every life gets on: the n-th dies in its second write, or third, ..."""
    expected, _ = reference(method)
    config = tiny_run.tiny_config(tmp_path / "run", method)
    reached = []
    for write in range(1, 8):
        assert process(tiny_run.train_and_die_writing, config, write, half) == -signal.SIGKILL
        reached.append(step_of(config))
    assert reached[:5] == [0] * 5  # owner, record, config, checkpoints of steps 0 and 3
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
    config = replace(finished, train=free, data=replace(finished.data, cache="memory"), network=network)
    before = load_checkpoint(config.run_folder / "checkpoints/last.pt")["method"]
    train(config, resume=True, console=tiny_run.QUIET)
    same_tensors(load_checkpoint(config.run_folder / "checkpoints/last.pt")["method"], before)


def left_alone(config: Config, pattern: str, **keywords) -> None:
    """Resuming is refused in words of `pattern`, and nothing in the folder is touched."""
    before = contents(config.run_folder)
    with pytest.raises(ValueError, match=pattern):
        train(config, resume=True, console=tiny_run.QUIET, **keywords)
    assert contents(config.run_folder) == before


def test_a_damaged_checkpoint_is_named_and_left(finished):
    last = finished.run_folder / "checkpoints/last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    left_alone(finished, r"checkpoints/last\.pt is damaged")


@pytest.mark.parametrize("best", [True, False])
def test_a_run_whose_checkpoint_is_gone_is_not_begun_anew(finished, best):
    checkpoints = finished.run_folder / "checkpoints"
    (checkpoints / "last.pt").unlink()
    if not best:
        (checkpoints / "best.pt").unlink()
    there = r"copy .*best\.pt there" if best else r"from a copy, or train again"
    left_alone(finished, rf"last\.pt is not there, but .*metrics\.jsonl is of a run, which would be lost: .*{there}")


def test_the_best_checkpoint_in_the_place_of_the_last_goes_on_from_there(reference, tmp_path):
    shutil.copytree(reference("ael")[0], tmp_path / "run")
    config = tiny_run.tiny_config(tmp_path / "run", "ael")
    checkpoints = config.run_folder / "checkpoints"
    shutil.copy(checkpoints / "best.pt", checkpoints / "last.pt")
    assert step_of(config) < 12
    train(config, resume=True, console=tiny_run.QUIET)
    same(config.run_folder, reference("ael")[0])


def test_a_damaged_line_of_the_record_is_named_and_nothing_is_dropped(finished):
    record = finished.run_folder / "metrics.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([*lines[:2], lines[2][:20] + b"\n", *lines[3:]]))
    left_alone(finished, r"metrics\.jsonl, line 3, is damaged: expected an object with kind and step")


CLASSES = [
    (lambda names: names[::-1], "line 1, class 0, was .*; the names are the same in another order"),
    (lambda names: ("fog", *names[1:]), "line 1, class 0, was 'ground' and is 'fog'"),
    (lambda names: (*names, "fog"), r"class \d+ \('fog'\), was added"),
    (lambda names: names[:-1], "is gone"),
]


@pytest.mark.parametrize(("change", "pattern"), CLASSES)
def test_classes_that_changed_their_meaning_are_refused(finished, monkeypatch, change, pattern):
    last = finished.run_folder / "checkpoints/last.pt"
    state = load_checkpoint(last)
    names = tuple(state["classes"]["names"])
    dataset = replace(open_dataset(finished.data, True), classes=change(names))
    with pytest.raises(ValueError, match=pattern):
        check_same_classes(state["classes"], dataset, finished.run_folder)
    monkeypatch.setattr(experiment, "open_dataset", lambda *_: replace(dataset, classes=change(names)))
    left_alone(finished, pattern)


def test_a_colour_that_another_class_has_now_is_refused(finished):
    saved = load_checkpoint(finished.run_folder / "checkpoints/last.pt")["classes"]
    dataset = open_dataset(finished.data, True)
    turned = replace(dataset, colors=dataset.colors[::-1])
    with pytest.raises(ValueError, match=r"class 0 \('ground'\), had the colour 74 84 70 and has"):
        check_same_classes(saved, turned, finished.run_folder)
    check_same_classes(saved, dataset, finished.run_folder)
    check_same_classes(None, turned, finished.run_folder)  # a run of before they were written down


def test_a_checkpoint_of_before_is_taken(finished):
    last = finished.run_folder / "checkpoints/last.pt"
    old = load_checkpoint(last)
    del old["classes"]
    for new in ("rows", "retreats", "first_steps"):
        del old["state"][new]
    torch.save(old, last)
    train(longer(finished, 14), resume=True, longer=True, console=tiny_run.QUIET)
    assert load_checkpoint(last)["state"]["first_steps"] == 12


def test_what_a_run_left_is_never_lost(finished):
    """Whatever of it is gone, as long as something is there."""
    (finished.run_folder / "checkpoints/last.pt").unlink()
    (finished.run_folder / "metrics.jsonl").unlink()
    left_alone(finished, r"last\.pt is not there, but .*best\.pt is of a run")
    (finished.run_folder / "checkpoints/best.pt").unlink()
    left_alone(finished, r"last\.pt is not there, but .*result\.json is of a run")
    (finished.run_folder / "result.json").unlink()
    left_alone(finished, r"last\.pt is not there, but .*model is of a run")


def test_a_lost_record_is_said(finished):
    (finished.run_folder / "metrics.jsonl").unlink()
    left_alone(finished, r"metrics\.jsonl is not there, the record of the steps before 12: .* or make an empty file")
    (finished.run_folder / "metrics.jsonl").touch()
    train(finished, resume=True, console=tiny_run.QUIET)


@pytest.mark.parametrize(("twice", "pattern"), [(1, "another train of step 2"), (4, "stands behind step")])
def test_a_line_that_stands_twice_is_named(finished, twice, pattern):
    record = finished.run_folder / "metrics.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([*lines[:twice], lines[0], *lines[twice:]]))
    left_alone(finished, rf"metrics\.jsonl, line {twice + 1}, is damaged: .*{pattern}")


def test_resuming_what_is_not_there_is_said(tmp_path, caplog):
    config = tiny_run.tiny_config(tmp_path / "typo", "supervised", steps=1)
    train(config, resume=True, longer=True, console=tiny_run.QUIET)
    assert "there is no run in" in caplog.text
    assert "it begins at step 0" in caplog.text
    caplog.clear()
    train(replace(config, run=tmp_path / "study"), resume=True, console=tiny_run.QUIET)  # as a comparison does
    assert "there is no run" not in caplog.text


@pytest.fixture
def with_best(reference, tmp_path) -> Config:
    """A copy of a finished run whose best step is not the last."""
    shutil.copytree(reference("ael")[0], tmp_path / "run")
    return tiny_run.tiny_config(tmp_path / "run", "ael")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda best: best["state"].update(step=4), "its step is 4, the run's best 5"),
        (lambda best: best["config"].update(seed=9), "seed was 9 and is 3"),
        (lambda best: best["split"]["labeled"].update(sha256="00"), "the labeled images are not the images of the run"),
        (lambda best: best["classes"]["names"].reverse(), "are not those of the run"),
        (lambda best: best["method"].popitem(), "does not fit this method and network"),
    ],
)
def test_the_best_checkpoint_of_another_run_makes_no_model(with_best, change, pattern):
    path = with_best.run_folder / "checkpoints/best.pt"
    best = load_checkpoint(path)
    change(best)
    torch.save(best, path)
    before = (with_best.run_folder / "model/model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=rf"best\.pt.*{pattern}|{pattern}.*best\.pt"):
        train(with_best, resume=True, console=tiny_run.QUIET)
    assert (with_best.run_folder / "model/model.safetensors").read_bytes() == before


def test_the_best_checkpoint_of_another_run_is_not_scored(with_best):
    path = with_best.run_folder / "checkpoints/best.pt"
    best = load_checkpoint(path)
    best["config"]["seed"] = 9
    torch.save(best, path)
    with pytest.raises(ValueError, match=r"best\.pt is not of this run: seed was 9 and is 3"):
        evaluate(with_best.run_folder, console=tiny_run.QUIET)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", -1), ("step", True), ("step", 10**9), ("best", math.nan), ("best_step", 99), ("seconds", math.inf),
        ("accumulate", "x"), ("retreats", -5), ("retreats", 99), ("first_steps", "a"), ("rows", [1]), ("rows", 5),
        ("rows", [(1, {"a": "x"}, [])]), ("rows", [(1, {"a": 1.0}, 5)]), ("nonsense", 1),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused(finished, field, value):
    last = finished.run_folder / "checkpoints/last.pt"
    state = load_checkpoint(last)
    state["state"][field] = value
    torch.save(state, last)
    left_alone(finished, r"last\.pt is (no checkpoint of this version|damaged)")


@pytest.mark.parametrize("split", [{}, {"labeled": 3, "unlabeled": 3, "val": 3}])
def test_lists_that_are_none_are_refused(finished, split):
    last = finished.run_folder / "checkpoints/last.pt"
    torch.save(load_checkpoint(last) | {"split": split}, last)
    left_alone(finished, r"last\.pt is damaged: its step is 12 of 12")


def test_without_its_best_checkpoint_the_last_step_makes_the_model_and_that_is_said(with_best):
    (with_best.run_folder / "checkpoints/best.pt").unlink()
    console = Console(file=StringIO(), width=1000)
    train(with_best, resume=True, console=console)
    assert "best.pt is not there: the weights of the last step stand for it" in console.file.getvalue()
    scores = json.loads((with_best.run_folder / "result.json").read_text())
    assert scores["best"] == scores["last"]


# Longer runs ---------------------------------------------------------------------------------------------------------


def train_lines(config: Config) -> list[dict]:
    return [entry for entry in entries(config.run_folder) if entry["kind"] == "train"]


def longer(config: Config, steps: int) -> Config:
    return replace(config, train=replace(config.train, steps=steps))


def test_a_finished_run_is_made_longer(finished):
    """The rate is that of the longer schedule, the warm-up is what it was, and nothing that was done is done again."""
    before, console = train_lines(finished), Console(file=StringIO(), width=1000)
    train(longer(finished, 20), resume=True, longer=True, console=console)
    said = console.file.getvalue()
    assert "resumed from step 12 of 20 (" in said
    assert "it was begun for 12 steps. The schedule is now of 20: the learning rate goes on at 0.0088 where" in said
    lines = train_lines(finished)
    assert lines[: len(before)] == before
    assert [line["step"] for line in lines[len(before) :]] == [14, 15, 16, 18, 20]
    for line in lines[len(before) :]:
        assert line["lr"] == pytest.approx(0.02 * (1 - (line["step"] - 1) / 20) ** 0.9)
        assert line["kept"] >= 0
    saved = load_checkpoint(finished.run_folder / "checkpoints/last.pt")
    assert (saved["state"]["step"], saved["state"]["first_steps"], saved["config"]["train"]["steps"]) == (20, 12, 20)
    assert json.loads((finished.run_folder / "result.json").read_text())["steps"] == 20
    train(longer(finished, 24), resume=True, longer=True, console=tiny_run.QUIET)  # and once more
    assert load_checkpoint(finished.run_folder / "checkpoints/last.pt")["state"]["first_steps"] == 12


def test_the_rate_that_is_said_is_the_rate_after_retreats(finished):
    last = finished.run_folder / "checkpoints/last.pt"
    state = load_checkpoint(last)
    state["state"]["retreats"] = 1
    torch.save(state, last)
    console = Console(file=StringIO(), width=1000)
    train(longer(finished, 20), resume=True, longer=True, console=console)
    assert "the learning rate goes on at 0.0044 where" in console.file.getvalue()
    assert train_lines(finished)[-1]["lr"] == pytest.approx(0.5 * 0.02 * (1 / 20) ** 0.9)


def test_a_longer_run_that_is_killed_goes_on_the_same(process, finished, tmp_path):
    shutil.copytree(finished.run_folder, tmp_path / "whole")
    whole = longer(replace(finished, run=tmp_path / "whole"), 20)
    train(whole, resume=True, longer=True, console=tiny_run.QUIET)
    assert process(tiny_run.train_and_die_writing, longer(finished, 20), 5, True) == -signal.SIGKILL
    assert 12 <= step_of(finished) < 20
    train(longer(finished, 20), resume=True, longer=True, console=tiny_run.QUIET)
    same(finished.run_folder, whole.run_folder)


def test_fewer_steps_and_unasked_length_are_refused(finished):
    left_alone(longer(finished, 6), r"train\.steps was 12 and is 6", longer=True)
    left_alone(longer(finished, 20), r"train\.steps was 12 and is 20")  # a comparison's, which would not be fair
