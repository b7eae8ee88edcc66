"""Every bad input of the corpus is answered by one clear error, without a traceback, a hang or a silent change."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import corpus
from faults.corpus import CASES, Case, Place

from semiseg.cli.main import main

SECONDS = 20  # an answer takes less, also on a busy machine
WORDS = """
add|ask|again|at least|available|belongs to|between|choose|cut|delete|did you mean|expected|fetch|from 0|give
go on|install|instead|join|leave|lower|make|makes|match|must|name|nearest|needs|put|raise|remove|rename|repair
requires|restore|resume|run|save|share|should|take|there are|train|try|unable to convert|unknown command
unused|use|valid|write|writes
"""
REPAIR = re.compile(rf"\b({'|'.join(WORDS.strip().splitlines())})\b", re.IGNORECASE)
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
def copied(sound, tmp_path, monkeypatch) -> Callable[[str], Place]:
    """Copies what a command uses of the sound place, to be spoiled."""

    def copy(words: str) -> Place:
        unused = [name for name in ("run", "shards", "photos") if f"{{{name}}}" not in words]
        shutil.copytree(sound.top, tmp_path / "place", ignore=lambda *_: unused)
        monkeypatch.chdir(tmp_path)
        return Place(tmp_path / "place")

    return copy


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


IN_THE_SUITE = 12  # one case of so many; `-m slow` has the others
PARAMETERS = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if number % IN_THE_SUITE else [])
    for number, case in enumerate(CASES)
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_a_bad_input_is_answered(case: Case, copied, capfd, caplog):
    words = case.words
    if words.startswith("evaluate {run}") and "--data.root" not in words:
        words += " --data.root {data}"  # the run names the sound place's
    place = copied(words)
    case.spoil(place)
    before = state_of(place.top)
    code, text = said(words.format(**paths(place)).split(), capfd, caplog)
    assert "Traceback" not in text
    assert code in case.codes, text
    for pattern in case.says:
        assert re.search(pattern, text, re.IGNORECASE), text
    assert not re.search("[\0\x1b]", text)
    if code == 2:
        errors = [line for line in text.splitlines() if line.startswith("semiseg: error: ")]
        assert len(errors) == 1, text
        assert REPAIR.search(text.partition("semiseg: error: ")[2]), text
        assert len(text) < 5000
        assert state_of(place.top) == before
        assert not (place.new / "checkpoints").exists(), "refused when a part was done"
    assert not Path("harmed").exists()


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CASES) >= 500
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(corpus.GROUPS) == 11


def test_the_sound_place_is_sound(copied, capfd, caplog):
    """What is refused elsewhere is refused for what was spoiled."""
    place = copied("{run} {shards} {photos}")
    for words in (corpus.TRAIN, corpus.RESUME, corpus.EVALUATE + " --data.root {data}", corpus.PREDICT, corpus.REPORT):
        code, text = said(words.format(**paths(place)).split(), capfd, caplog)
        assert code == 0, text
    words = corpus.SHARDED.replace("{new}", "{top}/sharded")
    assert said(words.format(**paths(place)).split(), capfd, caplog)[0] == 0
    assert len(os.listdir(place.out / "masks")) == 2
