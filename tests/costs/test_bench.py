"""The benchmarks run, and what they compare is the same work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from support.benches import CPU, step_bench

from semiseg.config.options import AugmentOptions
from semiseg.costs.bench import prototypes, step
from semiseg.costs.bench import run as command
from semiseg.costs.bench.data import usual_view
from semiseg.costs.bench.pictures import write_pictures
from semiseg.costs.bench.prototypes import Case, _inference, _loss_and_gradient, _training, make_case
from semiseg.costs.bench.run import show
from semiseg.costs.bench.table import Table
from semiseg.methods import METHODS
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.sampling import grid_points
from semiseg.runtime.timing import median_seconds, peak_bytes
from semiseg.types import IGNORE


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_measured_against_its_passes(method, tmp_path, monkeypatch):
    bench = step_bench(method, tmp_path)
    before = [parameter.clone() for parameter in bench.method.student.parameters()]
    bench.floor()
    assert all(old.equal(new) for old, new in zip(before, bench.method.student.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in bench.method.parameters())
    bench.step()
    assert any(not old.equal(new) for old, new in zip(before, bench.method.student.parameters(), strict=True))
    assert len(bench.images) == (2 if method == "supervised" else 4)
    monkeypatch.setattr("semiseg.costs.bench.step.median_seconds", lambda *_: {"floor": 2.0, "step": 3.0})
    monkeypatch.setattr("semiseg.costs.bench.step.peak_bytes", lambda call, _: 4e6 if call == bench.floor else 5e6)
    row = bench.row(1)
    assert [row["time ratio"], row["memory ratio"]] == [1.5, 1.25]
    assert [row["step s"], row["floor s"], row["step MB"], row["floor MB"]] == [3, 2, 5, 4]


def test_every_part_of_the_prototype_step_is_measured(tmp_path, monkeypatch):
    bench = step_bench("prototype", tmp_path)
    bench.step()
    done: list[str] = []
    calls = {"pseudo_label": "pseudo-labels", "strong_view": "strong view", "mix_batch": "mix"}
    for name, part in calls.items():
        original = getattr(step, name)
        monkeypatch.setattr(
            step, name, lambda *given, original=original, part=part: (done.append(part), original(*given))[1]
        )
    before = {name: tensor.clone() for name, tensor in bench.method.teacher.state_dict().items()}
    parts = [row["part"] for row in bench.parts(1)]
    assert parts == [
        *("floor", "data", "teacher pass", "pseudo-labels", "strong view", "mix"),
        *("linear losses, both ways", "prototype losses, both ways", "optimizer", "teacher and prototypes follow"),
    ]
    assert set(done) == set(calls.values())
    moved = [parameter.clone() for parameter in bench.method.student.parameters()]
    bench.floor()
    bench._parts()["optimizer"]()  # by momentum, though the gradient is 0
    assert not any(old.equal(new) for old, new in zip(moved, bench.method.student.parameters(), strict=True))
    after = bench.method.teacher.state_dict()
    assert any(not tensor.equal(after[name]) for name, tensor in before.items())


def test_memory_counts_what_is_held_at_one_time():
    def two_of_three() -> None:
        one = torch.zeros(1000, 1000)
        two = one + 1
        del one
        three = two * 2
        del two, three

    assert peak_bytes(two_of_three, CPU) == pytest.approx(8e6, rel=0.01)


def test_rounds_alternate_and_the_first_does_not_count(monkeypatch):
    seen: list[str] = []
    # When each call begins and ends: the rounds take a 9, 1, 3, 2 seconds and b 9, 5, 5, 8.
    clock = iter(np.cumsum([0, 9, 0, 9, 0, 1, 0, 5, 0, 3, 0, 5, 0, 2, 0, 8]).tolist())
    monkeypatch.setattr("semiseg.runtime.timing.time.perf_counter", lambda: next(clock))
    seconds = median_seconds({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3, CPU)
    assert seen == ["a", "b"] * 4
    assert seconds == {"a": 2, "b": 5}


def small_case() -> Case:
    generator = torch.Generator().manual_seed(0)
    predictor = PrototypePredictor(3, 2, 8)
    predictor.prototypes.normal_(generator=generator)
    predictor.ready.fill_(True)
    features = torch.randn(2, 8, 5, 6, generator=generator)
    return Case(
        features, torch.randint(3, (2, 17, 21), generator=generator), grid_points(17, 21, 4, generator), predictor
    )


def test_both_prototype_heads_give_one_loss_and_gradient():
    case = small_case()
    features = case.features.requires_grad_()
    (one, first), (two, second) = (_loss_and_gradient(way, features) for way in (case.sampled, case.upsampled))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(case.dense(), case.dense_upsampled(), rtol=1e-5, atol=1e-5)
    assert "Loss and gradient differ by at most" in _training(small_case(), 1, CPU).note
    assert _inference(small_case(), 1, CPU).note.startswith("0 of 714 pixels")


def test_the_heads_are_measured_on_features_laid_out_as_those_of_a_step(tmp_path, monkeypatch):
    bench = step_bench("prototype", tmp_path)
    in_a_step = bench.method.student(bench.images).features
    monkeypatch.setattr(prototypes, "SMALL", (9, 11))
    monkeypatch.setattr(prototypes, "SIZE", (33, 41))
    measured = make_case(2, CPU).features
    for layout in (torch.channels_last, torch.contiguous_format):
        assert measured.is_contiguous(memory_format=layout) == in_a_step.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("size", [(60, 80), (34, 40)])
def test_the_usual_view_has_the_crop_s_size(size, tmp_path):
    write_pictures(tmp_path / "pictures", 1, 0, size)
    image, mask = (next((tmp_path / "pictures" / kind).iterdir()) for kind in ("images", "masks"))
    view, label = usual_view(image, mask, AugmentOptions(crop_height=48, crop_width=64))
    assert view.shape == (3, 48, 64)
    assert label.shape == (48, 64)
    assert set(label.unique().tolist()) <= {*range(6), IGNORE}


def test_tables_are_printed_and_written(tmp_path, monkeypatch):
    table = Table("a title", [{"way": "one", "ms": 1.5}, {"way": "two", "ms": 2.5}], "a note")
    monkeypatch.setitem(command.__globals__["BENCHMARKS"], "start", lambda device, repeats: [table])
    console = Console(record=True, width=100)
    command(["start"], tmp_path / "bench.json", CPU, 3, console)
    text = console.export_text()
    assert all(word in text for word in ("a title", "one", "2.5", "a note"))
    narrow = Console(record=True, width=40)
    show(Table("wide", [{"method": "mean_teacher", "a long heading": 1.0, "another long heading": 2.0}]), narrow)
    assert "mean_teacher" in narrow.export_text()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["tables"] == [{"benchmark": "start", **vars(table)}]
    assert written["repeats"] == 3
    assert "torch" in written["provenance"]["versions"]
    markdown = (tmp_path / "bench.md").read_text()
    assert "## a title\n\n| way | ms |\n| --- | ---: |\n| one | 1.5 |\n| two | 2.5 |\n\na note\n" in markdown
    assert f"torch {torch.__version__}" in markdown


def test_what_was_measured_before_an_interruption_stays(tmp_path, monkeypatch):
    def interrupted(device, repeats):
        yield Table("first", [{"ms": 1.5}])
        raise KeyboardInterrupt

    monkeypatch.setitem(command.__globals__["BENCHMARKS"], "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command(["start"], tmp_path / "bench.json", CPU, 3, Console(quiet=True))
    assert [table["title"] for table in json.loads((tmp_path / "bench.json").read_text())["tables"]] == ["first"]
    with pytest.raises(ValueError, match=r"--out bench.md .* choose a name that ends in .json"):
        command(["start"], Path("bench.md"), CPU, 3)
