"""The page's first screen: what it says follows from the counts, and what is not known is said to be so."""

import json
import math
import re

import numpy as np
import pytest
from support import tiny_run
from support.pages import OUTSIDE, Page
from support.written_runs import write_run

from semiseg.data.sets.scenes import CLASSES
from semiseg.report import Answer, Verdict, write_answer, write_report
from semiseg.report.curves import charts
from semiseg.report.opening import Found, grade, opening, sentence
from semiseg.report.page import LIMIT
from semiseg.report.pictures import missed
from semiseg.report.runs import read_run
from semiseg.training.experiment import train


def found(name, iou, background=False):
    return Found(name, grade(iou), iou, math.nan, math.nan, None, math.nan, background)


def of(runs, baselines=(), **changes):
    answer = Answer("t", tuple(runs), tuple(baselines), **changes)
    return opening(answer, [read_run(run) for run in runs], [read_run(run) for run in baselines])


@pytest.mark.parametrize(
    ("iou", "words"),
    [(99, "found well"), (75, "found well"), (74.9, "mostly found"), (50, "mostly found"), (25, "found in part"),
     (24.9, "hardly found"), (0.9, "not found"), (0, "not found"), (math.nan, "not to be judged")],
)  # fmt: skip
def test_an_iou_in_words(iou, words):
    assert grade(iou) == words


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([found("sky", 90), found("road", 60), found("car", 30), found("pole", 2)],
         "2 of 4 classes are found; too little is found of pole and car"),
        ([found("background", 99, True), found("nucleus", 62)], "nucleus: mostly found, 62 of 100"),
        ([found("a", 80), found("b", 51)], "All 2 classes are found"),
        ([found("a", 10), found("b", 5)], "No class is mostly found; least of b and a"),
        ([found("a", 80), found("b", math.nan)], "a: found well, 80 of 100"),
        ([found("a", math.nan)], "No validation picture shows an object"),
        ([], "There is no score yet"),
        ([found(f"c{at}", 80 if at < 2 else at) for at in range(12)],
         "2 of 12 classes are found; too little is found of c2, c3, c4, c5, c6, c7 and 4 more"),
    ],
)  # fmt: skip
def test_whether_the_objects_are_found_is_a_sentence(classes, words):
    assert sentence(classes) == words


def test_figures_by_class_equal_slow_counts(tmp_path):
    run = write_run(tmp_path / "run", "prototype")
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (5, 6, 6))
    counts[:, 3] = 0  # no picture shows class 3
    counts[1:, 2] = 0
    np.savez(run / "confusions.npz", names=[*"abcde"], linear=counts)
    shown = of([run]).classes
    for at, each in enumerate(shown):
        hits = sum(int(counts[n, at, at]) for n in range(5))
        true = sum(int(counts[n, at, other]) for n in range(5) for other in range(6))
        said = sum(int(counts[n, other, at]) for n in range(5) for other in range(6))
        assert each.name == CLASSES[at]
        if at == 3:
            assert each.words == "not to be judged"
            assert math.isnan(each.iou)
            assert math.isnan(each.found)
            continue
        assert each.iou == pytest.approx(100 * hits / (true + said - hits))
        assert each.found == pytest.approx(100 * hits / true)
        assert each.right == pytest.approx(100 * hits / said)
        assert each.pictures == (1 if at == 2 else 5)


def test_folds_are_scored_together_and_held_against_their_baselines(tmp_path):
    runs = [write_run(tmp_path / f"with-{at}", "prototype", (30.0 + at,)) for at in range(2)]
    alone = [write_run(tmp_path / f"alone-{at}", mious=(20.0 + at,)) for at in range(2)]
    verdict = Verdict("helped", 10.0, 4.0, 15.0, 4, "predict takes the model with unlabelled pictures.")
    shown = of(runs, alone, verdict=verdict, plan=("crop 96: the objects are small",))
    assert [each.pictures for each in shown.classes if each.name == "ground"] == [4]
    assert shown.folds == [["fold 1", "2", "20.0", "30.0", "+10.0"], ["fold 2", "2", "21.0", "31.0", "+10.0"]]
    assert shown.headline == "The unlabelled pictures helped"
    assert "+10.0 points of mIoU over 4 pictures" in shown.sure
    assert "between +4.0 and +15.0, 95 times of 100" in shown.sure
    assert "So few pictures decide little" in shown.sure
    assert "each by the one of 2 trainings" in shown.scored
    page = write_answer(
        tmp_path / "report.html", Answer("Mine", tuple(runs), tuple(alone), verdict=verdict, plan=("x",))
    )
    text = " ".join(Page(page.read_text("utf-8")).text)
    for words in ("The unlabelled pictures helped", "fold 2", "What was chosen, and why", "No pictures:"):
        assert words in text


def test_a_lone_run_says_that_nothing_stands_beside_it_and_gives_the_command(tmp_path):
    shown = of([write_run(tmp_path / "my run", "prototype")])
    assert shown.helped.startswith("This page cannot say")
    first, second = shown.command.splitlines()
    assert first == (
        f"semiseg train '{tmp_path}/my run/config.yaml' --method supervised --run '{tmp_path}/my run-supervised'"
    )
    assert second.startswith("semiseg report ")
    assert "masks alone" in of([write_run(tmp_path / "alone")]).helped


def test_an_unfinished_run_has_the_ious_of_its_last_evaluation(tmp_path):
    shown = of([write_run(tmp_path / "run", "prototype", (40.0, 47.0), finished=False)])
    assert [each.iou for each in shown.classes] == [42.0, 44.0, 46.0, 48.0, 50.0, 52.0]
    assert all(each.pictures is None and math.isnan(each.found) for each in shown.classes)


def test_no_chart_has_a_single_point(tmp_path):
    run = read_run(write_run(tmp_path / "run", "prototype", (40.0,), finished=False))
    assert charts([run]) == []
    for chart in charts([read_run(write_run(tmp_path / "two", "prototype", (40.0, 41.0)))]):
        assert chart.lines
        assert all(len(line.points) > 1 for line in chart.lines)


def test_what_a_picture_lacks_is_named():
    truth = np.repeat(np.array([[0] * 50 + [1] * 30 + [2] * 20], np.uint8), 10, 0)
    label = truth.copy()
    label[truth == 2] = 0
    label[:, 50:70] = 2
    words = missed(label, truth, ("road", "car", "pole"))
    assert words == (
        "none of pole is found, most of the rest is called road; 33% of car is found, most of the rest is called pole"
    )
    assert missed(truth, truth, ("road", "car", "pole")) == ""


def test_warnings_of_the_training_are_on_the_page(tmp_path):
    run = write_run(tmp_path / "run", "prototype")
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    words = "the pseudo-labels are almost all 'ring'"
    warning = {"kind": "warning", "step": 75, "cause": "one class: ring", "words": words}
    (run / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(warning)]) + "\n", "utf-8")
    assert "at step 75: the pseudo-labels are almost all" in write_report(run).read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a real run of a second."""
    folder = tmp_path_factory.mktemp("page") / "run"
    train(tiny_run.tiny_config(folder, "prototype"), console=tiny_run.QUIET)
    return write_report(folder).read_text("utf-8")


def test_a_real_page_has_unlabelled_pictures_and_needs_nothing_but_itself(page):
    assert not OUTSIDE.search(re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", page))
    assert len(page.encode()) < LIMIT
    figures = [text for text in Page(page).figures if text]
    assert sum(text.startswith("Unlabelled picture ") for text in figures) == 6
    assert sum(text.startswith("Validation picture ") for text in figures) >= 2
    text = " ".join(Page(page).text)
    for words in ("Are the objects found?", "On which pictures not?", "Least sure:", "semiseg train"):
        assert words in text
    assert "Median" not in text
