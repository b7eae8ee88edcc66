"""The record of a run: appended line by line, cut back on resume, readable by any JSON parser."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.runtime.files import plain, write_json
from semiseg.training.record import Record, read_record


def strict(text: str) -> object:
    """JSON as the standard has it: NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def written(path: Path, steps: int = 6) -> list[dict]:
    record = Record(path)
    for step in range(1, steps + 1):
        record.add("train", step, {"loss": 1 / step, "class": "Straße"})
    return read_record(path)


def test_entries_come_back_in_order(tmp_path):
    path = tmp_path / "run/metrics.jsonl"
    record = Record(path)
    record.add("train", 20, {"loss": 0.5})
    record.add("evaluation", 20, {"miou": 51.25, "linear": {"iou": {"sky": 1.0}}})
    assert read_record(path) == [
        {"kind": "train", "step": 20, "loss": 0.5},
        {"kind": "evaluation", "step": 20, "miou": 51.25, "linear": {"iou": {"sky": 1.0}}},
    ]
    assert len(path.read_text().splitlines()) == 2


def test_an_entry_is_on_the_disk_when_add_returns(tmp_path):
    record = Record(tmp_path / "metrics.jsonl")
    record.add("train", 1, {})
    assert read_record(tmp_path / "metrics.jsonl") == [{"kind": "train", "step": 1}]


def test_resuming_drops_what_the_run_will_write_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    before = written(path)
    record = Record(path, resume_at=4)
    assert read_record(path) == before[:4]
    record.add("train", 5, {"loss": 0.2, "class": "Straße"})
    assert read_record(path) == before[:5]


def test_a_new_run_starts_with_an_empty_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path)
    Record(path)
    assert path.read_bytes() == b""


def test_a_missing_record_has_no_entries(tmp_path):
    assert read_record(tmp_path / "none.jsonl") == []
    Record(tmp_path / "metrics.jsonl", resume_at=9)
    assert read_record(tmp_path / "metrics.jsonl") == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("record") / "metrics.jsonl"
    written(path)
    return path


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1))
def test_a_record_cut_anywhere_keeps_its_whole_lines(whole, share):
    """Also in the middle of a character of two bytes."""
    data = whole.read_bytes()
    kept = data[: int(share * len(data))]
    cut = whole.with_name("cut.jsonl")
    cut.write_bytes(kept)
    everything, lines = read_record(whole), kept.count(b"\n")
    found = read_record(cut)
    assert found in (everything[:lines], everything[: lines + 1])  # the second: only the line feed is missing
    Record(cut, resume_at=lines).add("train", lines + 1, {})
    assert read_record(cut) == [*everything[:lines], {"kind": "train", "step": lines + 1}]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    record = Record(tmp_path / "metrics.jsonl")
    record.add("evaluation", 1, {"miou": math.nan, "iou": {"sky": math.inf, "sea": 2.0}, "usage": [[np.nan, 1.0]]})
    entry = {"kind": "evaluation", "step": 1, "miou": None, "iou": {"sky": None, "sea": 2.0}, "usage": [[None, 1.0]]}
    assert strict((tmp_path / "metrics.jsonl").read_text()) == entry


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Record:
    return Record(tmp_path_factory.mktemp("any") / "metrics.jsonl")


@settings(max_examples=50, deadline=None)
@given(value=JSON)
def test_whatever_is_recorded_is_one_line_of_valid_json(shared, value):
    shared.path.write_bytes(b"")
    shared.add("train", 1, {"value": value})
    text = shared.path.read_bytes().decode()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert strict(text) == read_record(shared.path)[0]


def test_plain_speaks_json():
    found = plain({"path": Path("a/b"), "pair": (1, 2.5), 3: {"deep": [math.inf]}, "flag": True, "none": None})
    assert found == {"path": "a/b", "pair": [1, 2.5], "3": {"deep": [None]}, "flag": True, "none": None}


def test_write_json_is_valid_and_replaces_whole(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"miou": math.nan, "class": "Straße"})
    write_json(path, {"miou": 3.5})
    assert strict(path.read_text()) == {"miou": 3.5}
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]
