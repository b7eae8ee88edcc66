"""The process of one run: its own session, its log, its share of the machine; it ends when its parent does."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path
from threading import Thread

import torch
from rich.console import Console

from semiseg.config.recipe import Config
from semiseg.report import write_report
from semiseg.runtime.launch import GRACE, STOPPED
from semiseg.training import experiment

ERROR = "semiseg: error: "
"""What follows it in a log, up to the end, is why the run failed."""


def train_into(config: Config, log: Path, environment: Mapping[str, str], threads: int) -> None:
    """Train, or go on with, a run, and write its report; what it prints is appended to `log`.

    The exit status is 1 where it failed.
    """
    os.setsid()  # Ctrl-C is the parent's to answer, and one signal ends this process and its loading processes
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)  # before the first use of a GPU
    _print_into(log)
    torch.set_num_threads(threads)
    try:
        write_report(experiment.train(config, resume=True, console=Console(file=sys.stdout, width=120)))
    except KeyboardInterrupt:
        os._exit(STOPPED)  # the run is saved
    except Exception as error:
        message = str(error)
        if not isinstance(error, ValueError):  # ours, not the user's
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        print(f"{ERROR}{message}", file=sys.stderr, flush=True)
        os._exit(1)  # at once: loading processes may still have work


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves its step
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def _print_into(log: Path) -> None:
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", line_buffering=True)
