"""Files that are whole or not there, on a disk that is full, read-only or gone."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg.runtime.files import (
    WriteError,
    append_line,
    remove_temporaries,
    write_arrays,
    write_atomically,
    write_json,
)

LARGE = {"weights": torch.zeros(200_000)}


@pytest.fixture
def full_disk():
    """No file of this process may grow beyond 64 KiB: as a full disk, but another number of error."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


WRITERS = {
    "torch": lambda path: write_atomically(path, lambda file: torch.save(LARGE, file)),
    "bytes": lambda path: write_atomically(path, lambda file: file.write(bytes(1 << 20))),
    "json": lambda path: write_json(path, {"text": "x" * (1 << 20)}),
    "numpy": lambda path: write_arrays(path, {"a": np.random.default_rng(0).random(100_000)}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_said_with_the_file_and_the_space_and_leaves_the_old_file(tmp_path, full_disk, writer):
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")
    with pytest.raises(
        WriteError, match=r"last\.pt cannot be written: File too large\. .* Make room there \([\d,.]+ MB are free in /"
    ) as caught:
        WRITERS[writer](path)
    assert caught.value.filename == str(path)
    assert "What it held before is kept" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_line_that_the_disk_does_not_take_is_said(tmp_path, full_disk):
    path = tmp_path / "metrics.jsonl"
    append_line(path, "one\n")
    with pytest.raises(WriteError, match=r"metrics\.jsonl cannot be written: File too large"):
        append_line(path, "x" * (1 << 20))
    assert path.read_text().startswith("one\n")


def test_a_place_that_is_no_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"result\.json cannot be written: (Not a directory|File exists)"):
        write_json(tmp_path / "file/result.json", {})


def test_a_file_that_the_writer_reads_is_not_called_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "shard.tar", lambda file: file.write((tmp_path / "gone.jpg").read_bytes()))
    assert not isinstance(caught.value, WriteError)


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    """Names cannot be foreseen; one that is there all the same is refused, and what it points to is left."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    (tmp_path / ".semiseg-0.tmp").symlink_to(victim)
    with pytest.raises(WriteError, match="File exists"):
        write_json(tmp_path / "result.json", {})
    monkeypatch.undo()
    link = tmp_path / "link.json"
    link.symlink_to(victim)
    write_json(link, {})
    assert victim.read_text() == "precious"
    assert not link.is_symlink()


def test_names_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("x" * 255)
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n  "a": 1\n}\n'


def test_what_killed_writes_left_is_removed(tmp_path):
    for place in (tmp_path, tmp_path / "checkpoints"):
        place.mkdir(exist_ok=True)
        for name in (".semiseg-0123.tmp", "last.pt", ".other.tmp"):
            (place / name).write_bytes(b"")
    remove_temporaries(tmp_path)
    left = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(map(Path, [".other.tmp", "checkpoints/.other.tmp", "checkpoints/last.pt", "last.pt"]))
