"""The processes of a comparison: each run in its own, as many at a time as there are places for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import connection
from multiprocessing.process import BaseProcess

import torch
from rich.console import Console

from semiseg.runtime.launch import GRACE, PATIENCE
from semiseg.runtime.progress import Progress
from semiseg.runtime.stopping import StopRequest
from semiseg.studies.folders import is_finished, log_of, steps_done
from semiseg.studies.study import Cell
from semiseg.studies.worker import ERROR, train_into

Place = dict[str, str]
"""Environment variables of a run: its GPU, or none."""

AfterEach = Callable[[dict[str, str]], object]

POLL = 1.0  # seconds between two looks at the records

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_QUOTED = 300  # characters of a log, of a run that did not say why it ended


def find_places(device: str, jobs: int | None) -> list[Place]:
    """Where runs go, one at a time in each: every GPU, or one place on the CPU; `jobs` asks for another number.

    With more jobs than GPUs, GPUs are shared.
    """
    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    gpus = named[:count] if named else [str(number) for number in range(count)]
    places: list[Place] = [{_VISIBLE: gpu} for gpu in gpus] or [{}]
    return list(islice(cycle(places), jobs or len(places)))


@dataclass
class _Started:
    cell: Cell
    process: BaseProcess
    log_size: int  # before it printed anything

    def failure(self) -> str | None:
        """Why it ended before its time; None where all is well."""
        code = self.process.exitcode
        if code == 0:
            return None
        with log_of(self.cell).open("rb") as file:
            file.seek(self.log_size)
            printed = file.read().decode("utf-8", "replace")
        _, mark, message = printed.rpartition(ERROR)
        if mark:
            return message.strip()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            often = "; often this means that the machine ran out of memory" if name == "SIGKILL" else ""
            return f"it was ended by {name}{often}"
        return f"it ended with status {code} after printing: {printed.strip()[-_QUOTED:] or 'nothing'}"


def run_cells(
    cells: Sequence[Cell], places: Sequence[Place], after_each: AfterEach, console: Console, title: str
) -> dict[str, str]:
    """Run the unfinished cells; returns why runs failed, by their name. `title` stands before the progress.

    `after_each` is called with these after each run. Others go on where one fails. None outlives this call, nor this
    process: a signal to stop is passed on to all, which save and end.
    """
    return _Pool(cells, places, after_each, console, title).run()


class _Pool:
    def __init__(
        self, cells: Sequence[Cell], places: Sequence[Place], after_each: AfterEach, console: Console, title: str
    ) -> None:
        self.waiting = [cell for cell in cells if not is_finished(cell)]
        self.places = places
        self.after_each = after_each
        self.steps = {cell.name: cell.config.train.steps if is_finished(cell) else steps_done(cell) for cell in cells}
        total = sum(cell.config.train.steps for cell in cells)
        self.bar = Progress(title, total, sum(self.steps.values()), console)
        self.threads = max(1, torch.get_num_threads() // len(places))
        self.context = multiprocessing.get_context("forkserver")  # which imports torch once for all
        self.context.set_forkserver_preload(["semiseg.studies.worker"])
        self.running: dict[int, _Started] = {}  # by place
        self.failures: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Start what waits wherever a place is free, until all have ended; returns why runs failed, by their name."""
        with self.bar, StopRequest():
            try:
                while self.waiting or self.running:
                    for place, environment in enumerate(self.places):
                        if place not in self.running and self.waiting:
                            self.running[place] = self._start(self.waiting.pop(0), environment)
                    connection.wait([started.process.sentinel for started in self.running.values()], POLL)
                    for place, started in list(self.running.items()):
                        if started.process.exitcode is not None:
                            del self.running[place]
                            self._collect(started)
                    self._show()
            finally:
                _end([started.process for started in self.running.values()])
        return self.failures

    def _start(self, cell: Cell, environment: Place) -> _Started:
        log = log_of(cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        size = log.stat().st_size if log.exists() else 0
        process = self.context.Process(
            target=train_into, args=(cell.config, log, environment, self.threads), name=cell.name
        )
        process.start()
        return _Started(cell, process, size)

    def _collect(self, started: _Started) -> None:
        started.process.join()
        why = started.failure()
        if why is not None:
            self.failures[started.cell.name] = why
            self.bar.say(f"failed: {started.cell.title} ({log_of(started.cell)}): {why}")
        else:
            self.steps[started.cell.name] = started.cell.config.train.steps
            self.bar.say(f"done: {started.cell.title}")
        self.after_each(self.failures)

    def _show(self) -> None:
        for started in self.running.values():
            self.steps[started.cell.name] = steps_done(started.cell)
        done = [f"{s.cell.name} {self.steps[s.cell.name]}/{s.cell.config.train.steps}" for s in self.running.values()]
        if done:
            so_far = min(sum(self.steps.values()), self.bar.total - 1)  # what is still running is not done
            self.bar.step(so_far, {}, f"{len(self.waiting)} waiting, running: {', '.join(done)}")


def _end(processes: Sequence[BaseProcess]) -> None:
    """End the processes with all that they started; a run that is asked to saves its step first."""
    for number, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, GRACE)):
        for process in processes:
            if process.exitcode is None and process.pid is not None:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:  # not yet its own session, or just ended
                    process.kill() if number == signal.SIGKILL else process.terminate()
        end = time.monotonic() + seconds
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
