"""Every bad input of the corpus is answered by one clear error, without a traceback, a hang or a silent change."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from faults import corpus
from faults.corpus import CASES, Case, Place

from semiseg.cli.main import main

SECONDS = 20  # an answer takes less, also on a busy machine
REPAIR = re.compile(
    r"\b(add|ask|choose|cut|delete|expected|fetch|give|go on|install|leave|lower|make|makes|match|must|name|needs|one of"
    r"|put|raise|remove|rename|repair|restore|resume|run|save|take|train|try|use|write|writes|unknown command"
    r"|valid|did you mean|requires|available|again|is there|at least|from 0|should|instead)\b",
    re.IGNORECASE,
)
"""A message that says what to do has one of these words."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Place:
    """The place before anything is spoiled: with a finished run and shards."""
    place = corpus.build(tmp_path_factory.mktemp("sound"))
    for words in (corpus.TRAIN.replace("{new}", "{run}"), "data shard {photos} --out {shards}"):
        assert main(words.format(**paths(place)).split()) == 0
    return place


def paths(place: Place) -> dict[str, str]:
    names = ("data", "recipe", "run", "new", "photos", "out", "shards", "top")
    return {name: str(getattr(place, name)) for name in names}


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file; what a command may write into freely is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and not name.startswith(("new/", "out/")):
            facts = path.lstat()
            found[name] = (facts.st_size, facts.st_mtime_ns)
    return found


def too_long(*_: object) -> None:
    raise TimeoutError(f"no answer after {SECONDS} s")


@pytest.fixture
def place(sound, tmp_path, monkeypatch) -> Place:
    """A copy to spoil; the run in it names its own copy of the data."""
    top = tmp_path / "place"
    shutil.copytree(sound.top, top, symlinks=True)
    monkeypatch.chdir(tmp_path)
    return Place(top)


def said(words: list[str], capfd, caplog) -> tuple[int, str]:
    """Exit status and all that was printed or logged."""
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        code = main(words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    printed = capfd.readouterr()
    return code, printed.out + printed.err + caplog.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input_is_answered(case: Case, place: Place, capfd, caplog):
    case.spoil(place)
    words = case.words
    if words.startswith("evaluate {run}") and "--data.root" not in words:
        words += " --data.root {data}"
    before = state_of(place.top)
    code, text = said(words.format(**paths(place)).split(), capfd, caplog)
    assert "Traceback" not in text
    assert code in case.codes, text
    for pattern in case.says:
        assert code == 0 and "(0" in str(case.codes) and pattern == "" or re.search(pattern, text), text
    if code == 2:
        errors = [line for line in text.splitlines() if line.startswith("semiseg: error: ")]
        assert len(errors) == 1, text
        assert REPAIR.search(text.partition("semiseg: error: ")[2]), text
        assert len(text) < 5000
        assert state_of(place.top) == before
        assert not (place.new / "checkpoints").exists() or "read" in case.name
    assert not Path("harmed").exists()


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(corpus.GROUPS) == 11


def test_the_sound_place_is_sound(place, capfd, caplog):
    """What is refused elsewhere is refused for what was spoiled."""
    for words in (corpus.TRAIN, corpus.RESUME, corpus.EVALUATE + " --data.root {data}", corpus.PREDICT, corpus.REPORT):
        code, text = said(words.format(**paths(place)).split(), capfd, caplog)
        assert code == 0, text
    words = corpus.SHARDED.replace("{new}", "{top}/sharded")
    assert said(words.format(**paths(place)).split(), capfd, caplog)[0] == 0
    assert len(os.listdir(place.out / "masks")) == 2
