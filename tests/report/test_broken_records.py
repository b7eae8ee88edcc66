"""A run folder whose files are damaged, old, empty or another's: one message with the file and the repair."""

import json
import math
import shutil

import numpy as np
import pytest
from support.written_runs import write_run

from semiseg.cli.main import main
from semiseg.report.doubts import doubts
from semiseg.report.page import class_rows, write_report
from semiseg.report.runs import read_run
from semiseg.training.reading import read_entries


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of the paper's method, as training writes it."""
    return write_run(tmp_path_factory.mktemp("whole") / "run", "prototype")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def paths(document, above=()):
    """Every place of a document, as keys."""
    for key, value in (
        [*document.items()][: 2 if above[-1:] == ("iou",) else None] if isinstance(document, dict) else ()
    ):
        yield (*above, key)
        yield from paths(value, (*above, key))


def changed(document, keys, value):
    """The document with another value at a place; `...` takes it out."""
    document = json.loads(json.dumps(document))
    inside = document
    for key in keys[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[keys[-1]]
    else:
        inside[keys[-1]] = value
    return document


BAD = [..., None, "x", True, -1, math.nan, 10**400, ["x"], {"a": 1}]


def refused_or_reported(folder, name, capsys):
    """The page is written, or one line names the file and what to do."""
    try:
        write_report(folder)
    except ValueError as error:
        words = str(error)
        assert name in words
        assert "restore it" in words
        assert len(words) < 600
        return True
    return False


@pytest.mark.slow
def test_whatever_stands_in_a_result_is_reported_or_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("semiseg.report.page._write", drawn)
    document = json.loads((folder / "result.json").read_text())
    refused = 0
    for keys in paths(document):
        for value in BAD:
            (folder / "result.json").write_text(json.dumps(changed(document, keys, value)))
            refused += refused_or_reported(folder, "result.json", capsys)
    assert refused > 150


@pytest.mark.slow
def test_whatever_stands_in_a_record_is_reported_or_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("semiseg.report.page._write", drawn)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    refused = 0
    for number in (4, 5):  # the last line of training and the last evaluation
        entry = json.loads(lines[number])
        for keys in paths(entry):
            for value in BAD:
                new = [*lines[:number], json.dumps(changed(entry, keys, value)), *lines[number + 1 :]]
                (folder / "metrics.jsonl").write_text("\n".join(new) + "\n")
                refused += refused_or_reported(folder, "metrics.jsonl", capsys)
    assert refused > 150


def drawn(out, runs, title, verdict):
    """Stands in for `_write`: everything of the page but the pictures."""
    from semiseg.report.page import _values, template
    from semiseg.report.pictures import Gallery

    page = template("report.html.jinja")
    page.render(title=title, verdict=verdict, gallery=Gallery("", [], [], "none"), **_values(runs))
    return out


WRONG = [
    b"",
    b"\0" * 100,
    b"\x89PNG\r\n\x1a\n",
    b"[1, 2",
    b"[]",
    b"7",
    b'"text"',
    b"null",
    b"{}",
    b"NaN",
    b"[" * 10_000,
]


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("name", ["result.json", "confusions.npz", "config.yaml"])
def test_another_file_of_the_name_is_told_in_one_line(folder, capsys, name, content):
    (folder / name).write_bytes(content)
    assert main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("semiseg: error: ")
    assert err.count("\n") == 1
    assert name in err
    assert "\\x" not in err


@pytest.mark.parametrize("content", [each for each in WRONG if each])
def test_a_damaged_line_of_the_record_is_told_with_its_number(folder, capsys, content):
    lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")
    (folder / "metrics.jsonl").write_bytes(b"\n".join([*lines[:2], content.replace(b"\n", b""), *lines[2:]]))
    assert main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "metrics.jsonl, line 3" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "confusions.npz"])
def test_a_folder_of_the_name_is_told(folder, capsys, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    status = main(["report", str(folder)])
    err = capsys.readouterr().err
    assert status == (0 if name == "confusions.npz" else 2)
    assert name == "confusions.npz" or name in err


def test_a_last_line_that_is_being_written_is_left_out(folder):
    path = folder / "metrics.jsonl"
    before = read_entries(path)
    path.write_bytes(path.read_bytes() + b'{"kind": "train", "st')
    assert read_entries(path) == before


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"names": ["a"], "linear": np.zeros((1, 6, 5), np.int64)},
        {"names": ["a"], "linear": np.zeros((1, 5, 5), np.int64)},
        {"names": ["a"], "linear": np.zeros((2, 6, 6), np.int64)},
        {"names": ["a"], "linear": np.zeros((1, 6, 6))},
        {"names": ["a"], "linear": np.full((1, 6, 6), -1)},
        {"names": ["a"], "linear": np.array([{"a": 1}], object)},
        {"names": 3, "linear": 4},
    ],
)
def test_counts_of_another_shape_are_refused(folder, capsys, arrays):
    np.savez(folder / "confusions.npz", **arrays)
    assert main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "confusions.npz" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("missing", ["config.yaml", "everything"])
def test_a_folder_that_is_no_run_is_told(folder, capsys, missing):
    if missing == "everything":
        shutil.rmtree(folder)
    else:
        (folder / missing).unlink()
    assert main(["report", str(folder)]) == 2
    assert "is not a run folder: it has no config.yaml" in capsys.readouterr().err


# What a reader would overlook


def with_classes(folder, names):
    """The run with its classes called otherwise."""
    run = read_run(folder)
    result = run.result
    scores = result["last"]["val"]["linear"]
    scores["iou"] = dict(zip(names, scores["iou"].values(), strict=True))
    (folder / "result.json").write_text(json.dumps(result))
    return read_run(folder)


HOSTILE = ["mean", "all", "<script>alert(1)</script>", "x" * 5000, "a\u202eb\x07\n", "|a|b|"]


def test_no_class_is_lost_whatever_it_is_called(folder):
    run = with_classes(folder, HOSTILE)
    names = [name for name, _ in class_rows([run])]
    assert names == [*HOSTILE, "mean of the classes"]
    text = write_report(folder).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_the_mean_keeps_its_name_where_no_class_has_it(folder):
    assert class_rows([read_run(folder)])[-1][0] == "mean"


def test_a_run_without_a_taught_label_says_so(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert doubts(read_run(folder)) == []
    text = "".join(json.dumps({**line, "kept": 0.0} if "kept" in line else line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (words,) = doubts(read_run(folder))
    assert words.startswith("no pseudo-label ever taught")
    assert "no pseudo-label ever taught" in write_report(folder).read_text()


def test_a_class_that_was_never_found_is_named_and_an_absent_one_is_not(folder):
    result = json.loads((folder / "result.json").read_text())
    iou = result["last"]["val"]["linear"]["iou"]
    first, second, *_ = iou
    iou[first], iou[second] = 0.0, None
    (folder / "result.json").write_text(json.dumps(result))
    (words,) = doubts(read_run(folder))
    assert f"IoU is 0 at the last step for {first}:" in words
    assert second not in words


def test_an_unfinished_run_is_not_judged(folder):
    (folder / "result.json").unlink()
    assert doubts(read_run(folder)) == []


@pytest.mark.parametrize(("order", "words"), [([0, 0], "another train of step"), ([1, 0], "stands behind step")])
def test_lines_that_stand_twice_or_elsewhere_are_not_drawn(folder, order, words):
    """As `--resume` refuses them."""
    record = folder / "metrics.jsonl"
    lines = [json.dumps({"kind": "train", "step": step, "supervised": 1.0}) + "\n" for step in (10, 20)]
    record.write_text("".join(lines[number] for number in order))
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2, is damaged: .*{words}"):
        write_report(folder)
