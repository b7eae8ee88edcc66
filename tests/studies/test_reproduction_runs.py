"""What a reproduction says of runs that are there, and one that is run."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from support.folders import filled
from support.pages import OUTSIDE, Page

import semiseg.analysis
from semiseg.config.recipe import save_config
from semiseg.evaluation.metrics import ConfusionMatrix
from semiseg.evaluation.statistics import paired_interval
from semiseg.runtime.files import plain
from semiseg.studies.paper.analysis import analyse
from semiseg.studies.paper.grid import make_reproduction
from semiseg.studies.result import Missing, Result, RowResult, Runs
from semiseg.studies.run import MissingRunsError, require_all, run_study
from semiseg.studies.study import Study
from semiseg.studies.table import build_result
from semiseg.studies.views import html, markdown, write_pages

IMAGES = 12
SMALL = {
    "train.threads": 1, "train.workers": 0, "train.device": "cpu", "train.batch_labeled": 2, "train.batch_unlabeled": 2,
    "train.steps": 3, "train.evaluate_every": 3, "augment.crop_height": 32, "augment.crop_width": 32,
    "evaluation.protocol": "whole", "network.channels": 8,
}  # fmt: skip


@pytest.fixture
def root(tmp_path) -> Path:
    """Images m0 to m9 with masks, u0 to u4 without, and a split of two labels."""
    folder = filled(tmp_path / "data") / "splits" / "2"
    folder.mkdir(parents=True)
    (folder / "labeled.txt").write_text("m0\nm1\n")
    (folder / "unlabeled.txt").write_text("u0\nu1\nu2\n")
    (tmp_path / "data/val.txt").write_text("m8\nm9\n")
    (tmp_path / "data/classes.txt").write_text("ground\nthing\n")
    return tmp_path / "data"


def counts(quality: float, seed: int) -> np.ndarray:
    """Confusions (IMAGES, 2, 2) of 100 pixels each, of which about the share `quality` is right."""
    rng = np.random.default_rng(seed)
    right = rng.binomial(50, quality, size=(IMAGES, 2))
    return np.stack([[[a, 50 - a], [50 - b, b]] for a, b in right]).astype(np.int64)


def scores(matrix: np.ndarray) -> float:
    return 100 * ConfusionMatrix(matrix.sum(0)).miou()


def finish(made: Study, quality) -> None:
    """Write what a finished run leaves, for every run; `quality` maps its name to those of its two predictors."""
    for number, cell in enumerate(made.cells):
        folder = cell.config.run_folder
        folder.mkdir(parents=True)
        save_config(cell.config, folder / "config.yaml")
        (folder / "metrics.jsonl").write_text('{"step": 3}\n')
        found = {
            name: counts(share, number) for name, share in zip(("linear", "prototype"), quality(cell.name), strict=True)
        }
        val = {"headline": "linear", "miou": scores(found["linear"])}
        val |= {name: {"miou": scores(matrix), "iou": {"ground": 50.0}} for name, matrix in found.items()}
        split = {name: {"name": name, "count": 2, "sha256": name} for name in ("labeled", "unlabeled", "val")}
        result = {
            "last": {"step": 3, "val": val}, "best": {"step": 3, "val": val}, "split": split, "seconds": 60.0,
            "images_per_second": 9.0, "peak_bytes": None, "parameters": {"trained": 2, "used": 1},
            "versions": {"python": "3.11"}, "hardware": {"device": "a processor"}, "commit": "abc",
            "date": f"2026-01-0{number % 9 + 1}",
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
        names = [str(image) for image in range(IMAGES)]
        np.savez(folder / "confusions.npz", names=names, **found)


def made_of(table: str, root: Path, out: Path, **given) -> Study:
    flat = {"data.root": root, **given.pop("overrides", {})}
    return make_reproduction(table, "folder", "cpu", labeled="2", out=out, overrides=flat, **given)


@pytest.fixture
def components(root, tmp_path):
    """Table 4 with all runs there, the full method the best."""
    made = made_of("table4", root, tmp_path / "out")
    finish(made, lambda name: (0.95, 0.9) if name.startswith("2-prototype-seed") else (0.8, 0.85))
    return SimpleNamespace(made=made, result=build_result(made, {}, 1), out=tmp_path / "out")


def row_of(made: Result, key: str) -> RowResult:
    return next(row for row in made.labeled[0].rows if row.key == key)


# What the table says --------------------------------------------------------------------------------------------------


def test_a_row_has_ours_beside_the_papers(components):
    result = components.result
    found, full = row_of(result, "linear"), row_of(result, "full")
    seeds = [saved(components.made, "linear", seed)["last"]["val"]["miou"] for seed in (0, 1)]
    assert list(found.last.by_seed.values()) == seeds
    assert found.last.mean == pytest.approx(np.mean(seeds))
    assert found.last.deviation == pytest.approx(np.std(seeds, ddof=1))
    assert found.published.miou == 67.95
    assert found.published_difference == pytest.approx(67.95 - 70.06)
    assert full.difference is None
    assert full.published.miou == 70.06


def saved(made: Study, key: str, seed: int) -> dict:
    return json.loads((made.runs[key, "2", seed].config.run_folder / "result.json").read_text())


def test_a_row_is_held_against_its_reference_over_the_same_images_and_seeds(components):
    made = components.made

    def stacked(key: str) -> np.ndarray:
        folders = [made.runs[key, "2", seed].config.run_folder for seed in (0, 1)]
        return np.stack([np.load(folder / "confusions.npz")["linear"] for folder in folders])

    expected = paired_interval(stacked("frozen"), stacked("full"))
    found = row_of(components.result, "frozen").difference
    assert (found.miou, found.low, found.high) == (
        100 * expected.difference,
        100 * expected.low,
        100 * expected.high,
    )
    assert found.verdict == "lower"


def test_a_predictors_row_has_its_own_score_of_the_same_run(root, tmp_path):
    made = made_of("table7", root, tmp_path / "out", only="0.80,0.95", seeds="0")
    finish(made, lambda name: (0.9, 0.7))
    result = build_result(made, {}, 1)
    linear, prototype = (row_of(result, f"0.80/{name}") for name in ("linear", "prototype"))
    assert linear.runs == prototype.runs == ["2-prototype-seed0"]
    val = json.loads((tmp_path / "out/2-prototype-seed0/result.json").read_text())["last"]["val"]
    assert linear.last.mean == val["linear"]["miou"]
    assert prototype.last.mean == val["prototype"]["miou"]
    assert prototype.reference == "0.80/linear"
    assert prototype.difference.verdict == "lower"
    assert row_of(result, "0.95/linear").reference == "0.80/linear"
    assert result.runs == Runs(2, 2, 1)


def test_runs_that_are_not_there_are_named_with_the_reason(root, tmp_path):
    made = made_of("table4", root, tmp_path / "out", seeds="0")
    result = build_result(made, {"2-prototype-linear-off-seed0": "out of memory"}, 1)
    assert row_of(result, "prototype").missing == [Missing(0, "2-prototype-linear-off-seed0", "out of memory")]
    assert row_of(result, "full").missing == [Missing(0, "2-prototype-seed0", "not finished yet")]
    text = markdown(result)
    assert "Prototype predictor only, updated, seed 0, is missing: out of memory" in text
    with pytest.raises(MissingRunsError, match="4 of 4 runs did not finish"):
        require_all(result)


# What it is not -------------------------------------------------------------------------------------------------------


def test_a_small_scale_cannot_be_mistaken_for_the_papers(components):
    result = components.result
    words = result.warning
    for part in ("NOT the paper's setting", "the folder data", "labels: 2", "steps: 600", "test_resnet", "128 x 128"):
        assert part in words
    assert result.labeled[0].published_header == "published (VOC, ResNet-101, 92 labels)"
    page, text = html(result, components.out), markdown(result)
    assert text.startswith(f"# Reproduction of table4 (NOT the paper's setting)\n\n{result.headline}. {words}")
    assert text.count(words) == 2  # the opening, and the table
    assert f"<caption>{words.replace(chr(39), '&#39;')}</caption>" in page
    assert "<strong>NOT the paper" in page
    assert "(NOT the paper's setting)</title>" in page


def test_at_full_scale_only_what_the_presets_differ_in_is_said():
    made = make_reproduction("table1", only="prototype", labeled="92,183")
    result = build_result(made, {}, 1)
    assert result.warning is None
    assert result.labeled[0].published_header == "published"
    assert {each.what for each in result.differences} == {
        "preset", "supervised loss", "optimizer", "evaluation", "options of the method",
    }  # fmt: skip
    paper = build_result(make_reproduction("table1", only="prototype", preset="paper"), {}, 1)
    assert paper.differences == []
    assert "In no option." in markdown(paper)
    figures = [section.rows[0].published.miou for section in paper.labeled]
    assert figures == [70.06, 74.71, 77.16, 78.49, 80.65]


@pytest.mark.parametrize(
    ("given", "what", "words"),
    [
        ({"scale": "half"}, "network", "resnet50s"),
        ({"overrides": {"train.steps": 1000}}, "steps", "1,000"),
        ({"overrides": {"train.batch_labeled": 8}}, "batch", "8 + 16"),
        ({"overrides": {"augment.crop_height": 321}}, "crop", "321 x 513"),
        ({"dataset": "cityscapes"}, "data", "Cityscapes"),
    ],
)
def test_whatever_is_decisive_is_warned_of(given, what, words):
    result = build_result(make_reproduction("table4", only="full", **given), {}, 1)
    assert words in next(each.here for each in result.differences if each.what == what)
    assert f"{what}: " in result.warning


def test_the_page_is_one_file_that_asks_for_nothing(components):
    paths = write_pages(components.result, components.out)
    page = paths["html"].read_text()
    assert OUTSIDE.search(page) is None
    Page(page)  # every tag that is opened is closed
    assert json.loads(paths["json"].read_text()) == plain(asdict(components.result))
    for row in components.result.labeled[0].rows:
        assert row.title in page
        assert f"{row.last.mean:.2f}" in page


def test_a_sweep_has_a_chart(root, tmp_path):
    made = made_of("figure3", root, tmp_path / "out", only="1,2,8")
    finish(made, lambda name: (0.9 if "per_class8" in name else 0.6, 0.5))
    result = build_result(made, {}, 1)
    page = html(result, tmp_path / "out")
    chart = page.partition('<figure class="chart">')[2].partition("</figure>")[0]
    assert chart.count("<circle") == 3 * 3  # two seeds and their mean
    points = chart.partition('<polyline class="hue1" points="')[2].partition('"')[0].split()
    assert len(points) == 3
    heights = [float(point.partition(",")[2]) for point in points]
    assert heights[2] < heights[0]  # higher up
    assert "mIoU by prototypes per class" in chart
    means = {row.key: f"{row.key}: {row.last.mean:.2f}" for row in result.labeled[0].rows}
    assert "; ".join(means.values()) in chart  # for those who cannot see it


# What is made of the runs ---------------------------------------------------------------------------------------------


def test_variances_are_of_every_run_beside_the_papers(root, tmp_path, monkeypatch):
    made = made_of("table5", root, tmp_path / "out")
    finish(made, lambda name: (0.9, 0.9))
    asked = []

    def discriminate(runs, out, *, root, labels):
        asked.append((runs, out, root, labels))
        traces = {"intra": 2.0, "inter": 1.0, "ratio": 0.5}
        return {"rows": [{"label": label, "raw": traces, "balanced": traces, "unit": traces} for label in labels]}

    monkeypatch.setattr(semiseg.analysis, "discriminate", discriminate)
    found = analyse(made, build_result(made, {}, 1))
    titles = ["Labelled images only", "U2PL", "Ours without prototype predictor", "Ours"]
    assert [each[0] for each in asked] == [
        [made.runs[row.key, "2", seed].config.run_folder for row in made.rows] for seed in (0, 1)
    ]
    assert [each[1:] for each in asked] == [
        (tmp_path / f"out/table5/seed{seed}", made.config.data.root, titles) for seed in (0, 1)
    ]
    assert found.head[:3] == ["row", "seed", "inter / intra"]
    assert found.rows[0] == ["Labelled images only", "0", "0.5", "1", "2", "0.5", "0.5", "–", "–", "–"]
    assert found.rows[7] == ["Ours", "1", "0.5", "1", "2", "0.5", "0.5", "2.22", "283.43", "127.63"]


@pytest.mark.parametrize(("table", "rule"), [("figure4", "boundary"), ("figure5", "consistency")])
def test_pictures_stand_in_the_page(root, tmp_path, monkeypatch, table, rule):
    made = made_of(table, root, tmp_path / "out", seeds="0")
    finish(made, lambda name: (0.9, 0.9))

    def picture(runs, out, *, root, labels, rule):
        out.mkdir(parents=True)
        (out / f"pictures-{rule}.png").write_bytes(b"a picture")
        found = {"boundary_iou": {"mean": 40.0}, "consistency": {"mean": 90.0, "right": 80.0}}
        return {"rows": [{"label": label, **found} for label in labels]}

    monkeypatch.setattr(semiseg.analysis, "picture", picture)
    result = build_result(made, {}, 1)
    result = replace(result, analysis=analyse(made, result))
    assert result.analysis.pictures == [f"{table}/seed0/pictures-{rule}.png"]
    page = html(result, tmp_path / "out")
    assert "data:image/png;base64,YSBwaWN0dXJl" in page
    assert f"![{table}/seed0/pictures-{rule}.png]({table}/seed0/pictures-{rule}.png)" in markdown(result)


def test_an_embedding_is_drawn_of_each_seed(root, tmp_path, monkeypatch):
    made = made_of("figure2", root, tmp_path / "out")
    finish(made, lambda name: (0.9, 0.9))

    def embed(runs, out, *, root, labels):
        out.mkdir(parents=True)
        (out / "embedding.json").write_text(json.dumps({"rows": [{"silhouette": 0.25}] * len(runs)}))
        (out / "embedding.svg").write_text("<svg/>")
        return [out / f"embedding.{ending}" for ending in ("svg", "png", "json")]

    monkeypatch.setattr(semiseg.analysis, "embed", embed)
    found = analyse(made, build_result(made, {}, 1))
    assert found.pictures == [f"figure2/seed{seed}/embedding.svg" for seed in (0, 1)]
    assert found.rows[-1] == ["Ours", "1", "0.25"]


def test_nothing_is_made_of_runs_that_are_missing(root, tmp_path):
    made = made_of("table5", root, tmp_path / "out")
    assert analyse(made, build_result(made, {}, 1)) is None


# Runs -----------------------------------------------------------------------------------------------------------------


def test_tables_share_runs_and_a_folder_with_other_options_is_refused(root, tmp_path):
    out, printed = tmp_path / "out", io.StringIO()
    made = made_of("table7", root, out, only="0.80", seeds="0", overrides=SMALL)
    result = run_study(made, 1, Console(file=printed, width=300))
    require_all(result)
    assert "1 runs, 3 steps" in printed.getvalue()
    written = {path.name for path in out.iterdir()}
    assert written == {".lock", "2-prototype-seed0", "table7.md", "table7.json", "table7.html"}
    before = (out / "2-prototype-seed0/result.json").stat().st_mtime_ns
    again = made_of("table4", root, out, only="full", seeds="0", overrides=SMALL)
    second = run_study(again, 1, Console(file=printed, width=300))
    assert (out / "2-prototype-seed0/result.json").stat().st_mtime_ns == before
    assert row_of(second, "full").last == row_of(result, "0.80/linear").last
    other = made_of("table4", root, out, only="full", seeds="0", overrides=SMALL | {"train.steps": 4})
    with pytest.raises(ValueError, match=r"other options: train\.steps was 3 and is 4"):
        run_study(other, 1, Console(file=printed))
