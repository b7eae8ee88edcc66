"""What a person reads where there is no terminal: whole lines, now and then."""

from io import StringIO

import pytest
from rich.console import Console

from semiseg.runtime import progress
from semiseg.runtime.progress import Progress


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The time, to be set."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def shown(bar: Progress) -> list[str]:
    return bar.console.file.getvalue().splitlines()


def plain(total: int, start: int = 0) -> Progress:
    return Progress("prototype", total, start, Console(file=StringIO(), width=20))


def test_lines_come_every_ten_seconds_and_at_the_end(now):
    bar = plain(100)
    for step in range(1, 101):
        now[0] += 1
        bar.step(step, {"supervised": 0.5, "kept": 0.253})
    assert [line.split("/")[0] for line in shown(bar)] == [f"prototype step {step}" for step in range(10, 101, 10)]
    assert shown(bar)[0] == "prototype step 10/100 supervised 0.500 kept 25% left 1:30"


def test_the_time_left_is_that_of_this_process(now):
    """80 of 100 steps were done before a resume; ten more took 20 seconds."""
    bar = plain(100, start=80)
    now[0] += 20
    bar.step(90, {})
    assert shown(bar) == ["prototype step 90/100  left 0:20"]


def test_scores_and_warnings_are_lines_of_their_own_and_never_broken(now):
    bar = plain(100)
    bar.evaluation(50, 61.234, ["prototypes of class 'sky [blue]' are identical (closest pair 0.0001 apart)"])
    assert shown(bar) == [
        "prototype step 50: val mIoU 61.23",
        "prototype step 50: warning: prototypes of class 'sky [blue]' are identical (closest pair 0.0001 apart)",
    ]
    now[0] += 11
    bar.step(60, {})
    assert "mIoU 61.2" in shown(bar)[-1]


def test_a_terminal_gets_one_live_line():
    console = Console(file=StringIO(), force_terminal=True, width=120)
    with Progress("prototype", 10, console=console) as bar:
        bar.step(4, {"supervised": 0.5})
        bar.step(5, {"supervised": 0.25})
    text = console.file.getvalue()
    assert "5/10" in text
    assert "supervised 0.250" in text
    assert "prototype step" not in text
