"""The harness that disturbs runs: a few rounds of it, and that it notices what it is there for."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from semiseg.cli.main import main
from semiseg.studies.faults import check, hooks, process, rounds
from semiseg.studies.faults.check import losses, open_losses
from semiseg.studies.faults.kinds import KINDS
from semiseg.studies.faults.process import Running
from semiseg.studies.faults.round import Bench
from semiseg.studies.faults.subject import Subject
from semiseg.training.checkpoint import load_checkpoint

FAST = ("write", "files")
"""Of these kinds one round runs in the suite; `-m slow` has three of each."""
ROUNDS = [
    pytest.param(kind, seed, marks=[] if kind in FAST and seed == 0 else [pytest.mark.slow])
    for kind in KINDS
    for seed in range(3)
]
SUBJECT = Subject("supervised", 20)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), main)


@pytest.fixture
def finished(bench, tmp_path) -> tuple[Path, Path]:
    """A copy of a run that was left alone, and the run itself."""
    alone = bench.reference(SUBJECT).run
    shutil.copytree(alone, tmp_path / "run")
    return tmp_path / "run", alone


@pytest.mark.parametrize(("kind", "seed"), ROUNDS)
def test_nothing_is_lost(bench, monkeypatch, kind, seed):
    if kind in FAST:  # one run for all, which is left alone once
        monkeypatch.setattr(Subject, "draw", classmethod(lambda cls, rng, devices=1: SUBJECT))
    outcome = rounds.run_round(bench, 1000 + seed, [kind])
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)
    assert outcome.problems == (), outcome.story


# The check notices ----------------------------------------------------------------------------------------------------


def test_an_equal_run_has_no_losses(finished):
    assert losses(*finished) == []


def weight(state: dict) -> None:
    tensor = next(tensor for tensor in state["method"].values() if tensor.is_floating_point())
    tensor[(0,) * tensor.ndim] *= 1 + 2**-20


def momentum(state: dict) -> None:
    next(iter(state["optimizer"]["sgd"]["state"].values()))["momentum_buffer"].add_(1)


@pytest.mark.parametrize("change", [weight, momentum])
def test_a_changed_tensor_is_a_loss(finished, monkeypatch, change):
    found, alone = finished

    def load(path: Path) -> dict:
        state = load_checkpoint(path)
        if path == found / "checkpoints/last.pt":
            change(state)
        return state

    monkeypatch.setattr(check, "load_checkpoint", load)
    (problem,) = losses(found, alone)
    assert problem.startswith({weight: "method.", momentum: "optimizer.sgd.state."}[change])


def lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda kept: [*kept[:2], kept[1], *kept[2:]], "the record repeats train of step"),
        (lambda kept: [*kept[:1], *kept[2:]], "the record lost train of step"),
        (lambda kept: [kept[1], kept[0], *kept[2:]], "another order"),
        (lambda kept: [kept[0].replace('"lr": ', '"lr": 1'), *kept[1:]], "record.train of step 4.lr differs"),
        (lambda kept: [*kept[:-1], kept[-1][:20]], "cannot be read"),
    ],
)  # fmt: skip
def test_a_record_that_differs_is_a_loss(finished, edit, words):
    found, alone = finished
    (found / "metrics.jsonl").write_text("".join(edit(lines(found))))
    assert any(words in problem for problem in losses(found, alone))


def test_clocks_do_not_count(finished):
    found, alone = finished
    entries = [json.loads(line) for line in lines(found)]
    text = "".join(json.dumps(entry | ({"seconds": 9.0} if "seconds" in entry else {})) + "\n" for entry in entries)
    (found / "metrics.jsonl").write_text(text)
    assert losses(found, alone) == []


@pytest.mark.parametrize("name", ["checkpoints/.last.pt.tmp", "left.txt"])
def test_a_file_left_over_is_a_loss(finished, name):
    (finished[0] / name).write_bytes(b"")
    assert losses(*finished) == [f"{name} is left over"]


@pytest.mark.parametrize("name", ["result.json", "model/model.safetensors", "checkpoints/best.pt", "report.html"])
def test_a_missing_file_is_a_loss(finished, name):
    (finished[0] / name).unlink()
    assert f"{name} is missing" in losses(*finished)[0]


def test_half_a_checkpoint_is_a_loss_while_a_run_is_stopped(finished):
    last = finished[0] / "checkpoints/last.pt"
    assert open_losses(finished[0]) == []
    last.write_bytes(last.read_bytes()[:999])
    assert len(open_losses(finished[0])) == 1


# The process under test -----------------------------------------------------------------------------------------------


def sleeping(words) -> int:
    """A command line that starts a process, and ends before it or hangs."""
    if os.fork() == 0:
        os.execlp("sleep", "sleep", "60")
    print("begun", flush=True)
    if "hang" in words:
        signal.pause()
    return 3


@pytest.mark.parametrize(
    ("words", "code", "problem"), [(["hang"], -9, "still running after"), ([], 3, "1 processes are left")]
)
def test_what_hangs_or_stays_is_ended_and_told(tmp_path, monkeypatch, words, code, problem):
    monkeypatch.setattr(process, "PATIENCE", 3.0)
    monkeypatch.setattr(process, "_LAST", 0.5)
    ending = Running(sleeping, words, tmp_path / "log").end()
    assert ending.code == code
    assert ending.output == "begun\n"
    assert problem in ending.problems[0]


def test_a_write_is_cut_and_a_read_is_short(tmp_path):
    """The traps do what their names say, in processes of their own."""
    written = tmp_path / "written"
    trap = partial(hooks.die_writing, 1, "half", 0.5)
    assert Running(write_ten, [str(written)], tmp_path / "log", trap).end().code == -signal.SIGKILL
    assert [path.stat().st_size for path in tmp_path.glob(".semiseg-*")] == [5]
    assert Running(write_ten, [str(written)], tmp_path / "log", partial(hooks.limit_file_size, 4)).end().code == 27
    assert Running(write_ten, [str(written)], tmp_path / "log").end().code == 0
    ending = Running(read_often, [str(written)], tmp_path / "log", partial(hooks.read_short, (tmp_path,), 1)).end()
    assert ending.output == "short\n"


def write_ten(words) -> int:
    from semiseg.runtime.files import write_atomically

    try:
        write_atomically(Path(words[0]), lambda file: file.write(b"0123456789"))
    except OSError as error:
        return error.errno or 1
    return 0


def read_often(words) -> int:
    lengths = set()
    for _ in range(20):
        with open(words[0], "rb") as file:
            lengths.add(len(file.read1(10)))
    print("short" if min(lengths) < 10 else "whole", flush=True)
    return 0


# The command ----------------------------------------------------------------------------------------------------------


def test_rounds_are_told_line_by_line_and_summed_up(monkeypatch, capsys):
    def outcome(bench, seed, kinds):
        return rounds.Outcome(
            "kill", seed, "cps, 20 steps", ("killed",), ("the weights differ",) if seed == 6 else (), None, 1
        )

    monkeypatch.setattr(rounds, "run_round", outcome)
    with pytest.raises(SystemExit) as ended:
        main(["selftest", "faults", "--rounds", "3", "--seed", "5"])
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "1/3 seed 5 kill (cps, 20 steps): killed: kept, 1.0 s" in text
    assert "    the weights differ" in text
    kept, lost = text.count(": kept"), text.count(": lost")
    assert (kept, lost) == (2, 1)
    cells = [[cell.strip() for cell in row.split("│")[1:6]] for row in text.splitlines() if "│" in row]
    assert cells == [["kill", "3", "2", "1", "0"]]


def test_the_kinds_of_the_help_are_the_kinds():
    from semiseg.cli.selftest import faults

    assert ", ".join(KINDS) + "." in (faults.__doc__ or "")


@pytest.mark.parametrize(
    ("words", "says"), [("--rounds 0", "expected 1 or more"), ("--kinds kill,moon", "no kind of fault moon")]
)
def test_a_mistake_is_told(capsys, words, says):
    assert main(["selftest", "faults", *words.split()]) == 2
    assert says in capsys.readouterr().err
