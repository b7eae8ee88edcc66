"""A checkpoint is whole or not there, and a damaged one says so by name."""

import multiprocessing
import os
import pickle
import re
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.runtime.files import remove_temporaries, write_atomically
from semiseg.training.checkpoint import load_checkpoint, save_checkpoint


def state(number: float = 1.0) -> dict:
    weight = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last) * number
    return {
        "method": {"weight": weight, "started": torch.tensor(True)},
        "optimizer": {"state": {0: {"momentum_buffer": weight / 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "state": {"step": 7, "best": -float("inf"), "best_step": 0, "seconds": 1.5},
        "config": {"seed": 3, "data": {"root": "somewhere", "scale": 0.5}},
        "split": {"labeled": {"sha256": "ab", "count": 3, "source": None}},
        "classes": {"names": ["sky", "sea"], "colors": [[0, 0, 0], [1, 2, 3]]},
    }


def test_what_was_saved_is_loaded(tmp_path):
    saved = state()
    save_checkpoint(tmp_path / "new/last.pt", saved)
    loaded = load_checkpoint(tmp_path / "new/last.pt")
    assert torch.equal(loaded["method"].pop("weight"), saved["method"].pop("weight"))
    assert loaded["method"].pop("started").item() is saved["method"].pop("started").item() is True
    momentum = [each["optimizer"]["state"].pop(0)["momentum_buffer"] for each in (loaded, saved)]
    assert torch.equal(*momentum)
    assert momentum[0].is_contiguous(memory_format=torch.channels_last)  # another layout may add up in another order
    assert loaded == saved


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")

    def write(file) -> None:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"w")

    write_atomically(path, write)
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")

    def write(file) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


def killed_while_writing(path: Path) -> None:
    def write(file) -> None:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    write_atomically(path, write)


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, state(1))
    for number in range(2):
        process = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(path,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 2 + number  # no process touches what may be another's
    assert torch.equal(load_checkpoint(path)["method"]["weight"], state(1)["method"]["weight"])
    remove_temporaries(tmp_path)
    save_checkpoint(path, state(2))
    assert torch.equal(load_checkpoint(path)["method"]["weight"], state(2)["method"]["weight"])
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path)) + pattern):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "last.pt", " is not there; training writes last.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "last.pt"
    save_checkpoint(path, state())
    return path


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_called_damaged(whole, share):
    data = whole.read_bytes()
    cut = whole.with_name("cut.pt")
    cut.write_bytes(data[: int(share * len(data))])
    refused(cut, " is damaged, or no checkpoint")


def test_other_files_are_called_damaged(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("step: 3\n")
    refused(path, " is damaged, or no checkpoint")
    torch.save([1, 2], path)
    refused(path, " is no checkpoint of semiseg: expected a dict of method, optimizer, state, config")
    torch.save({"state_dict": {}}, path)
    refused(path, " is no checkpoint of semiseg")


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("unpickled",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**state(), "config": Evil()}, "last.pt")
    refused(Path("last.pt"), " is damaged, or no checkpoint")
    Path("plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    refused(Path("plain.pt"), " is damaged, or no checkpoint")
    assert not Path("unpickled").exists()
