"""Runs of several processes in which something goes wrong: what `launch` starts in its tests, and torchrun too."""

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

import semiseg.training
from semiseg.cli import main as cli
from semiseg.config.options import require


def main(tokens: list[str]) -> int:
    """The command line, with a training that ends as `tokens[0]` says, and prints into the folder `tokens[1]`."""
    kind, folder = tokens
    Path(folder, f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    os.environ["FOLDER"] = folder
    training = SimpleNamespace(train=lambda *_, **__: KINDS[kind](int(os.environ["RANK"])))
    sys.modules["semiseg.training.experiment"] = semiseg.training.experiment = training  # pyright: ignore
    sys.modules["semiseg.report"] = semiseg.report = SimpleNamespace(
        write_report=lambda _: "the report", doubts_of=lambda _: [], closing=lambda _: []
    )  # pyright: ignore
    return cli.main(["train", "demo"])


def sum_until_failure(rank: int) -> None:
    """Sums over both processes, as in a training; the second of them leaves the first one waiting."""
    dist.init_process_group("gloo", timeout=timedelta(minutes=30))
    dist.all_reduce(torch.ones(1))
    if rank == 0:
        dist.all_reduce(torch.ones(1))
    note_failure()


def note_failure() -> None:
    """From now on time is counted."""
    Path(os.environ["FOLDER"], "failed").touch()


def mistake(_: int) -> None:
    """A user's, which every process notices."""
    note_failure()
    require(False, "the disk holds cats, expected dogs")


def mistake_of_one(rank: int) -> None:
    """A damaged image in one process's share."""
    sum_until_failure(rank)
    require(False, "cat.png cannot be read")


def bug_of_one(rank: int) -> None:
    """An exception of ours, while another process neither waits for this one nor lets itself be ended."""
    if rank == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (Path(os.environ["FOLDER"]) / "deaf").touch()
        time.sleep(1000)
    while not (Path(os.environ["FOLDER"]) / "deaf").exists():
        time.sleep(0.05)
    note_failure()
    raise RuntimeError("a bug")


def killed(rank: int) -> None:
    """By the system, for want of memory."""
    sum_until_failure(rank)
    os.kill(os.getpid(), signal.SIGKILL)


def well(_: int) -> str:
    """Nothing goes wrong."""
    dist.init_process_group("gloo")
    dist.all_reduce(torch.ones(1))
    dist.destroy_process_group()
    return "run"


def endless(_: int) -> None:
    """Nothing, for ever."""
    time.sleep(1000)


KINDS = {each.__name__: each for each in (mistake, mistake_of_one, bug_of_one, killed, well, endless)}


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        from semiseg.runtime.launch import launch

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without
        sys.exit(launch(main, sys.argv[2:], 2))
    sys.exit(main(sys.argv[1:]))
