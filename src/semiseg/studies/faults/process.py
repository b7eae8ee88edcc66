"""The process under test: a whole command line, forked from a server that has imported what takes long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

Main = Callable[[Sequence[str]], int]
"""The command line: words -> exit status."""
Hook = Callable[[], object]
"""Called in the process before the command: it lays the trap."""

PATIENCE = 120.0  # seconds after which a process hangs; a busy machine
_LAST = 10.0  # seconds that processes of a session may outlive its first one


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    code: int  # exit status; -N after signal N
    output: str  # all that it printed
    problems: tuple[str, ...] = ()  # a hang, processes left behind


@cache
def _context(module: str) -> Any:
    context = multiprocessing.get_context("forkserver")
    preload = [__name__, module, "semiseg.training.experiment", "semiseg.report", "torch._dynamo"]
    context.set_forkserver_preload(preload)  # torch imports the last in its first step
    return context


class Running:
    """A command that runs in a session of its own, its output in a file."""

    def __init__(self, main: Main, words: Sequence[str], log: Path, hook: Hook | None = None) -> None:
        self.log, self.began = log, time.monotonic()
        log.write_bytes(b"")
        self.process: BaseProcess = _context(main.__module__).Process(target=_run, args=(main, words, log, hook))
        self.process.start()

    @property
    def pid(self) -> int:
        """The first process's number, which is the session's too."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the first process runs."""
        return self.process.is_alive()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.began

    def sleep(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait so long, or until something is so; False where the process ended before that."""
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end and not until():
            time.sleep(0.005)
        return self.alive

    def others(self) -> list[int]:
        """Processes of the session beside the first: ranks, loading workers; none where the system does not tell."""
        return [pid for pid in session(self.pid) if pid != self.pid]

    def send(self, number: int, pid: int | None = None) -> None:
        """A signal to the first process, or to `pid`; one that is gone needs none."""
        try:
            os.kill(self.pid if pid is None else pid, number)
        except ProcessLookupError:
            return

    def end(self) -> Ending:
        """Wait for the end of all processes of the session; a process that does not end is ended, and told of."""
        problems = []
        self.process.join(PATIENCE)
        if self.alive:
            problems.append(
                f"still running after {self.seconds:.0f} s: {self.log.read_text('utf-8', 'replace')[-300:]}"
            )
        limit = time.monotonic() + _LAST
        while not problems and self.others() and time.monotonic() < limit:
            time.sleep(0.02)
        left = self.others()
        if left and not problems:
            problems.append(f"{len(left)} processes are left {_LAST:.0f} s after the first one's end")
        self.kill()
        assert self.process.exitcode is not None
        return Ending(self.process.exitcode, self.log.read_text("utf-8", "replace"), tuple(problems))

    def kill(self) -> None:
        """Kill every process of the session."""
        for pid in [*self.others(), *([self.pid] if self.alive else [])]:
            self.send(signal.SIGKILL, pid)
        self.process.join()


def session(leader: int) -> list[int]:
    """Processes of the session that `leader` began and that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = entry.read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it ended while we looked
            continue
        if int(number) == leader and state != "Z":
            found.append(int(entry.parent.name))
    return found


def _run(main: Main, words: Sequence[str], log: Path, hook: Hook | None) -> None:
    import torch.multiprocessing as torch_processes

    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a shell's foreground
    multiprocessing.set_start_method("fork", force=True)  # of loading workers
    # Ranks are forked too: nothing has computed yet, and each would import torch anew.
    torch_processes.start_processes = partial(torch_processes.start_processes, start_method="fork")
    code = 1
    try:
        if hook is not None:
            hook()
        code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)
