"""One process at a time in a folder; the lock ends with its holder."""

import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

from semiseg.runtime.lock import LOCK, OWNER, only_here

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, held, let_go) -> None:
    with only_here(folder):
        held.set()
        let_go.wait(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path`/run, and what tells it to let go."""
    held, let_go = FORK.Event(), FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "run", held, let_go))
    process.start()
    assert held.wait(60)
    yield process, let_go
    process.kill()
    process.join()


def test_a_second_process_is_refused_and_told_who_is_there(holder, tmp_path):
    process, let_go = holder
    folder = tmp_path / "run"
    (folder / "metrics.jsonl").write_text("")
    owner = f"process {process.pid} on {socket.gethostname()}, since "
    pattern = f"run is in use: {owner}.*, works there. Wait for it, end it, or choose"
    with pytest.raises(ValueError, match=pattern), only_here(folder):
        pass
    assert json.loads((folder / OWNER).read_text())["process"] == process.pid
    let_go.set()
    process.join()
    with only_here(folder):
        assert json.loads((folder / OWNER).read_text())["process"] == os.getpid()
        (folder / "result.json").write_text("")
    assert sorted(os.listdir(folder)) == [LOCK, "metrics.jsonl", "result.json"]


def test_a_killed_holder_leaves_no_lock_and_no_halves(holder, tmp_path):
    process, _ = holder
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/.semiseg-0a.tmp").write_bytes(b"half")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with only_here(folder):
        assert os.listdir(folder / "checkpoints") == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_an_owner_that_cannot_be_read_is_another_process(holder, tmp_path, text):
    (tmp_path / "run" / OWNER).write_text(text)
    with pytest.raises(ValueError, match="in use: another process works there"), only_here(tmp_path / "run"):
        pass


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), only_here(tmp_path / "runs/run"):
        raise KeyError
    assert not (tmp_path / "runs/run").exists()


def test_a_mistake_leaves_a_folder_as_it_was(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(KeyError), only_here(tmp_path):
        raise KeyError
    assert os.listdir(tmp_path) == ["photo.png"]
