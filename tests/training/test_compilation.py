"""Compiled networks learn what uncompiled ones learn, in a fixed number of graphs, and resume to the bit."""

import itertools
import multiprocessing
import re
import shutil
import signal
import sys

import pytest
import torch
from support import tiny, tiny_run
from support.equality import same, step_of
from support.ranks import in_ranks

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Config
from semiseg.costs import estimate
from semiseg.methods import METHODS
from semiseg.training import compilation
from semiseg.training import finished as runs
from semiseg.training.compilation import compile_networks, uncompiled
from semiseg.training.experiment import train

needs_compiler = pytest.mark.skipif(
    shutil.which(compilation.COMPILER) is None, reason="torch's compiler needs a C++ compiler"
)


@pytest.fixture
def graphs(monkeypatch) -> list[tuple[int, ...]]:
    """Nothing is compiled, but captured: graphs run as they were written; of each, the shape of its images."""
    seen: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        seen.extend(tuple(tensor.shape) for tensor in inputs if tensor.ndim == 4 and tensor.shape[1:] in IMAGES)
        return graph.forward

    monkeypatch.setenv("CXX", sys.executable)  # any program: it is asked for, and not used
    monkeypatch.setattr(compilation, "HOW", {"dynamic": compilation.HOW["dynamic"], "backend": backend})
    return seen


IMAGES = ((3, 32, 32), (3, 32, 40))  # a crop, and a whole image


def test_a_run_makes_a_graph_per_shape_of_a_step_and_ends_as_one_without(graphs, tmp_path):
    """Warm-up, student after it, teacher; evaluations and the K-means start see whole images, and add none."""
    train(tiny_run.tiny_config(tmp_path / "plain"), console=tiny_run.QUIET)
    assert graphs == []
    train(tiny_run.tiny_config(tmp_path / "compiled", compile=True), console=tiny_run.QUIET)
    assert graphs == [(2, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)]
    same(tmp_path / "compiled", tmp_path / "plain")
    graphs.clear()
    scores = [runs.evaluate(tmp_path / name, console=tiny_run.QUIET)["miou"] for name in ("plain", "compiled")]
    assert scores[0] == scores[1]
    assert graphs == []


def test_many_networks_after_one_another_are_all_compiled(graphs):
    """Together they have more graphs than torch keeps."""
    limit = torch._dynamo.config.recompile_limit
    for more in range(limit + 2):
        network = tiny.segmentor()
        compile_networks(network)
        network(torch.zeros(2 + more, 3, 32, 32))
    assert [shape[0] for shape in graphs] == list(range(2, limit + 4))


def test_the_teacher_s_copy_is_compiled_and_its_names_stay(graphs):
    method = METHODS["cutmix"](tiny.segmentor(), METHOD_OPTIONS["cutmix"](warmup=0), tiny.setting())
    names = list(method.state_dict())
    compile_networks(method)
    assert list(method.state_dict()) == names
    labeled, unlabeled = tiny.batches(size=(32, 32))
    method(labeled, unlabeled, tiny.clock()).loss.backward()
    assert graphs == [(3, 3, 32, 32), (5, 3, 32, 32)]
    with uncompiled():
        method.teacher(torch.zeros(1, 3, 32, 40))
    assert len(graphs) == 2
    method.teacher(torch.zeros(1, 3, 32, 40))
    assert graphs[2:] == [(1, 3, 32, 40)]


def test_an_estimate_does_not_compile(graphs, tmp_path):
    plain, compiled = (tiny_run.tiny_config(tmp_path, compile=wanted) for wanted in (False, True))
    assert estimate.count_step(compiled, 6) == estimate.count_step(plain, 6)
    assert graphs == []


def test_a_machine_without_a_compiler_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        ValueError, match=rf"needs a C\+\+ compiler, and {re.escape(compilation.COMPILER)} is not there"
    ):
        compile_networks(tiny.segmentor())
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and my-compiler is not there"):
        compile_networks(tiny.segmentor())


def test_a_compiler_that_torch_does_not_look_for_does_not_count(monkeypatch, tmp_path):
    for name in ("g++", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compilation.has_compiler()
    monkeypatch.setenv("CXX", "missing")
    assert not compilation.has_compiler()
    monkeypatch.delenv("CXX")
    (tmp_path / compilation.COMPILER).unlink()
    assert not compilation.has_compiler()


def trained(method: str, compiled: bool, steps: int) -> dict[str, torch.Tensor]:
    """The state after some steps; one with dropout, of which the draws have to be the same."""
    network = tiny.segmentor(dropout=0.3)
    made = METHODS[method](network, METHOD_OPTIONS[method](**WARM.get(method, {})), tiny.setting())
    optimizer = tiny.optimizer_of(made)
    if compiled:
        compile_networks(made)
    for step in range(steps):
        tiny.train_step(made, optimizer, tiny.batches(seed=step), tiny.clock(step))
    return made.state_dict()


WARM = {"cutmix": {"warmup": 0.2, "threshold": 0.3}}


@needs_compiler
@pytest.mark.parametrize("method", ["supervised", pytest.param("cutmix", marks=pytest.mark.slow)])
def test_compiled_steps_are_the_steps(method):
    plain, compiled = (trained(method, wanted, 4) for wanted in (False, True))
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-5, msg=name)


def train_captured(config: Config) -> int:
    """A run whose networks are captured and not compiled; how many graphs that took."""
    counted = itertools.count()
    compilation.HOW = {"dynamic": False, "backend": lambda graph, _: (next(counted), graph.forward)[1]}
    tiny_run.train_quietly(config)
    return next(counted)


@needs_compiler
@pytest.mark.slow
def test_processes_compile_each_its_own(tmp_path):
    sizes = {"batch_labeled": 4, "batch_unlabeled": 4, "steps": 5, "checkpoint_every": 5}
    plain, compiled = (
        tiny_run.tiny_config(tmp_path / str(wanted), compile=wanted, **sizes) for wanted in (False, True)
    )
    for config, least in ((plain, 0), (compiled, 3)):
        counts = in_ranks(2, tmp_path / f"group{config.train.compile}", train_captured, config)
        assert None not in counts, [file.read_text() for file in tmp_path.glob("group*/*.txt")]
        assert min(counts) >= least
    assert counts[0] == counts[1]
    same(compiled.run_folder, plain.run_folder)


def in_process(function, *arguments) -> int | None:
    """Exit code of a call in a process of its own."""
    child = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    child.start()
    child.join()
    return child.exitcode


@needs_compiler
@pytest.mark.slow
def test_a_compiled_run_that_is_killed_resumes_to_the_bit(tmp_path):
    """Killed after its warm-up, so that the life that resumes meets the shapes in another order."""
    whole, killed = (tiny_run.tiny_config(tmp_path / name, "cutmix", compile=True) for name in ("whole", "killed"))
    assert in_process(tiny_run.train_quietly, whole) == 0
    assert in_process(tiny_run.train_and_die_writing, killed, 7, False) == -signal.SIGKILL
    assert 4.8 < step_of(killed) < 12
    assert in_process(tiny_run.train_quietly, killed) == 0
    same(killed.run_folder, whole.run_folder)
