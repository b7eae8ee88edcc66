"""Processes that are started together end together, and one of them says why."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch.multiprocessing
from support import failing

from semiseg.cli.main import main
from semiseg.config.recipe import ConfigError, load_config
from semiseg.runtime import launch
from semiseg.runtime.launch import AloneError, resolve_devices

LIMIT = 60  # seconds from a process's end to that of the last
PATIENCE = 300  # seconds for starting on a busy machine


@pytest.fixture
def started(monkeypatch, tmp_path, capsys):
    """Two processes that end as `kind` says: exit status, output, errors, with those of the one that started them.

    They are forked from a server that has imported what takes long; the tests further down start fresh ones.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["semiseg.training.experiment", "torch._dynamo"])
    start = partial(torch.multiprocessing.start_processes, start_method="forkserver")
    monkeypatch.setattr(torch.multiprocessing, "start_processes", start)
    monkeypatch.setattr(launch, "GRACE", 3.0)

    def run(kind: str) -> tuple[int, str, str]:
        status = launch.launch(failing.main, [kind, str(tmp_path)], 2)
        assert kind == "well" or time.time() - (tmp_path / "failed").stat().st_mtime < LIMIT
        assert len(pids(tmp_path)) == 2
        assert not any(map(is_alive, pids(tmp_path)))
        out, err = capsys.readouterr()
        return status, (tmp_path / "out").read_text() + out, (tmp_path / "err").read_text() + err

    return run


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("*.pid") if path.read_text()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_one_that_fails_between_two_questions_has_failed(monkeypatch):
    """Its pipe closes before the system tells its status: asked once it still runs, asked again it has failed."""

    class Ending:
        sentinel, answers = 0, iter([None])

        @property
        def exitcode(self) -> int | None:
            return next(self.answers, 3)

        def join(self, timeout: float | None = None) -> None:
            pass

        terminate = kill = join

    monkeypatch.setattr(launch.connection, "wait", lambda sentinels: sentinels)
    assert launch._wait([Ending()]) == 1


def test_two_that_end_well_print_once(started):
    assert started("well") == (0, "the report\n", "")


def test_a_mistake_is_told_once(started):
    assert started("mistake") == (2, "", "semiseg: error: the disk holds cats, expected dogs\n")


def test_a_mistake_that_one_process_meets_is_told_and_ends_the_others(started):
    assert started("mistake_of_one") == (2, "", "semiseg: error: cat.png cannot be read\n")


def test_an_exception_shows_its_own_traceback_and_ends_others_that_do_not_listen(started):
    status, out, err = started("bug_of_one")
    assert (status, out) == (1, "")
    assert err.count("Traceback") == 1
    assert "in bug_of_one" in err
    assert err.endswith("RuntimeError: a bug\n")


def test_a_killed_process_ends_the_others(started):
    status, _, err = started("killed")
    assert status == 1
    assert "semiseg: error: process 1 of 2 was ended by SIGKILL, and so the others were stopped." in err
    assert err.endswith("add --resume\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal tells of a parent's end")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_none_outlives_the_one_that_started_them(tmp_path, number):
    command = [sys.executable, failing.__file__, "launch", "endless", str(tmp_path)]
    parent = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_until(lambda: len(pids(tmp_path)) == 2, PATIENCE)
    parent.send_signal(number)
    assert parent.wait(LIMIT) == (launch.STOPPED if number == signal.SIGINT else -number)
    wait_until(lambda: not any(map(is_alive, pids(tmp_path))), LIMIT)


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_torchrun_tells_them_the_same(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, failing.__file__, "mistake_of_one", str(tmp_path)]
    done = subprocess.run(command, timeout=2 * PATIENCE)
    assert done.returncode
    assert (tmp_path / "err").read_text() == "semiseg: error: cat.png cannot be read\n"
    assert not any(map(is_alive, pids(tmp_path)))


# How many -------------------------------------------------------------------------------------------------------------


def started_by_torchrun(monkeypatch, count: int) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": count}.items():
        monkeypatch.setenv(name, str(value))


def test_devices_are_the_processes_that_were_started(monkeypatch):
    assert resolve_devices(1) == 1
    with pytest.raises(AloneError, match=r"train\.devices is 4, but this process was started alone.*torchrun"):
        resolve_devices(4)
    started_by_torchrun(monkeypatch, 4)
    assert resolve_devices(1) == resolve_devices(4) == 4
    with pytest.raises(ValueError, match=r"train\.devices is 2, but 4 processes were started: give --devices 4, or"):
        resolve_devices(2)
    started_by_torchrun(monkeypatch, 1)
    assert resolve_devices(1) == 1
    with pytest.raises(ValueError, match="2, but 1 processes were started"):
        resolve_devices(2)


@pytest.mark.parametrize("option", ["--devices", "--train.devices"])
def test_the_command_line_starts_as_many_as_it_is_told(monkeypatch, option):
    seen = []
    monkeypatch.setattr("semiseg.cli.main.launch", lambda *arguments: seen.append(arguments) or 5)
    tokens = ["train", "demo", option, "2", "--seed", "1"]
    assert main(tokens) == 5
    assert seen == [(main, tokens, 2)]


def test_ctrl_c_tells_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("semiseg.cli.main.launch", lambda *_: launch.STOPPED)
    assert main(["train", "demo", "--devices", "2"]) == 130
    assert "semiseg train demo --devices 2 --resume\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train.devices": 3},
            r"train\.batch_labeled \(8\) is of all devices together and must be a multiple of 3 "
            r"\(train\.accumulate 1 x 3 devices\): make it 9, or use other --devices",
        ),
        (
            {"train.devices": 2, "train.accumulate": 3, "train.batch_labeled": 6, "train.batch_unlabeled": 9},
            r"train\.batch_unlabeled \(9\) .* multiple of 6 \(train\.accumulate 3 x 2 devices\): make it 12, or",
        ),
        ({"train.devices": 0}, r"train\.devices is 0; expected 1 <= devices"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_config("demo", options)
