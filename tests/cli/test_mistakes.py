"""Whatever a user mistypes or points at, a command says so in one line and ends with 2; no traceback."""

import os
import subprocess
import sys

import pytest

from semiseg.cli import main as module
from semiseg.cli.main import main

PLACES = ["missing", "file", "a folder", "a folder/new\nline", "new\nline", "\udce9 no utf-8", "x" * 300, "file/below"]
LINES = [
    ["train", "PLACE"],
    ["train", "demo", "--run", "file"],
    ["compare", "PLACE"],
    ["estimate", "PLACE"],
    ["evaluate", "PLACE"],
    ["predict", "PLACE", "a folder", "--out", "out"],
    ["report", "PLACE"],
    ["report", "PLACE", "PLACE"],
    ["analyse", "discrimination", "PLACE"],
    ["analyse", "pictures", "PLACE"],
    ["data", "shard", "PLACE", "--out", "out"],
    ["data", "index", "PLACE"],
    ["reproduce", "PLACE"],
    ["train", "folder", "--data.root", "PLACE", "--run", "out"],
]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_place_that_cannot_be_is_told_in_one_line(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("words\n")
    (tmp_path / "a folder").mkdir()
    for place in PLACES if "PLACE" in line else ["-"]:
        assert main([place if word == "PLACE" else word for word in line]) == 2, place
        err = capsys.readouterr().err
        assert err.startswith("semiseg: error: "), place
        assert err.count("\n") == 1, place
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["methods", "recipes", "train demo --help"])
def test_an_output_that_is_full_is_told(line):
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    command = f"env -u PYTHONUNBUFFERED {sys.executable} -m semiseg.cli {line} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "semiseg: error: the output cannot be written: No space left on device\n"


def test_a_killed_loader_is_told_with_how_to_go_on(monkeypatch, capsys):
    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(module, "build_app", lambda tokens: killed)
    assert main(["train", "demo"]) == 1
    err = capsys.readouterr().err
    assert "a process that loads images was killed" in err
    assert "semiseg train demo --resume" in err
    assert "Traceback" not in err
