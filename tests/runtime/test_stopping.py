"""Signals that ask for an end: at once, or when the caller is ready."""

import os
import signal
import threading

import pytest

from semiseg.runtime import stopping
from semiseg.runtime.stopping import SIGNALS, Stopped, StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of before; none is ignored, as Ctrl-C is in a shell's background jobs."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_at_once_outside_and_waits_inside(number, capfd):
    with StopRequest() as request:
        with request.deferred():
            send(number)
            assert request.number == number
        with pytest.raises(Stopped) as caught:
            send(number if number != signal.SIGUSR1 else signal.SIGTERM)
        assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(number) == signal.SIG_DFL
    assert "stopping after this step" in capfd.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
def test_the_same_signal_from_several_at_once_is_one(number):
    with StopRequest() as request, request.deferred():
        for _ in range(3):
            send(number)
        assert request.number == number


@pytest.mark.parametrize("number", SIGNALS)
def test_the_same_signal_again_stops_at_once_but_the_warning_does_not(number, monkeypatch):
    monkeypatch.setattr(stopping, "AGAIN", 0.0)
    with StopRequest() as request, request.deferred():
        send(number)
        if number == signal.SIGUSR1:
            send(number)
        else:
            send(signal.SIGUSR1)
            with pytest.raises(Stopped):
                send(number)
        assert request.number == number


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as request:
        send(signal.SIGHUP)
        assert request.number == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_in_another_thread_nothing_changes():
    seen = []

    def inside() -> None:
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
