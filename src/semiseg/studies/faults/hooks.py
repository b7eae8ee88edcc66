"""Traps inside the process under test. Each is a function that can be sent there and is called before the command."""

from __future__ import annotations

import builtins
import io
import itertools
import os
import random
import resource
import signal
from pathlib import Path
from typing import Any

_STORM = 0.01  # seconds between two interruptions


def die_writing(write: int, place: str, share: float) -> None:
    """Be killed in the `write`-th file that is written whole or not at all.

    `place`: `half`, with `share` of its bytes on the disk; `whole`, when all but its name is there; `named`, just
    after.
    """
    countdown, fsync, replace = itertools.count(1 - write), os.fsync, os.replace
    reached = False

    def last_sync(descriptor: int) -> None:
        nonlocal reached
        fsync(descriptor)
        reached = reached or next(countdown) == 0
        if reached and place == "half":
            os.truncate(descriptor, int(os.fstat(descriptor).st_size * share))
            _die()

    def last_replace(*arguments: Any, **keywords: Any) -> None:
        if reached and place == "whole":
            _die()
        replace(*arguments, **keywords)
        if reached:
            _die()

    os.fsync, os.replace = last_sync, last_replace


def count_writes(into: Path) -> None:
    """Write down how many files were written whole or not at all."""
    fsync, counted = os.fsync, itertools.count(1)

    def counting(descriptor: int) -> None:
        fsync(descriptor)
        into.write_text(str(next(counted)), "utf-8")

    os.fsync = counting


def limit_file_size(size: int) -> None:
    """No file may become larger than `size` bytes: what comes nearest to a full disk without a disk of one's own."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def read_short(folders: tuple[Path, ...], seed: int) -> None:
    """Every read of a file below `folders` gives fewer bytes than asked for, and system calls are interrupted."""
    rng, usual = random.Random(seed), builtins.open
    tops = tuple(f"{folder}{os.sep}" for folder in folders)

    class Short(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            view = memoryview(buffer).cast("B")
            return super().readinto(view[: rng.randint(1, max(1, len(view)))])

    def opened(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode == "rb" and isinstance(file, str | os.PathLike) and os.fspath(file).startswith(tops):
            return io.BufferedReader(Short(file), buffer_size=rng.randint(16, 4096))
        return usual(file, mode, *arguments, **keywords)

    builtins.open = io.open = opened
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _STORM, _STORM)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
