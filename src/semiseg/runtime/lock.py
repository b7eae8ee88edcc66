"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from semiseg.runtime.files import failures_of, remove_temporaries, write_error, write_json

LOCK, OWNER = ".lock", ".owner.json"
"""The file that the system locks, and who holds it: host, process, since when."""


@contextlib.contextmanager
def only_here(folder: Path, option: str = "--run") -> Iterator[None]:
    """While in here no other process writes into `folder`; what killed ones left of their writes is removed.

    The system gives the lock up with the process that holds it, however that ends, so none is ever left behind. Raises
    ValueError where another process holds it; `option` is the one that names another folder.
    """
    with failures_of(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        before = {each.name for each in folder.iterdir()}
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} is in use: {_owner(folder)} works there. Wait for it, end it, or choose another folder by "
            f"{option}"
        ) from None
    except NotImplementedError as error:
        raise ValueError(f"{folder} is on a disk that knows no locks: choose another folder by {option}") from error
    except OSError as error:
        raise write_error(folder / LOCK, error) from error
    try:
        remove_temporaries(folder)
        write_json(
            folder / OWNER, {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%F %T")}
        )
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
            left = {each.name for each in folder.iterdir()} - {LOCK}
            if left == before or not left:  # nothing was written, as after a mistake: nothing is left of it
                (folder / LOCK).unlink()
                if not left:
                    folder.rmdir()
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text("utf-8"))
        return f"process {owner['process']} on {owner['host']}, since {owner['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
