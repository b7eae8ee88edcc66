"""Signals that ask a training to stop: it ends the step, saves, and stops."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, the end of a job, a closed terminal, and the warning of SLURM (`--signal=USR1@60`)."""
WARNING = getattr(signal, "SIGUSR1", None)


AGAIN = 1.0  # seconds after which the same signal asks anew: launchers and schedulers send one several times


class Stopped(KeyboardInterrupt):
    """A signal stopped the run. The command line's exit status is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopRequest:
    """While in this context the SIGNALS raise Stopped; inside `deferred` they only set `number`.

    A signal that comes again after AGAIN seconds raises Stopped at once, also there: the person has no patience. The
    warning never does.
    Signals that the process was told to ignore, as by nohup, stay ignored, and outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.number = 0  # of the first signal that came; 0: none
        self._since = 0.0
        self._deferred = False

    def __enter__(self) -> StopRequest:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In here the caller looks at `number` and raises Stopped when it is ready."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _take(self, number: int, _: FrameType | None) -> None:
        again = number == self.number and number != WARNING and time.monotonic() - self._since > AGAIN
        if not self.number:
            self.number, self._since = number, time.monotonic()
        if again or not self._deferred:
            raise Stopped(number)
        with contextlib.suppress(OSError):  # no print: the signal may have come in the middle of one
            os.write(2, b"\nsemiseg: stopping after this step, to save it; the same signal again stops at once\n")
