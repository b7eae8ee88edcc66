"""What the benchmarks of steps, options and estimates print follows from what they measure."""

import os
import sys
from typing import get_args, get_type_hints

import pytest
import torch
from support.benches import SMALL

from semiseg.cli import commands
from semiseg.costs.bench import BENCHMARKS, estimate, options, step
from semiseg.costs.bench.estimate import bench_estimate
from semiseg.costs.bench.options import CACHE, WAYS, bench_options
from semiseg.costs.estimate import count_step
from semiseg.costs.speed import Speed
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


def test_each_option_is_held_against_the_step_as_shipped(small, monkeypatch):
    caches, built = [], {}

    def seconds(steps, *_):
        caches.append(os.environ[CACHE])
        built.update(steps)
        return dict(zip(steps, (2.0, 3.0, 1.5), strict=True))

    monkeypatch.setenv(CACHE, "/kept")
    monkeypatch.setattr(options, "median_seconds", seconds)
    monkeypatch.setattr(options, "timed", lambda call, _: 9.0)
    (table,) = bench_options(CPU, 1)
    assert [row["step"] for row in table.rows] == list(WAYS)
    assert [row["time ratio"] for row in table.rows] == [1, 1.5, 0.75]
    assert [row["compiling s"] for row in table.rows] == [0, 0, 7.5]
    assert caches != ["/kept"]
    assert os.environ[CACHE] == "/kept"
    made = [call.__self__ for call in built.values()]
    assert [bench.config.train.channels_last for bench in made] == [True, False, True]
    assert [bench.method.student._compiled_call_impl is not None for bench in made] == [False, False, True]


def test_without_a_compiler_the_rest_is_measured(small, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(options, "median_seconds", lambda steps, *_: dict.fromkeys(steps, 1.0))
    monkeypatch.setattr(options, "timed", lambda call, _: 1.0)
    (table,) = bench_options(CPU, 1)
    assert [row["step"] for row in table.rows] == ["as shipped", "--train.no-channels_last"]
    assert table.note.startswith("There is no C++ compiler")


def test_estimates_stand_beside_what_is_measured(small, monkeypatch):
    benches = []

    def peak(call, _):
        benches.append(call.__self__)
        return 7_000_000

    monkeypatch.setattr(estimate, "measured_speed", lambda *_: Speed(1e9, 1e9, "made up"))
    monkeypatch.setattr(estimate, "median_seconds", lambda *_: {"step": 3.0})
    monkeypatch.setattr(estimate, "peak_bytes", peak)
    (table,) = bench_estimate(CPU, 1)
    assert [row["method"] for row in table.rows] == ["supervised", "prototype"]
    for row, bench in zip(table.rows, benches, strict=True):
        cost = count_step(bench.config, 6)
        assert row["estimated s"] == pytest.approx((cost.flops + cost.bytes) / 1e9, abs=1e-4)
        assert row["time ratio"] == pytest.approx(3e9 / (cost.flops + cost.bytes), abs=1e-3)
        assert row["MB"] == pytest.approx(7 + bench.held() / 1e6, abs=0.1)
        assert row["memory ratio"] == pytest.approx((7e6 + bench.held()) / cost.memory, abs=1e-3)
