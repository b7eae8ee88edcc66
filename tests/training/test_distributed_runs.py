"""Whole runs of two processes: files, loader, BatchNorm and all. Killed and resumed they end with the same bits."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import tiny_run
from support.equality import same, step_of
from support.ranks import in_ranks

from semiseg.config.recipe import Config, load_config
from semiseg.runtime.distributed import rank
from semiseg.runtime.files import plain
from semiseg.training.agreement import check_agreement
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.experiment import train
from semiseg.training.record import read_record


def config_of(folder: Path, **options) -> Config:
    """Two labelled and two unlabelled images for each process, which BatchNorm needs."""
    return tiny_run.tiny_config(folder, "prototype", batch_labeled=4, batch_unlabeled=4, **options)


def count_calls(config: Config) -> int:
    """Train to the end; how many Python calls that took."""
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    tiny_run.train_quietly(config)
    sys.setprofile(None)
    return next(calls)


def train_until_one_dies(config: Config, victim: int, calls: int) -> None:
    """Train; at its `calls`-th Python call one process is killed."""
    if rank() == victim:
        tiny_run.train_and_die(config, calls)
    tiny_run.train_quietly(config)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[Path, int]:
    """The folder of a run of two processes that was left alone, and how many calls one of them took."""
    folder = tmp_path_factory.mktemp("reference")
    calls = in_ranks(2, folder / "group", count_calls, config_of(folder / "run"))
    assert None not in calls, [file.read_text() for file in folder.glob("group/*.txt")]
    return folder / "run", min(calls)


def test_a_run_whose_processes_are_killed_and_resumed_ends_with_the_same_bits(reference, tmp_path):
    expected, calls = reference
    config, reached = config_of(tmp_path / "run", workers=1), []
    for victim, part in ((0, 0.8), (1, 0.7)):
        found = in_ranks(2, tmp_path / f"killed{victim}", train_until_one_dies, config, victim, int(part * calls))
        assert found[victim] is None
        reached.append(step_of(config))
    assert reached[0] < 12
    assert reached[-1] > 0
    in_ranks(2, tmp_path / "resumed", tiny_run.train_quietly, config)
    same(config.run_folder, expected)


def test_the_run_folder_is_as_of_one_process(reference, tmp_path):
    folder, _ = reference
    alone = config_of(tmp_path / "alone")
    train(alone, console=tiny_run.QUIET)
    files = [sorted(str(path.relative_to(top)) for path in top.rglob("*")) for top in (folder, alone.run_folder)]
    assert files[0] == files[1]
    # The monitor looks at half of each process's crops, which are others than half of all; so it may warn of others.
    entries = [[(entry["kind"], entry["step"]) for entry in read_record(top / "metrics.jsonl")
                if entry["kind"] != "warning"] for top in (folder, alone.run_folder)]  # fmt: skip
    assert entries[0] == entries[1]
    assert load_config(folder / "config.yaml").train.devices == 2
    assert json.loads((folder / "result.json").read_text())["devices"] == 2


def test_a_run_of_two_processes_is_not_resumed_by_one(reference):
    """Its rounding and its dropout would be others. Scoring takes one process."""
    folder, _ = reference
    with pytest.raises(ValueError, match=r"other options: train\.devices was 2 and is 1"):
        train(config_of(folder), resume=True, console=tiny_run.QUIET)
    from semiseg.training.finished import evaluate

    scores = evaluate(folder, checkpoint="last", console=tiny_run.QUIET)
    recorded = json.loads((folder / "result.json").read_text())["last"]["val"]
    assert plain(scores["linear"]) == recorded["linear"]


def test_batches_that_cannot_be_shared_are_refused_where_torchrun_says_how_many(tmp_path):
    config = replace(config_of(tmp_path / "run"), train=replace(tiny_run.tiny_config(tmp_path).train, steps=3))
    config = replace(config, train=replace(config.train, batch_labeled=3))
    found = in_ranks(2, tmp_path / "group", refusal, config)
    assert found[0] == found[1]
    assert "train.batch_labeled (3) is of all devices together and must be a multiple of 2" in found[0]


def refusal(config: Config) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        train(config, console=tiny_run.QUIET)
    return str(caught.value)


def test_machines_that_see_other_files_are_told(tmp_path):
    for what in ("checkpoint", "images"):
        found = in_ranks(2, tmp_path / what, disagreement, what)
        assert found[0] == found[1]
        assert f"process 1 does not see the {what} that process 0 sees: put the run folder (runs/x)" in found[0]


def disagreement(what: str) -> str:
    step = rank() if what == "checkpoint" else 0
    images = {"labeled": {"sha256": f"{rank() if what == 'images' else 0}"}}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check_agreement(SimpleNamespace(split=images), step, Path("runs/x"))  # pyright: ignore
    return str(caught.value)


def test_the_statistics_of_batch_norm_are_in_the_checkpoint_as_all_have_them(reference):
    """Nothing that is not finite, and none that stayed where it started."""
    folder, _ = reference
    state = load_checkpoint(folder / "checkpoints/last.pt")["method"]
    variances = [tensor for name, tensor in state.items() if name.startswith("student") and "running_var" in name]
    assert variances
    assert all(tensor.isfinite().all() and not torch.equal(tensor, torch.ones_like(tensor)) for tensor in variances)
