"""What the benchmarks of steps, options and estimates print follows from what they measure."""

import os
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from support.benches import SMALL

from semiseg.cli import commands
from semiseg.costs.bench import BENCHMARKS, estimate, options, step
from semiseg.costs.bench.estimate import bench_estimate
from semiseg.costs.bench.options import CACHE, WAYS, bench_options
from semiseg.costs.bench.step import config_for
from semiseg.costs.estimate import count_step
from semiseg.methods import METHODS

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """One small preset, few pictures, and a compiler that is there but not asked."""
    monkeypatch.setattr(step, "PRESETS", {"cpu": {"small": SMALL}})
    for module in (options, estimate):
        monkeypatch.setattr(module, "PRESETS", step.PRESETS)
    monkeypatch.setattr(step, "LABELED", 6)
    monkeypatch.setattr(step, "UNLABELED", 6)
    monkeypatch.setattr("semiseg.training.compilation.HOW", {"backend": "eager"})
    monkeypatch.setenv("CXX", sys.executable)


def test_the_command_offers_every_benchmark():
    assert list(get_args(get_type_hints(commands.bench)["what"])) == ["all", *BENCHMARKS]
    assert all(f"`{name}`" in (commands.bench.__doc__ or "") for name in BENCHMARKS)


class Steps:
    """A bench that has measured before."""

    def __init__(self, config, device) -> None:
        self.method = config.method

    def row(self, repeats: int) -> dict:
        return {"method": self.method, "time ratio": 1.05 if self.method == "prototype" else 1.2}

    def parts(self, repeats: int) -> list[dict]:
        return [{"part": self.method}]


def test_every_method_s_step_is_measured_once_and_the_extremes_in_every_preset(small, monkeypatch):
    monkeypatch.setattr(step, "PRESETS", {"cpu": {"small": SMALL, "other": SMALL}})
    monkeypatch.setattr(step, "StepBench", Steps)
    first, parts, other, _ = step.bench_step(CPU, 1)
    assert [row["method"] for row in first.rows] == list(METHODS)
    assert [row["method"] for row in other.rows] == ["supervised", "prototype"]
    assert first.note == other.note == "Time ratio of prototype: 1.05; target at most 1.10."
    assert parts.rows == [{"part": "prototype"}]


@pytest.mark.slow
def test_each_option_is_held_against_the_step_as_shipped(small, monkeypatch):
    """The steps are run; that of each way is of a network laid out, or compiled, as the way says."""
    caches, built = [], {}
    original = options.median_seconds

    def seconds(steps, *rest):
        caches.append(os.environ[CACHE])
        built.update(steps)
        return original(steps, *rest)

    monkeypatch.setenv(CACHE, "/kept")
    monkeypatch.setattr(options, "median_seconds", seconds)
    (table,) = bench_options(CPU, 1)
    assert [row["step"] for row in table.rows] == list(WAYS)
    shipped = table.rows[0]["s"]
    for row in table.rows:
        assert row["s"] > 0
        assert row["time ratio"] == pytest.approx(row["s"] / shipped, rel=0.02)
    assert [row["compiling s"] != 0 for row in table.rows][:2] == [False, False]
    assert table.rows[2]["compiling s"] > 0
    assert caches != ["/kept"]
    assert os.environ[CACHE] == "/kept"
    made = [call.__self__ for call in built.values()]
    assert [bench.config.train.channels_last for bench in made] == [True, False, True]
    assert [bench.method.student._compiled_call_impl is not None for bench in made] == [False, False, True]


def test_without_a_compiler_the_rest_is_measured(small, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX")
    (table,) = bench_options(CPU, 1)
    assert [row["step"] for row in table.rows] == ["as shipped", "--train.no-channels_last"]
    assert table.note.startswith("There is no C++ compiler")


def test_estimates_stand_beside_what_is_measured(small):
    (table,) = bench_estimate(CPU, 1)
    assert [row["method"] for row in table.rows] == ["supervised", "prototype"]
    for row in table.rows:
        assert row["time ratio"] == pytest.approx(row["step s"] / row["estimated s"], rel=0.1)  # of rounded figures
        assert row["memory ratio"] == pytest.approx(row["MB"] / row["estimated MB"], abs=0.02)
        cost = count_step(config_for(row["method"], SMALL, Path()), 6)
        assert row["estimated MB"] == pytest.approx(cost.memory / 1e6, abs=0.06)
    first, second = table.rows
    assert second["MB"] > first["MB"]  # unlabelled images and a teacher
