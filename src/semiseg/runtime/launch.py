"""The processes of one run: which of them this is, starting them on this machine, and which may speak of a failure.

`semiseg train --devices N` starts N processes here; torchrun starts them on one machine or many. Both tell each process
its place by the same variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), and nothing else knows who
started it. No torch when this is imported: a mistake in the options is answered at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from semiseg.runtime.stopping import SIGNALS, WARNING, Stopped, StopRequest

# Processes have so long to end by themselves before they are made to, and as long again before they are killed.
GRACE = 10.0  # seconds
PATIENCE = 300.0  # seconds in which processes that were asked to stop may end their step, or evaluation, and save
STOPPED = 128 + signal.SIGINT  # exit status after Ctrl-C
_launched_here = False  # whether this process is one of those that `launch` started


class AloneError(ValueError):
    """A run of `devices` processes was asked of one that was started alone."""

    def __init__(self, devices: int) -> None:
        super().__init__(
            f"train.devices is {devices}, but this process was started alone: start all of them by `semiseg train ... "
            f"--devices {devices}` or by torchrun"
        )
        self.devices = devices


def is_launched() -> bool:
    """Whether this process was started as one of several."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def started_processes() -> int:
    """How many were started together, on all machines; 1 for a process on its own."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else 1


def resolve_devices(devices: int) -> int:
    """How many processes train where `train.devices` asks for `devices`: as many as were started.

    Raises AloneError where one was started that should be several, ValueError where another number was.
    """
    started = started_processes()
    if devices in (1, started):
        return started
    if not is_launched():
        raise AloneError(devices)
    raise ValueError(
        f"train.devices is {devices}, but {started} processes were started: give --devices {started}, or leave it out"
    )


def local_rank() -> int:
    """This process's number on its machine, and its GPU's; 0 for a process on its own."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return not is_launched() or os.environ["RANK"] == "0"


def is_launched_here() -> bool:
    """Whether this process was started by `launch`, which speaks for it when it is stopped."""
    return _launched_here


def first_to_fail() -> bool:
    """Whether no process of this run failed before this one. Only the first may say why.

    The others made the same mistake, or fail because the first is gone.
    """
    if not is_launched():
        return True
    from torch.distributed import TCPStore

    try:
        address, port, patience = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=GRACE)
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=patience)
        return store.add(f"semiseg/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (KeyError, RuntimeError):  # nobody is there to ask: better twice than never
        return True


def launch(main: Callable[[Sequence[str]], int], tokens: Sequence[str], count: int) -> int:
    """Run `main(tokens)` in `count` processes of this machine. Returns the exit status, 128 + N after signal N.

    When one fails, or is killed, the others are ended. A signal to stop is passed on to all, which save and stop; a
    second one ends them at once. None outlives this process.
    """
    from torch.distributed import TCPStore
    from torch.multiprocessing import start_processes

    # Where they find each other. Port 0 stands for any free one, and it stays taken until all have ended.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = start_processes(_process, (main, list(tokens), count, store.port), count, join=False)
    processes: list[Any] = context.processes  # pyright: ignore[reportOptionalMemberAccess]  # None if it had joined
    with StopRequest():
        try:
            return _wait(processes)
        except Stopped as stopped:
            _ask_to_stop(processes)
            return 128 + stopped.number


def _ask_to_stop(processes: Sequence[BaseProcess]) -> None:
    """Pass the warning on, which unlike a second Ctrl-C stops none at once, and wait for them to save."""
    with contextlib.suppress(Stopped):  # a second signal: they are ended at once
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, WARNING or signal.SIGTERM)
        _join(processes, PATIENCE)
    _end(processes)


def _process(rank: int, main: Callable[[Sequence[str]], int], tokens: Sequence[str], count: int, port: int) -> None:
    import torch

    global _launched_here
    _launched_here = True
    # torch sends SIGINT when the parent is gone, and Ctrl-C sends it to all. Where a run is under way it saves and
    # stops; before that, there is nothing to tidy up, and a process that waits for others could not. What nohup ignores
    # stays ignored, but not SIGINT, without which it would outlive the parent.
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    parent = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    elastic = {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}  # the store is the parent's
    os.environ.update({name: str(value) for name, value in (place | parent | elastic).items()})
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        status = main(tokens)
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)  # at once: to leave a group in which others wait can take for ever


def _wait(processes: Sequence[BaseProcess]) -> int:
    """Wait until all have ended well, or one has not; then end the others. Returns the exit status."""
    # Each is asked once a round: it may end between two questions, and with a failure.
    while not any(codes := [process.exitcode for process in processes]):
        if None not in codes:
            return 0
        connection.wait([process.sentinel for process, code in zip(processes, codes, strict=True) if code is None])
    _join(processes)  # another process may have ended before this message came
    codes = [process.exitcode for process in processes]
    _end(processes)
    for number, code in enumerate(codes):
        if code is not None and code < 0:
            print(
                f"semiseg: error: process {number} of {len(codes)} was ended by {signal.Signals(-code).name}, and so "
                "the others were stopped. SIGKILL often means that the machine ran out of memory. To go on from the "
                "last checkpoint, add --resume",
                file=sys.stderr,
            )
    stopped = [code for code in codes if code is not None and code > 128]  # a signal that this process did not get
    return stopped[0] if stopped else 2 if 2 in codes else 1


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    _join(processes)
    for process in processes:
        process.kill()
        process.join()


def _join(processes: Sequence[BaseProcess], seconds: float | None = None) -> None:
    """Wait so many seconds (None: GRACE), all together, for the processes to end."""
    end = time.monotonic() + (GRACE if seconds is None else seconds)
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
