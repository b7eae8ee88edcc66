"""What a person reads where there is no terminal: whole lines, now and then."""

import unicodedata
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
    assert shown(bar)[0] == "prototype step 10/100 supervised 0.500 pseudo-labels 25% left 1:30"


def test_the_time_left_is_that_of_this_process(now):
    """80 of 100 steps were done before a resume; ten more took 20 seconds."""
    bar = plain(100, start=80)
    now[0] += 20
    bar.step(90, {})
    assert shown(bar) == ["prototype step 90/100 left 0:20"]


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


def test_the_first_steps_of_a_training_are_lines_of_their_own(now):
    bar = Progress("prototype", 100, 0, Console(file=StringIO(), width=20), images=8)
    for step in range(1, 9):
        now[0] += 2
        assert bar.is_due(step) == (step <= 3 or step == 8), step  # then every ten seconds
        if bar.is_due(step):
            bar.step(step, {"supervised": 0.5})
    assert shown(bar) == [
        "prototype step 1/100 supervised 0.500 4 images/s left 3:18",
        "prototype step 2/100 supervised 0.500 4 images/s left 3:16",
        "prototype step 3/100 supervised 0.500 4 images/s left 3:14",
        "prototype step 8/100 supervised 0.500 4 images/s left 3:04",
    ]


def test_scoring_counts_for_no_steps_speed(now):
    bar = Progress("prototype", 100, 0, Console(file=StringIO()), images=8)
    now[0] += 1
    bar.step(1, {})
    now[0] += 60  # an evaluation
    bar.evaluation(1, 50.0, [])
    now[0] += 1
    bar.step(2, {})
    assert "8 images/s" in shown(bar)[-1]
    assert "val mIoU 50.0" in shown(bar)[-1]


def test_what_takes_long_inside_a_step_is_followed(now):
    bar = plain(100)
    taken = []
    for item in bar.counted([*"abcdefgh"], "preparing: labelled image"):
        now[0] += 4
        taken.append(item)
    assert taken == [*"abcdefgh"]
    assert shown(bar) == ["prototype: preparing: labelled image 4/8", "prototype: preparing: labelled image 7/8"]


def test_hours_are_told_apart_from_minutes(now):
    bar = plain(100)
    now[0] += 100
    bar.step(1, {})
    assert shown(bar)[0].endswith("left 2:45:00")


def test_nothing_but_text_goes_where_there_is_no_terminal(now):
    bar = Progress("proto\x1b[1mtype", 3, 0, Console(file=StringIO(), width=20), images=2)
    with bar:
        for step in (1, 2, 3):
            now[0] += 11
            bar.step(step, {"supervised": 0.5, "kept": 0.1}, note="fold 1")
        bar.part("scoring validation image", 1, 2)
        bar.evaluation(3, 1.0, ["odd \x07 name"])
    text = bar.console.file.getvalue()
    assert len(text.splitlines()) >= 5
    assert all(char == "\n" or unicodedata.category(char)[0] != "C" for char in text)


def test_a_terminal_gets_one_live_line():
    console = Console(file=StringIO(), force_terminal=True, width=120)
    with Progress("prototype", 10, console=console) as bar:
        bar.step(4, {"supervised": 0.5})
        bar.step(5, {"supervised": 0.25})
    text = console.file.getvalue()
    assert "5/10" in text
    assert "supervised 0.250" in text
    assert "prototype step" not in text
