"""The report: what it says comes from the run's files, it needs nothing but itself, and it survives unfinished runs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.pages import OUTSIDE, Page
from support.written_runs import COUNTS, write_run

from semiseg.data.sets.scenes import CLASSES
from semiseg.report import save_sheet, summary, write_comparison, write_report
from semiseg.report.charts import LEFT, MOST_POINTS, WIDTH, Chart, Line, smoothed, thinned, tick_step, ticks
from semiseg.report.confusion import confusion
from semiseg.report.curves import charts, reliability
from semiseg.report.page import class_rows
from semiseg.report.pictures import Prediction, choose, image_score
from semiseg.report.runs import read_run, read_runs


def words(path):
    return " ".join(" ".join(Page(path.read_text("utf-8")).text).split())


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / "supervised"), write_run(tmp_path / "ours", "prototype", (40.0, 47.0, 53.5))]


def test_a_comparison_says_the_verdict_first_and_then_the_files_figures(runs, tmp_path):
    page = write_comparison(runs, tmp_path / "deep/all.html", "A title", "it helped: +3.2 mIoU")
    text = words(page)
    places = ["A title", "it helped: +3.2 mIoU", "Are the objects found?", "On which pictures not?", "Details", "Runs:"]
    assert [text.index(each) for each in places] == sorted(text.index(each) for each in places)
    for name in CLASSES:
        assert name in text
    assert "mean 50.2 53.5 +3.2" in text  # 3.25, and halves go to the even digit
    assert "ground 45.2 48.5 +3.2" in text
    assert "52.5 (step 50) 53.5 (step 75)" in text
    assert "1 min 35 s" in text
    assert "ab" * 32 in text
    assert "torch 2.9.9" in text
    assert "A <slow> CPU" in text  # escaped in the file
    assert "prototype: 2 of 4 prototypes of class 'star' are dead" in text
    assert "data: dataset: scenes" in text


def test_the_page_asks_nothing_of_the_network_and_describes_every_figure(runs, tmp_path):
    page = write_comparison(runs, tmp_path / "all.html", "t", "v").read_text("utf-8")
    assert not OUTSIDE.search(page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    figures = Page(page).figures
    # mIoU, labelled loss, losses twice, pseudo-labels on validation and hidden images, these by class, usage, closest,
    # distance, bins
    assert len(figures) == 11
    assert all(figures)
    assert any("supervised from 40 to 50.2" in figure for figure in figures)


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    first, second = (write_comparison(runs, tmp_path / name, "t", "v").read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_an_unfinished_run_is_reported_as_such(tmp_path):
    run = write_run(tmp_path / "run", "prototype", (40.0, 47.0), finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # the process was killed while it wrote
    text = words(write_report(run))
    assert "prototype: 47.0 mIoU on the validation images at step 50; not finished, step 50 of 100" in text
    assert "No pictures: " in text
    assert "checkpoints" in text  # which are not there


def test_a_run_without_any_record_yet(tmp_path):
    run = write_run(tmp_path / "run", mious=(), finished=False)
    assert "no evaluation yet (step 0 of 100)" in words(write_report(run))


def test_what_cannot_be_reported(tmp_path, runs):
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.yaml"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match=r"No pictures: .*checkpoints"):
        save_sheet(runs, ["a", "b"], tmp_path / "sheet.png")
    other = runs[1] / "result.json"
    other.write_text(other.read_text("utf-8").replace("star", "heart"), "utf-8")
    with pytest.raises(ValueError, match="different classes"):
        write_comparison(runs, tmp_path / "all.html", "t", "v")


def test_summary_and_labels(runs, tmp_path):
    words = "prototype against supervised: +3.2 mIoU at the last step"
    few = (
        "over 2 validation images: no reliable difference; so few images decide little. It is one run each, so another"
    )
    assert summary(runs) == f"{words}, 95 % interval +0.0 to +0.0 {few} seed may lie outside of it"
    unfinished = write_run(tmp_path / "unfinished", "prototype", finished=False)
    assert summary([runs[0], unfinished]).endswith("mIoU at the last step; no verdict, as not both runs are finished")
    twice = [*runs, write_run(tmp_path / "again", "prototype")]
    assert [run.label for run in read_runs(runs)] == ["supervised", "prototype"]
    assert [run.label for run in read_runs(twice)] == ["supervised", "ours", "again"]


@pytest.mark.parametrize(("better", "verdict"), [(1, "helped"), (0, "hurt")])
def test_a_verdict_has_its_interval_over_images(runs, better, verdict):
    """One run is right about half of each class, the other about all; eleven images."""
    half = np.full((6, 6), 10) + np.eye(6, dtype=int) * 50
    for number, run in enumerate(runs):
        counts = np.eye(6, dtype=int) * 100 if number == better else half
        np.savez(run / "confusions.npz", names=[*"abcdefghijk"], linear=np.stack([counts] * 11))
    ends = f"{(1 if better else -1) * 100 * (1 - 60 / 160):+.1f}"
    assert f"95 % interval {ends} to {ends} over 11 validation images: {verdict}. It is one run" in summary(runs)
    np.savez(runs[0] / "confusions.npz", names=[*"abcdefghijx"], linear=np.stack([half] * 11))
    assert summary(runs).endswith("no verdict, as they were scored on different images")


def test_a_class_without_a_score_has_a_dash(runs):
    result = json.loads((runs[1] / "result.json").read_text("utf-8"))
    result["last"]["val"]["linear"]["iou"]["ring"] = None
    (runs[1] / "result.json").write_text(json.dumps(result), "utf-8")
    assert dict(class_rows(read_runs(runs)))["ring"][1] == ("–", "–", "")


# Charts


def test_charts_show_what_the_record_has(runs):
    shown = {chart.title: chart for chart in charts(read_runs(runs))}
    assert shown["Validation mIoU"].lines[1].points == [(25, 40.0), (50, 47.0), (75, 53.5)]
    assert shown["Validation mIoU"].lines[2].points == [(25, 39.0), (50, 46.0), (75, 52.5)]
    kept, _, right = shown["prototype: pseudo-labels"].lines
    assert kept.points == [(25, 25.0), (50, 50.0), (75, 75.0)]
    assert right.points == [(25, 92.0), (50, 93.0), (75, 94.0)]
    assert [line.points[0][1] for line in shown["prototype: use of the prototypes"].lines] == [10.0, 60.0, 90.0]
    closest = shown["prototype: closest prototypes"].lines
    assert [(line.name, line.points[0][1]) for line in closest] == [
        ("ground", 0.3), ("disc", 0.2), ("ring", 0.1), ("box", 0.4), ("star", 0.5),
    ]  # fmt: skip
    assert [line.points for line in shown["prototype: pseudo-labels against hidden labels"].lines] == [
        [(25, 71.0), (50, 72.0), (75, 73.0)],
        [(25, 81.0), (50, 82.0), (75, 83.0)],
    ]
    by_class = shown["prototype: right pseudo-labels by class"].lines
    assert {line.name: line.points[-1][1] for line in by_class} == {
        name: 10.0 * number + 3 for number, name in enumerate(CLASSES)
    }
    assert [line.name for line in shown["prototype: losses"].lines] == ["supervised", "prototype"]
    assert all(
        math.isfinite(chart.y(value)) for chart in shown.values() for line in chart.lines for _, value in line.points
    )


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (6, 1), (7, 6)])
def test_more_runs_than_colours_are_shown_one_by_one_beside_the_first(runs, count, expected):
    first = read_run(runs[0])
    many = [replace(read_run(runs[1]), label=f"run {number}") for number in range(count - 1)]
    for name, made in (
        ("alidation mIoU", charts([first, *many])),
        ("ccuracy by confidence", reliability([first, *many])),
    ):
        shown = [chart for chart in made if name in chart.title]
        assert len(shown) == expected
        for number, chart in enumerate(shown if expected > 1 else []):
            assert chart.title.startswith(f"run {number}: ")
            told = [line.name.split(",")[0] for line in chart.lines]
            assert "supervised" in told
            assert f"run {number}" in told
            assert not any(f"run {other}" in told for other in range(count - 1) if other != number)


def test_losses_are_not_mistaken_for_scores(runs):
    run = read_run(runs[1])
    assert run.series("train", "prototype") == [(25, 2.0), (50, 1.0), (75, 2 / 3)]
    assert run.losses() == ["supervised", "prototype"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (38, 53, [40, 45, 50]), (0, 0.21, [0, 0.05, 0.1, 0.15, 0.2]), (3, 3, [3])],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[1.0], [5.0, 5.0], [-3.0, 12.0], [1e-7, 2e-7], [1e6, 3e6]])
def test_every_point_lies_inside_its_chart(values):
    chart = Chart("t", "", "", [Line("a", list(enumerate(values, 1)))], steps=len(values))
    low, high = chart.y_limits
    assert low <= min(values) <= max(values) <= high
    assert high - low <= max(max(values) - min(values), 1e-3) + 2 * tick_step(min(values), max(values))
    assert all(LEFT <= chart.x(step) <= WIDTH for step in range(1, len(values) + 1))
    assert chart.y(low) > chart.y(high)  # y grows downwards


@given(st.lists(st.floats(-5, 5), max_size=130))
def test_smoothing_equals_the_mean_of_both_sides(values):
    points = [(3.0 * at, value) for at, value in enumerate(values)]
    found, count = smoothed(points), len(values)
    if count < 20:
        assert found == []
        return
    assert [step for step, _ in found] == [step for step, _ in points]
    for at, (_, value) in enumerate(found):
        reach = count // 20
        while at - reach < 0 or at + reach >= count:
            reach -= 1
        assert value == pytest.approx(np.mean(values[at - reach : at + reach + 1]), abs=1e-9)


def test_a_chart_says_how_it_was_smoothed():
    short, long = (Line(str(count), [(at, 1.0) for at in range(count)]) for count in (19, 60))
    assert Chart("t", "", "", [short], steps=60).smoothing == ""
    assert "means of 7 neighbouring values" in Chart("t", "", "", [short, long], steps=60).smoothing


@pytest.mark.parametrize("count", [0, 1, 2, 299, 300, 301, 10_000])
def test_long_lines_are_thinned_and_keep_their_ends(count):
    points = [(at, 0.0) for at in range(count)]
    found = thinned(points)
    assert len(found) <= MOST_POINTS + 1
    assert found[:1] + found[-1:] == points[:1] + points[-1:]
    assert count > MOST_POINTS or found == points


# Calibration and confusion


def test_reliability_shows_the_bins_that_have_pixels(runs):
    (chart,) = reliability(read_runs(runs))
    diagonal, first, _ = chart.lines
    assert diagonal.points == [(0, 0), (100, 100)]
    assert first.points == [(90.0, 60.0), (98.0, 99.0)]
    assert first.name == "supervised, calibration error 8.2"
    sizes = [radius - 2 for *_, radius in first.dots]
    assert sizes[1] == pytest.approx(sizes[0] * math.sqrt(3), abs=0.1)  # areas are as the pixels, 100 and 300


def test_the_matrix_shown_is_that_of_the_counts(runs):
    found = confusion(read_run(runs[0]))
    assert found.classes == list(CLASSES)
    for true, row in enumerate(found.rows):
        total = sum(int(3 * COUNTS[true, said]) for said in range(6))
        for said, cell in enumerate(row):
            count = int(3 * COUNTS[true, said])
            if total == 0:
                assert cell.text == "–"
                continue
            assert cell.share == pytest.approx(100 * count / total)
            assert cell.title.endswith(f": {count:,} of {total:,} pixels")
            assert cell.text == ("" if count == 0 else f"{100 * count / total:.1f}")
    assert found.rows[2][5].title.startswith("disc called star: 867 of")


def test_runs_without_the_newer_records_still_have_a_page(runs):
    for run in runs:
        (run / "confusions.npz").unlink()
        for name in ("result.json", "metrics.jsonl"):
            text = (run / name).read_text("utf-8")
            (run / name).write_text(text.replace('"calibration"', '"x"').replace('"hidden_labels"', '"y"'), "utf-8")
    text = words(write_report(runs[1]))
    assert "prototype: 53.5 mIoU" in text
    for absent in ("Calibration", "Confusion", "hidden labels"):
        assert absent not in text


# Pictures


def predictions(*rows):
    return [Prediction([], list(row)) for row in rows]


def test_extremes_and_the_middle_are_chosen_by_gain():
    chosen = choose(predictions([50, 50, 50, 50, 50], [60, 45, 52, 90, 49]))
    assert chosen == [("Most improved: +40.0 mIoU", 3), ("Typical: +2.0 mIoU", 2), ("Largest loss: -5.0 mIoU", 1)]


def test_signs_are_named_as_they_are_and_no_image_comes_twice():
    assert choose(predictions([1, 1], [3, 2])) == [("Most improved: +2.0 mIoU", 0), ("Smallest gain: +1.0 mIoU", 1)]
    assert [title for title, _ in choose(predictions([5, 5, 5], [2, 4, 3]))] == [
        "Smallest loss: -1.0 mIoU",
        "Largest loss: -3.0 mIoU",
    ]
    assert choose(predictions([5, 5, 5], [6, 8, 7]))[1] == ("Smallest gain: +1.0 mIoU", 0)
    assert choose(predictions([5, 5, 5], [5, 6, 7]))[1] == ("No difference", 0)


def test_after_the_gains_come_the_worst_and_the_best():
    chosen = choose(predictions([10, 20, 30, 60, 90], [90, 22, 31, 50, 91]))
    assert [index for _, index in chosen] == [0, 2, 3, 1, 4]
    assert chosen[3:] == [("Worst: 22.0 mIoU", 1), ("Best: 91.0 mIoU", 4)]


def test_one_run_is_chosen_by_score_and_images_without_one_are_left_out():
    assert choose(predictions([10, math.nan, 30, 20])) == [("Worst: 10.0 mIoU", 0), ("Best: 30.0 mIoU", 2)]
    assert [title.split(":")[0] for title, _ in choose(predictions([10, 60, 30, 20, 40, 50]))] == [
        "Worst", "Second worst", "Third worst", "Typical", "Best",
    ]  # fmt: skip
    assert choose(predictions([10])) == [("The only validation picture: 10.0 mIoU", 0)]
    assert choose(predictions([math.nan])) == []


def test_nothing_is_called_typical_of_few_images():
    for count in range(1, 5):
        titles = [title for title, _ in choose(predictions(range(10, 10 + count)))]
        assert not any("Typical" in title or "Median" in title for title in titles)


def test_an_images_score_is_over_the_classes_that_it_shows():
    truth = torch.tensor([[0, 0, 1, 1], [0, 0, 255, 255]])
    label = torch.tensor([[0, 0, 1, 2], [0, 2, 2, 2]])
    assert image_score(label, truth, 3) == pytest.approx(100 * np.mean([3 / 4, 1 / 2]))
    assert math.isnan(image_score(label, torch.full((2, 4), 255), 3))


def test_runs_of_other_validation_images_are_not_compared(tmp_path, runs):
    other = runs[1] / "result.json"
    other.write_text(
        other.read_text("utf-8").replace("ab" * 32, "cd" * 32).replace('"count": 60', '"count": 61'), "utf-8"
    )
    with pytest.raises(ValueError, match=r"different validation images: .* on 60 .*, .* on 61"):
        write_comparison(runs, tmp_path / "all.html", "t", "v")
