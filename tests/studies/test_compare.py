"""Comparisons that are run: what is used again, what goes on, what fails, and what the table says of it."""

import io
import json
import multiprocessing
import os
import re
import signal
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from support import tiny_run
from support.pages import OUTSIDE, Page

from semiseg.cli import main as cli
from semiseg.config.changes import changed_options
from semiseg.config.options import DataOptions
from semiseg.config.recipe import load_config, save_config
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.runtime.files import plain
from semiseg.studies import run, running
from semiseg.studies.comparison import make_comparison
from semiseg.studies.published import Published
from semiseg.studies.reports import shown_seed
from semiseg.studies.result import NOT_YET, Missing, Result, RowResult
from semiseg.studies.run import MissingRunsError, require_all, run_study
from semiseg.studies.running import find_places
from semiseg.studies.study import Study
from semiseg.studies.views import html, markdown
from semiseg.training.checkpoint import load_checkpoint
from semiseg.training.record import read_record

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A run's config.yaml is a recipe: four steps of a tiny network on drawn scenes."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    config = tiny_run.tiny_config(path.with_name("unused"), "cutmix", steps=4, evaluate_every=2, checkpoint_every=1)
    save_config(config, path)
    return path


def study_of(recipe: Path, out: Path, methods: str = "cutmix", **overrides) -> Study:
    return make_comparison(recipe, methods, "4", SEEDS, out, {k.replace("__", "."): v for k, v in overrides.items()})


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory):
    """A finished comparison: its study, document, and what it printed."""
    printed = io.StringIO()
    study = study_of(recipe, tmp_path_factory.mktemp("comparison") / "out")
    result = run_study(study, 2, Console(file=printed, width=400))
    return SimpleNamespace(study=study, result=result, printed=printed.getvalue(), out=study.out)


def results(study: Study) -> dict[tuple[str, int], dict]:
    return {
        (cell.method, cell.seed): json.loads((cell.config.run_folder / "result.json").read_text())
        for cell in study.cells
    }


def rows_of(result: Result) -> list[RowResult]:
    (section,) = result.labeled
    return section.rows


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The runs -------------------------------------------------------------------------------------------------------------


def test_each_run_is_an_ordinary_run_with_its_log(done):
    folders = {f"4-{method}-seed{seed}" for method in ("supervised", "cutmix") for seed in SEEDS}
    pages = {".lock", "compare.html", "compare.json", "compare.md", "report-4.html"}
    assert {path.name for path in done.out.iterdir()} == folders | pages
    for cell in done.study.cells:
        folder = cell.config.run_folder
        expected = {
            "checkpoints",
            ".lock",
            "config.yaml",
            "confusions.npz",
            "metrics.jsonl",
            "model",
            "report.html",
            "result.json",
            "train.log",
        }
        assert {path.name for path in folder.iterdir()} == expected
        assert changed_options(cell.config, load_config(folder / "config.yaml")) == []
        assert f"{cell.method} last checkpoint (step 4): val mIoU" in (folder / "train.log").read_text()
        assert {entry["step"] for entry in read_record(folder / "metrics.jsonl") if entry["kind"] == "evaluation"} == {
            2,
            4,
        }


def test_it_says_what_it_does(done):
    assert "4 runs, 16 steps, in " in done.printed
    assert "2 at a time; 0 are finished" in done.printed
    assert "supervised was added: the others are held against it" in done.printed
    for cell in done.study.cells:
        assert f"done: {cell.title}" in done.printed
    assert "compare.html, .md and .json" in done.printed


def test_a_run_of_a_comparison_is_the_run_that_train_would_make(done, tmp_path):
    cell = done.study.cells[1]
    threads = torch.get_num_threads()
    alone = tiny_run.train(
        load_config(cell.config.run_folder / "config.yaml", {"run": tmp_path / "alone"}), console=tiny_run.QUIET
    )
    torch.set_num_threads(threads)
    weights = "model/model.safetensors"
    assert (alone / weights).read_bytes() == (cell.config.run_folder / weights).read_bytes()


def test_finished_runs_are_used_as_they_are(done, monkeypatch):
    before = contents(done.out)
    monkeypatch.setattr(running, "train_into", None)  # no process is to be started
    printed = io.StringIO()
    again = run_study(done.study, 2, Console(file=printed, width=400))
    assert again == done.result
    assert "4 are finished" in printed.getvalue()
    assert contents(done.out) == before


def test_runs_with_other_options_are_refused_and_left(done, recipe):
    before = contents(done.out)
    with pytest.raises(
        ValueError, match=r"4-supervised-seed0 holds a run with other options: optim.lr was 0.02 and is"
    ):
        run_study(study_of(recipe, done.out, optim__lr=0.5), None, tiny_run.QUIET)
    assert contents(done.out) == before


def test_runs_on_other_images_are_refused(done, recipe):
    result = done.study.cells[0].config.run_folder / "result.json"
    before = result.read_text()
    try:
        document = json.loads(before)
        document["split"]["val"]["sha256"] = "ab" * 32
        result.write_text(json.dumps(document))
        with pytest.raises(ValueError, match="the val images are not the images of the run in"):
            run_study(done.study, None, tiny_run.QUIET)
    finally:
        result.write_text(before)


def test_killed_runs_go_on_and_end_the_same(done, recipe, tmp_path):
    """Of four runs one was killed on the way, one finished, two were never begun."""
    study = study_of(recipe, tmp_path / "out")
    context = multiprocessing.get_context("forkserver")
    killed = study.cells[1]
    record = killed.config.run_folder / "metrics.jsonl"
    process = context.Process(target=train_and_die_at, args=(killed.config, 2))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert max(entry["step"] for entry in read_record(record)) == 2
    assert load_checkpoint(killed.config.run_folder / "checkpoints/last.pt")["state"]["step"] == 2
    result = run_study(study, 2, tiny_run.QUIET)
    for row, expected in zip(rows_of(result), rows_of(done.result), strict=True):
        assert row.last == expected.last
        assert row.difference == expected.difference
    for ours, theirs in zip(study.cells, done.study.cells, strict=True):
        weights = "model/model.safetensors"
        assert (ours.config.run_folder / weights).read_bytes() == (theirs.config.run_folder / weights).read_bytes()


def train_and_die_at(config, step: int) -> None:
    """Train, and be killed once a checkpoint of `step` is written."""
    torch.set_num_threads(1)
    replace = Path.replace

    def last_replace(self: Path, target: Path) -> None:
        replace(self, target)
        if Path(target).name == "last.pt" and load_checkpoint(Path(target))["state"]["step"] == step:
            tiny_run.die()

    Path.replace = last_replace
    tiny_run.train(config, resume=True, console=tiny_run.QUIET)


def test_a_run_that_fails_is_named_and_the_others_go_on(recipe, tmp_path):
    """A weight out of its range, of the loss on unlabelled images, which supervised does not have."""
    study = study_of(recipe, tmp_path / "out", method__warmup="0")
    for cell in study.cells:
        if cell.config.method == "cutmix":  # past the check where it is made, not where the run is read
            object.__setattr__(cell.config.method_options, "unlabeled_weight", 1e39)
    printed = io.StringIO()
    result = run_study(study, 2, Console(file=printed, width=400))
    supervised, cutmix = rows_of(result)
    assert (len(supervised.last.by_seed), supervised.missing) == (2, [])
    assert [each.seed for each in cutmix.missing] == [0, 1]
    assert all("unlabeled_weight is 1e+39" in each.why for each in cutmix.missing), cutmix.missing
    assert cutmix.last.mean is cutmix.difference is None
    assert "failed: cutmix, 4 labels, seed 0" in printed.getvalue()
    assert "cutmix, seed 1, is missing: " in (study.out / "compare.md").read_text()
    assert "nothing to compare yet" in (study.out / "compare.md").read_text()
    with pytest.raises(MissingRunsError, match=r"2 of 4 runs did not finish, .* cutmix, seed 0, is missing: "):
        require_all(result)


# Ends before the end --------------------------------------------------------------------------------------------------


def enter(tokens: list[str], printed: Path) -> None:
    """The command line in this process, whose output goes to a file."""
    with printed.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os._exit(cli.main(tokens))


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def stands_still(record: Path) -> bool:
    """Whether nobody writes to a record that gets a line every few milliseconds."""
    time.sleep(0.5)
    size = record.stat().st_size
    time.sleep(1.5)
    return record.stat().st_size == size


def endless(recipe: Path, out: Path) -> list[str]:
    return ["compare", str(recipe), "--methods", "cutmix", "--steps", "1000000", "--out", str(out)]


def test_a_stopped_comparison_ends_its_runs_and_says_how_to_go_on(recipe, tmp_path, monkeypatch, capsys):
    def interrupted(cell) -> int:
        steps = steps_done(cell)
        if steps > 0:
            raise KeyboardInterrupt
        return steps

    steps_done = running.steps_done
    monkeypatch.setattr(running, "steps_done", interrupted)
    assert cli.main(endless(recipe, tmp_path / "out")) == 130
    assert stands_still(tmp_path / "out/4-supervised-seed0/metrics.jsonl")
    printed = capsys.readouterr().err
    assert f"semiseg: to go on, the same again: semiseg compare {recipe} --methods cutmix" in printed
    assert "supervised, seed 0, is missing: not finished yet" in (tmp_path / "out/compare.md").read_text()


@pytest.mark.slow
def test_no_run_outlives_a_killed_comparison(recipe, tmp_path):
    process = multiprocessing.get_context("forkserver").Process(
        target=enter, args=(endless(recipe, tmp_path / "out"), tmp_path / "printed")
    )
    process.start()
    record = tmp_path / "out/4-supervised-seed0/metrics.jsonl"
    wait_until(lambda: record.exists() and record.stat().st_size > 0, 300)
    process.kill()
    process.join(60)
    assert stands_still(record)


# The table ------------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_results(done):
    found = results(done.study)
    (section,) = done.result.labeled
    for row in section.rows:
        runs = [found[row.method, seed] for seed in SEEDS]
        for which in ("last", "best"):
            first, second = (run[which]["val"]["miou"] for run in runs)
            assert getattr(row, which).mean == pytest.approx((first + second) / 2)
            assert getattr(row, which).deviation == pytest.approx(abs(first - second) / np.sqrt(2))
            assert getattr(row, which).by_seed == {0: first, 1: second}
        for key in ("seconds", "images_per_second", "peak_bytes"):
            assert getattr(row, key) == pytest.approx(statistics.mean(run[key] for run in runs))
        assert row.parameters == runs[0]["parameters"]
        assert row.predictor == "linear"
        assert row.published is None
    assert section.split == found["cutmix", 0]["split"]
    assert done.result.versions["torch"] == torch.__version__
    assert done.result.commit == found["cutmix", 0]["commit"]
    assert done.result.steps == 4
    assert done.result.command.startswith("semiseg compare ")


def test_each_row_says_when_it_first_had_the_final_score_of_supervised(done):
    found = results(done.study)
    for row in rows_of(done.result):
        for seed in SEEDS:
            record = read_record(done.out / f"4-{row.key}-seed{seed}/metrics.jsonl")
            target = found["supervised", seed]["last"]["val"]["miou"]
            steps = [each["step"] for each in record if each["kind"] == "evaluation" and each["miou"] >= target]
            spent = row.reached.by_seed[seed]
            assert (spent and spent.step) == (steps[0] if steps else None)
            assert spent is None or (0 < spent.seconds <= found[row.key, seed]["seconds"] and spent.operations > 0)
    assert None not in rows_of(done.result)[0].reached.by_seed.values()


def test_ious_by_class_are_the_results_and_their_differences_those_of_the_seeds_that_both_have(done):
    found = results(done.study)

    def mean(method, name, seeds):
        scores = [found[method, seed]["last"]["val"] for seed in seeds]
        values = [each[each["headline"]]["iou"][name] for each in scores]
        return statistics.fmean(value for value in values if value is not None)

    reference, ours = rows_of(done.result)
    shown = [name for name, value in ours.iou.items() if value is not None]
    assert shown
    assert reference.iou_difference is None
    for name in shown:
        assert ours.iou[name] == pytest.approx(mean("cutmix", name, SEEDS))
        expected = ours.iou[name] - mean("supervised", name, SEEDS)
        assert ours.iou_difference[name] == pytest.approx(expected)
    page = html(done.result)
    assert all(f'<th scope="col">{name}</th>' in page for name in ours.iou)
    assert f'<td class="">{reference.iou[shown[0]]:.1f} <small></small></td>' in page


def test_reports_of_runs_are_linked_where_they_are(done, tmp_path):
    name = done.study.cells[0].name
    assert "report.html" not in html(done.result, tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "report.html").touch()
    assert html(done.result, tmp_path).count(f'<a href="{name}/report.html">') == 1


def test_runs_of_one_seed_are_shown_side_by_side(done):
    link = '<a href="report-4.html">'
    assert link in (done.out / "compare.html").read_text("utf-8")
    assert link not in html(done.result)
    page = (done.out / "report-4.html").read_text("utf-8")
    assert "<h2>Are the objects found?</h2>" in page
    for heading in ("IoU by class", "Curves", "Calibration", "Confusion", "Configuration and versions"):
        assert f"<summary>{heading}" in page
    scores = {
        method: f"{results(done.study)[method, 0]['last']['val']['miou']:.1f}" for method in ("supervised", "cutmix")
    }
    for method, score in scores.items():
        assert f"{method}: {score} mIoU on the validation images at step 4" in page


@pytest.mark.parametrize(
    ("reference", "other", "expected"),
    [
        ({}, {}, None),
        ({0: "a"}, {}, None),
        ({0: "a"}, {1: "b"}, None),
        ({0: "a", 1: "b"}, {0: "c", 1: "d"}, 0),
        ({0: "a", 1: "b"}, {1: "d"}, 1),
    ],
)
def test_the_seed_shown_is_one_that_can_be_held_against_the_reference(done, reference, other, expected):
    first, second = rows_of(done.result)
    rows = [replace(second, folders=other), replace(first, folders=reference)]
    assert shown_seed(replace(done.result.labeled[0], rows=rows), "supervised") == expected


def test_the_difference_is_between_the_means_and_its_interval_holds_every_draw(done):
    found = results(done.study)
    supervised, cutmix = rows_of(done.result)
    difference = cutmix.difference
    by_seed = [found["cutmix", s]["last"]["val"]["miou"] - found["supervised", s]["last"]["val"]["miou"] for s in SEEDS]
    assert supervised.difference is None
    assert difference.miou == pytest.approx(statistics.mean(by_seed))
    assert list(difference.by_seed.values()) == pytest.approx(by_seed)
    every = resampled(done.study)
    assert np.percentile(every, 1.5) - 1e-9 <= difference.low <= np.percentile(every, 3.5) + 1e-9
    assert np.percentile(every, 96.5) - 1e-9 <= difference.high <= np.percentile(every, 98.5) + 1e-9
    verdict = "helped" if difference.low > 0 else "hurt" if difference.high < 0 else "no reliable difference"
    assert difference.verdict == verdict


def resampled(study: Study) -> np.ndarray:
    """The difference in per cent for each of the 27 ways to draw three images and of the 4 to draw two seeds."""
    counts = {}
    for cell in study.cells:
        with np.load(cell.config.run_folder / "confusions.npz") as arrays:
            counts[cell.method, cell.seed] = arrays["linear"]

    def miou(method: str, seed: int, images: tuple[int, ...]) -> float:
        return 100 * ConfusionMatrix(counts[method, seed][list(images)].sum(0)).miou()

    draws = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    each = [[miou("cutmix", s, images) - miou("supervised", s, images) for s in SEEDS] for images in draws]
    return np.array([(pair[one] + pair[two]) / 2 for pair in each for one in SEEDS for two in SEEDS])


def test_the_three_views_say_the_same(done):
    result = done.result
    assert json.loads((done.out / "compare.json").read_text()) == plain(asdict(result))
    text, page = ((done.out / f"compare.{ending}").read_text() for ending in ("md", "html"))
    assert (text, page) == (markdown(result), html(result, done.out))
    row = rows_of(result)[1]
    shown = f"{row.last.mean:.2f} ± {row.last.deviation:.2f}"
    assert f"| cutmix | {shown} | " in text
    seen = " ".join(" ".join(Page(page).text).split())
    for words in (shown, row.difference.verdict, result.command, torch.__version__):
        assert words in seen
        assert words in text
    for split in result.labeled[0].split.values():
        assert split["sha256"] in text
        assert split["sha256"] in seen
    for note in result.notes:
        assert note in text
        assert note in seen


def test_the_page_asks_nothing_of_the_network_and_fits_a_phone_and_the_dark(done):
    page = (done.out / "compare.html").read_text()
    assert not OUTSIDE.search(page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert len(page) < 100_000


def test_what_is_published_stands_in_a_column_of_its_name_with_its_source(done):
    """Where nothing is published there is no such column."""
    assert "| published |" not in markdown(done.result)
    assert "published</th>" not in html(done.result)
    row = replace(rows_of(done.result)[1], published=Published(52.16, "Somebody, Table 1"))
    section = replace(done.result.labeled[0], rows=[row], meaning="classic: 92 labelled images")
    result = replace(done.result, labeled=[section])
    text = markdown(result)
    heads, _, row = (line for line in text.splitlines() if line.startswith("|"))
    assert row.split("|")[heads.split("|").index(" published ")] == " 52.16 "
    assert "- published cutmix 52.16: Somebody, Table 1" in text
    assert "Somebody, Table 1" in html(result)
    assert "classic: 92 labelled images." in text


# Places ---------------------------------------------------------------------------------------------------------------


def gpus(monkeypatch, count: int, visible: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_a_run_goes_to_each_gpu_or_to_the_cpu(monkeypatch):
    def visible(places: list) -> list:
        return [place.get("CUDA_VISIBLE_DEVICES") for place in places]

    gpus(monkeypatch, 0)
    assert find_places("auto", None) == [{}]
    assert find_places("auto", 3) == [{}, {}, {}]
    gpus(monkeypatch, 2)
    assert visible(find_places("auto", None)) == ["0", "1"]
    assert visible(find_places("auto", 1)) == ["0"]
    assert visible(find_places("cuda", 3)) == ["0", "1", "0"]
    assert find_places("cpu", None) == find_places("cuda:1", None) == [{}]
    gpus(monkeypatch, 2, "5,GPU-7")
    assert visible(find_places("auto", None)) == ["5", "GPU-7"]


def test_wrong_numbers_are_told_before_anything_is_run(recipe, capsys, tmp_path):
    assert cli.main(["compare", str(recipe), "--jobs", "0", "--out", str(tmp_path / "out")]) == 2
    assert "--jobs is 0; expected 1 <= jobs <= 1,000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_progress_tells_what_runs(done):
    lines = [line for line in done.printed.splitlines() if re.match(r"compare step \d+/16 ", line)]
    assert all(re.search(r"\d waiting, running: 4-\w+-seed\d \d/4", line) for line in lines)


def test_the_page_names_runs_that_failed_and_counts_those_to_come(done):
    rows = [
        replace(row, missing=[Missing(7, f"4-{row.key}-seed7", why)])
        for row, why in zip(rows_of(done.result), (NOT_YET, "no memory left"), strict=True)
    ]
    page = html(replace(done.result, labeled=[replace(done.result.labeled[0], rows=rows)]))
    assert "cutmix, seed 7, is missing: no memory left" in page
    assert "Not finished yet: 1 run." in page
    assert "supervised, seed 7" not in page


def test_another_classes_file_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    """The run that is finished was trained with two classes; the next one would be with these turned round."""
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    data = DataOptions(dataset="folder", root=tmp_path)
    configs = [SimpleNamespace(run_folder=tmp_path / name, data=data) for name in ("done", "next")]
    cells = [SimpleNamespace(config=config) for config in configs]
    monkeypatch.setattr(run, "is_finished", lambda cell: cell is cells[0])
    monkeypatch.setattr(run, "written_classes", lambda _: {"names": ["sky", "road"], "colors": [[0, 0, 0], [9, 9, 9]]})
    monkeypatch.setattr(run, "_run_study", lambda *_: pytest.fail("it was run"))
    with pytest.raises(ValueError, match=r"classes\.txt are not those of the run in \S+done: .*'sky' and is 'road'"):
        run.run_study(SimpleNamespace(cells=cells, out=tmp_path / "out"))
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    monkeypatch.setattr(run, "_run_study", lambda *_: "the result")
    assert run.run_study(SimpleNamespace(cells=cells, out=tmp_path / "out")) == "the result"
