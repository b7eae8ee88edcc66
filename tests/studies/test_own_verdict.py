"""The verdict against slow twins, and its words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semiseg.evaluation.statistics import Interval, paired_interval
from semiseg.runtime.files import plain
from semiseg.studies.own.verdict import Scored, Verdict, as_dict, judge, sentences, summed

C = 3
COUNTS = arrays.arrays(np.int64, (4, C, C), elements=st.integers(0, 50))


def slow_iou(counts):
    """Pixel by pixel: pairs (true, predicted), one after another."""
    found = []
    for label in range(C):
        pairs = [
            (true, said) for image in counts for true in range(C) for said in range(C) for _ in range(image[true, said])
        ]
        both = sum(true == said == label for true, said in pairs)
        either = sum(label in (true, said) for true, said in pairs)
        seen = any(true == label for true, _ in pairs)
        found.append(both / either if seen else math.nan)
    return found


@settings(max_examples=20, deadline=None)
@given(COUNTS)
def test_scores_are_the_slow_twins_and_absent_classes_are_left_out(counts):
    expected = slow_iou(counts)
    assert summed(counts).iou().tolist() == pytest.approx(expected, nan_ok=True)
    present = [value for value in expected if not math.isnan(value)]
    assert summed(counts).miou() == pytest.approx(sum(present) / len(present) if present else math.nan, nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(COUNTS, COUNTS)
def test_the_difference_is_of_the_scores_that_are_shown(ours, theirs):
    theirs = theirs * 0 + np.diagflat([1, 1, 1]) + theirs  # every class is shown by both
    ours = ours + np.diagflat([1, 1, 1])
    found = paired_interval(ours[None], theirs[None], draws=10)
    assert found.difference == pytest.approx(summed(ours).miou() - summed(theirs).miou())


def scored(right, images=12, folds=3):
    """Images of two classes and a third that none shows, with so many of 100 pixels right."""
    counts = np.zeros((images, C, C), np.int64)
    for number in range(images):
        good = min(100, max(0, right + number % 3))
        counts[number, 0, 0], counts[number, 0, 1] = 100, 0
        counts[number, 1, 1], counts[number, 1, 0] = good, 100 - good
    names = tuple(f"m{number}" for number in range(images))
    return Scored(names, counts, tuple(100 * summed(part).miou() for part in np.array_split(counts, folds)))


def verdict(ours, theirs, images=12):
    one, other = scored(ours, images), scored(theirs, images)
    return Verdict(("sky", "sea", "ship"), one, other, paired_interval(one.counts[None], other.counts[None]))


@pytest.mark.parametrize(
    ("ours", "theirs", "word", "chosen", "why"),
    [
        (90, 60, "helped", "method", "it is the better one"),
        (60, 90, "hurt", "baseline", "it is the better one"),
        (80, 80, "no reliable difference", "baseline", "the scores are the same, and it is the simpler one"),
    ],
)
def test_the_better_model_is_chosen_and_the_words_say_so(ours, theirs, word, chosen, why):
    found = verdict(ours, theirs)
    assert found.interval.verdict == word
    assert found.chosen == chosen
    text = " ".join(sentences(found))
    assert word in text
    assert why in text
    assert "12 images that no model had learnt, in 3 folds" in text
    assert ("with unlabelled images is" in text) == (chosen == "method")
    assert "No validation image shows ship" in text


@pytest.mark.parametrize(("difference", "chosen"), [(0.01, "method"), (-0.01, "baseline")])
def test_without_a_reliable_difference_the_higher_score_is_taken(difference, chosen):
    one = scored(80)
    found = Verdict(("a", "b", "c"), one, one, Interval(difference, -0.1, 0.1))
    assert found.chosen == chosen
    assert "no reliable difference" in sentences(found)[0]
    assert "its score is the higher one" in " ".join(sentences(found))


def test_few_images_are_called_few():
    assert "6 images are few" in " ".join(sentences(verdict(90, 60, images=6)))
    assert "are few" not in " ".join(sentences(verdict(90, 60, images=12)))


def test_without_a_baseline_there_is_no_verdict_and_it_says_so():
    found = Verdict(("a", "b", "c"), scored(80))
    assert found.chosen == "method"
    assert "not known" in " ".join(sentences(found))
    document = as_dict(found, "method")
    assert "verdict" not in document
    assert "baseline" not in document


def test_every_figure_is_in_the_file():
    found = verdict(90, 60)
    document = json.loads(json.dumps(plain(as_dict(found, "final"))))
    assert document["verdict"] == "helped"
    assert document["difference"] == pytest.approx(document["method"]["miou"] - document["baseline"]["miou"])
    low, high = document["interval"]
    assert low <= document["difference"] <= high
    assert document["method"]["iou"]["ship"] is None
    assert document["absent_classes"] == ["ship"]
    assert len(document["images"]) == 12
    assert document["folds"] == len(document["method"]["by_fold"]) == 3
    assert document["model"] == "final"


def write_run(folder, counts, names):
    folder.mkdir(parents=True)
    iou = dict(zip("abc", (100 * summed(counts).iou()).tolist(), strict=True))
    scores = {"headline": "linear", "miou": 100 * summed(counts).miou(), "linear": {"miou": 1.0, "iou": plain(iou)}}
    result = {
        "last": {"step": 4, "val": scores},
        "split": {"val": {"name": "v", "sha256": "x", "count": len(names)}},
        "seconds": 1.0,
    }
    (folder / "result.json").write_text(json.dumps(plain(result)))
    np.savez(folder / "confusions.npz", names=np.array(names), linear=counts)
    return folder


def test_runs_are_judged_over_all_folds_together(tmp_path):
    rng = np.random.default_rng(0)
    folds = [[rng.integers(1, 50, (4, C, C)) for _ in range(2)] for _ in range(3)]
    names = [[f"m{fold}{place}" for place in range(4)] for fold in range(3)]
    ours, theirs = (
        [write_run(tmp_path / f"{fold}/{kind}", folds[fold][kind], names[fold]) for fold in range(3)] for kind in (0, 1)
    )
    found = judge(ours, theirs)
    everything = [np.concatenate([fold[kind] for fold in folds]) for kind in (0, 1)]
    assert found.method.miou == pytest.approx(100 * np.mean(slow_iou(everything[0])))
    assert found.interval == paired_interval(everything[0][None], everything[1][None])
    assert found.method.by_fold == pytest.approx([100 * summed(fold[0]).miou() for fold in folds])
    assert found.method.names == tuple(name for fold in names for name in fold)


def test_runs_on_different_images_are_not_held_against_each_other(tmp_path):
    counts = np.ones((2, C, C), np.int64)
    ours = write_run(tmp_path / "a" / "method", counts, ["m1", "m2"])
    theirs = write_run(tmp_path / "a" / "baseline", counts, ["m1", "m3"])
    with pytest.raises(ValueError, match="different images"):
        judge([ours], [theirs])
