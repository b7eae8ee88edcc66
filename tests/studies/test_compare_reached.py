"""What methods had spent when they scored as supervised did at its end: on written records, by a slow twin."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from support.pages import Page
from support.written_runs import scores, write_run

from semiseg.costs.estimate import count_step
from semiseg.data.sets.scenes import CLASSES
from semiseg.runtime.files import plain
from semiseg.studies import reached
from semiseg.studies.comparison import make_comparison
from semiseg.studies.result import Reached, RowResult, Spent
from semiseg.studies.study import Study
from semiseg.studies.table import build_result
from semiseg.studies.views import html, markdown, until, write_pages
from semiseg.training.record import Record

TINY = {
    "network.encoder": "test_resnet",
    "network.channels": 8,
    "augment.crop_height": 32,
    "augment.crop_width": 32,
    "train.steps": 100,
    "train.evaluate_every": 25,
}
CALM = (40.0, 45.0, 50.0, 50.0)
"""mIoU of supervised at steps 25, 50, 75 and 100."""


def study_of(out: Path, seeds=(0,), method="cutmix", **options) -> Study:
    return make_comparison("demo", method, None, seeds, out, {**TINY, **options})


def write(study: Study, method: str, seed: int, mious) -> Path:
    """A finished run with evaluations every 25 steps, of 30 seconds each."""
    (cell,) = (cell for cell in study.cells if (cell.method, cell.seed) == (method, seed))
    folder = write_run(cell.config.run_folder, method, mious)
    result = json.loads((folder / "result.json").read_text())
    result["split"]["labeled"] = result["split"]["val"]
    result |= {"images_per_second": 9.0, "peak_bytes": 1e9, "classes": list(CLASSES)}
    result |= {"parameters": {"trained": 10, "used": 10}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def row_of(study: Study, method: str = "cutmix") -> RowResult:
    (section,) = build_result(study, {}, 1).labeled
    return next(row for row in section.rows if row.key == method)


def slow_reached(ours: Path, theirs: Path) -> tuple[int, float] | None:
    """(step, seconds) line by line."""
    target = json.loads((theirs / "metrics.jsonl").read_text().splitlines()[-1])["miou"]
    seconds = 0.0
    for line in (ours / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "train":
            seconds = entry["seconds"]
        elif entry["kind"] == "evaluation" and entry["linear"]["miou"] >= target:
            return entry["step"], seconds
    return None


@pytest.mark.parametrize("draw", range(5))
def test_the_first_evaluation_with_the_score_is_found(tmp_path, draw):
    """Whole numbers of a narrow range, so that scores are equal, reached and lost again, or never reached."""
    drawn = np.random.default_rng(draw).integers(50, 56, (3, 2, 4)).astype(float)
    study = study_of(tmp_path, (0, 1, 2))
    expected = {}
    for seed, (ours, theirs) in enumerate(drawn):
        expected[seed] = slow_reached(write(study, "cutmix", seed, ours), write(study, "supervised", seed, theirs))
    found = row_of(study).reached
    assert {s: each and (each.step, each.seconds) for s, each in found.by_seed.items()} == expected
    seconds = [each and each[1] for each in expected.values()]
    assert found.seconds == (None if None in seconds else pytest.approx(np.mean(seconds)))


def test_supervised_shows_when_it_was_done_itself(tmp_path):
    study = study_of(tmp_path)
    write(study, "supervised", 0, CALM)
    spent = row_of(study, "supervised").reached.by_seed[0]
    assert (spent.step, spent.seconds) == (75, 90.0)


def test_who_never_reaches_it_is_said_so_in_all_views(tmp_path):
    study = study_of(tmp_path, (0, 1))
    for seed in (0, 1):
        write(study, "supervised", seed, CALM)
        write(study, "cutmix", seed, (49.0, 49.9, 48.0, 47.0))
    result = build_result(study, {}, 1)
    row = result.labeled[0].rows[1]
    assert row.reached == Reached({0: None, 1: None}, None, None)
    written = write_pages(result, study.out)
    heads, _, supervised, cutmix = (line.split(" | ") for line in markdown(result).splitlines() if line[0:1] == "|")
    places = [heads.index(name) for name in ("seconds to supervised", "TFLOP to supervised")]
    assert [cutmix[place] for place in places] == ["not reached"] * 2
    assert supervised[places[0]] == "90"
    document = json.loads(written["json"].read_text())["labeled"][0]["rows"]
    assert document[1]["reached"] == {"by_seed": {"0": None, "1": None}, "seconds": None, "operations": None}
    assert document[0]["reached"] == plain(asdict(result.labeled[0].rows[0].reached))
    seen = " ".join(" ".join(Page(html(result)).text).split())
    (note,) = (note for note in result.notes if note.startswith("Seconds and TFLOP to supervised"))
    assert "every 25 steps" in note
    assert "first 7 validation images" not in note
    for words in ("seconds to supervised", "TFLOP to supervised", "not reached", note):
        assert words in seen
    assert note in markdown(result)


def test_fewer_images_during_training_are_told_and_held_against_the_same(tmp_path):
    """The final scores, of all images, are higher: they do not count."""
    study = study_of(tmp_path, **{"evaluation.images": 7})
    write(study, "cutmix", 0, (51.0, 49.0, 49.0, 49.0))
    folder = write(study, "supervised", 0, CALM)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"last": {"step": 100, "val": scores(60.0)}}))
    assert row_of(study).reached.by_seed[0].step == 25
    assert any("on the first 7 validation images" in note for note in build_result(study, {}, 1).notes)


def test_a_resumed_run_has_the_seconds_of_its_record(tmp_path):
    """Killed behind step 75 and gone on from step 50, when 70 seconds were spent; the lines after it are dropped."""
    study = study_of(tmp_path)
    theirs, ours = write(study, "supervised", 0, CALM), write(study, "cutmix", 0, (1.0, 2.0, 50.0, 51.0))
    record = Record(ours / "metrics.jsonl", resume_at=50)
    for step, seconds, miou in ((75, 100.0, 49.0), (100, 130.0, 51.0)):
        record.add("train", step, {"supervised": 1.0, "seconds": seconds})
        record.add("evaluation", step, scores(miou))
    spent = row_of(study).reached.by_seed[0]
    assert (spent.step, spent.seconds) == slow_reached(ours, theirs) == (100, 130.0)


def test_a_seed_that_one_of_both_lacks_does_not_count(tmp_path):
    study = study_of(tmp_path, (0, 1, 2))
    write(study, "supervised", 0, CALM)
    write(study, "supervised", 1, CALM)
    write(study, "cutmix", 1, (1.0, 50.0, 1.0, 1.0))
    write(study, "cutmix", 2, (99.0, 99.0, 99.0, 99.0))
    found = row_of(study).reached
    assert {seed: spent.step for seed, spent in found.by_seed.items()} == {1: 50}
    assert found.seconds == 60.0


def test_without_supervised_there_is_no_figure(tmp_path):
    study = study_of(tmp_path)
    write(study, "cutmix", 0, CALM)
    assert row_of(study).reached is None
    assert "Seconds and TFLOP to" not in markdown(build_result(study, {}, 1))


def test_a_record_that_does_not_lead_to_the_last_step_gives_no_figure(tmp_path):
    study = study_of(tmp_path)
    write(study, "supervised", 0, CALM)
    ours = write(study, "cutmix", 0, (60.0, 60.0, 60.0, 60.0))
    (ours / "metrics.jsonl").unlink()
    assert row_of(study).reached is None


@pytest.mark.parametrize(
    ("by_seed", "seconds", "words"),
    [
        ({0: Spent(1, 8.0, 4), 1: Spent(1, 9.0, 4)}, 8.5, "8"),
        ({0: Spent(1, 8.0, 4), 1: None}, None, "1 of 2 seeds"),
        ({0: None}, None, "not reached"),
        ({0: Spent(1, None, 4)}, None, "–"),
    ],
)
def test_a_mean_is_shown_only_where_all_seeds_have_it(by_seed, seconds, words):
    assert until(Reached(by_seed, seconds, None), "seconds") == words


@pytest.mark.parametrize(
    ("operations", "words"), [(2.5e9, "0.0025"), (99.9e12, "99.9"), (1234.5e12, "1,234"), (None, "–")]
)
def test_operations_are_shown_in_tera(operations, words):
    assert until(Reached({0: Spent(1, 8.0, 4)}, 8.0, operations), "operations") == words


# Operations -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "warmup"), [("supervised", None), ("cutmix", 0.4), ("prototype", 0.4)])
def test_operations_are_the_estimates_summed_over_the_steps(tmp_path, method, warmup):
    """Reached at step 50; with a warm-up of 40 % the first 40 steps are supervised."""
    study = study_of(tmp_path, method=method, **({} if warmup is None else {"method.warmup": warmup}))
    write(study, "supervised", 0, (40.0, 50.0, 45.0, 50.0))
    if method != "supervised":
        write(study, method, 0, (40.0, 50.0, 1.0, 1.0))
    config = study.runs[method, study.labels[0], 0].config
    full, labeled = (count_step(config, CLASSES, warm_up=warm_up).flops for warm_up in (False, True))
    assert (full > labeled) == (method != "supervised")
    found = row_of(study, method).reached
    assert found.operations == found.by_seed[0].operations
    assert found.operations == sum(labeled if step < 100 * (warmup or 0) else full for step in range(50))


def test_a_warm_up_step_costs_what_supervised_does(tmp_path):
    """One network, which cutmix's teacher is not needed for."""
    study = study_of(tmp_path, **{"method.warmup": 0.4})
    supervised, cutmix = (cell.config for cell in study.cells)
    assert count_step(cutmix, CLASSES, warm_up=True).flops == count_step(supervised, CLASSES).flops


def test_what_cannot_be_counted_has_no_figure(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise NotImplementedError("aten::mine has no meta tensors")

    monkeypatch.setattr("semiseg.costs.estimate.count_step", fails)
    monkeypatch.setattr(reached, "_counted", {})
    study = study_of(tmp_path)
    write(study, "supervised", 0, CALM)
    found = row_of(study, "supervised").reached
    assert (found.seconds, found.operations, found.by_seed[0].operations) == (90.0, None, None)
    assert until(found, "operations") == "–"


def test_steps_that_were_done_twice_are_not_counted_once(tmp_path):
    study = study_of(tmp_path)
    folder = write(study, "supervised", 0, CALM)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines.insert(2, json.dumps({"kind": "retreat", "step": 25, "from": 40, "rate_factor": 0.5, "reason": "x"}) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))
    assert row_of(study, "supervised").reached.by_seed[0] == Spent(75, 90.0, None)


def test_a_step_is_counted_once_for_all_seeds(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("semiseg.costs.estimate.count_step", lambda *given, **named: calls.append(given))
    monkeypatch.setattr(reached, "_counted", {})
    study = study_of(tmp_path, (0, 1, 2))
    for seed in study.seeds:
        write(study, "supervised", seed, CALM)
    row_of(study, "supervised")
    row_of(study, "supervised")
    assert len(calls) == 1


def test_rows_that_were_written_without_it_still_load(tmp_path):
    study = study_of(tmp_path)
    write(study, "supervised", 0, CALM)
    document = asdict(row_of(study, "supervised"))
    assert document.pop("reached") is not None
    assert until(RowResult(**document).reached, "seconds") == "–"
