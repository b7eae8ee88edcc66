"""The demo from end to end, on very few steps: both runs, the table, the verdict, the report with its pictures."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from semiseg.data.sets.scenes import CLASSES
from semiseg.report import save_sheet
from semiseg.report.runs import read_run
from semiseg.studies.demo import demo, demo_study, verdict


def runs_in(out):
    return [read_run(out / f"12-{method}-seed1") for method in ("supervised", "prototype")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A demo of four steps, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "runs"
    printed = io.StringIO()
    report = demo(out, steps=4, seed=1, console=Console(file=printed, width=200))
    return out, report, printed.getvalue()


def test_it_prints_every_class_the_verdict_and_the_report(done):
    out, report, printed = done
    assert report == out / "report.html"
    assert str(report) in printed
    for name in (*CLASSES, "mean"):
        assert re.search(rf"{name} .*\d\.\d", printed)
    runs = runs_in(out)
    assert f"Verdict: {verdict(runs[1].miou - runs[0].miou)}" in printed
    assert "scores are the last step's" in printed


def test_the_report_has_the_verdict_the_classes_the_pictures_and_no_address(done):
    out, report, _ = done
    page = report.read_text("utf-8")
    runs = runs_in(out)
    assert f'aria-level="2">{verdict(runs[1].miou - runs[0].miou)}<' in page
    assert all(name in page for name in CLASSES)
    assert len(re.findall(r'<img src="data:image/(?:png|jpeg);base64,', page)) >= 3 * 4
    assert not re.search(r"https?://", page)
    assert len(page) < 3_000_000


def test_both_runs_have_the_same_labels_steps_and_seed(done):
    out, _, _ = done
    first, second = runs_in(out)
    assert first.result["split"] == second.result["split"]
    assert (first.step, second.step, first.config.seed, second.config.seed) == (4, 4, 1, 1)
    for part in ("data", "augment", "network", "optim", "train", "evaluation"):
        assert getattr(first.config, part) == getattr(second.config, part)


def test_a_finished_demo_is_used_as_it_is_and_one_of_other_steps_is_refused(done):
    out, _, _ = done
    before = {path: path.read_bytes() for path in out.rglob("metrics.jsonl")}
    printed = io.StringIO()
    demo(out, steps=4, seed=1, console=Console(file=printed, width=200))
    assert "2 are finished" in printed.getvalue()
    assert before == {path: path.read_bytes() for path in out.rglob("metrics.jsonl")}
    with pytest.raises(ValueError, match=r"other options: train.steps was 4 and is 5"):
        demo(out, steps=5, seed=1, console=Console(quiet=True))


def test_the_sheet_for_the_readme(done, tmp_path):
    out, _, _ = done
    path = save_sheet([run.folder for run in runs_in(out)], ["supervised", "ours"], tmp_path / "docs/demo.png", 120)
    sheet = Image.open(path)
    assert sheet.width == 4 * 120 + 3 * 8 + 16
    assert sheet.height > 3 * 96
    assert path.stat().st_size < 300_000
    assert len(np.unique(np.asarray(sheet))) > 6


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (4.26, "the unlabelled images helped: +4.3 mIoU"),
        (-3.14, "the unlabelled images did not help: -3.1 mIoU"),
        (0.04, "the unlabelled images did not help: +0.0 mIoU"),
    ],
)
def test_the_verdict_says_what_was_measured(difference, words):
    assert verdict(difference) == words


def test_steps_default_to_the_recipes(tmp_path):
    assert demo_study(tmp_path, None, 0).config.train.steps > 100
    assert demo_study(tmp_path, 7, 0).config.train.steps == 7
