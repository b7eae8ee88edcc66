"""The scripts in benchmarks/, which make the pages' figures, work on a run of three steps."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from support.examined import TINY, drawn_folder
from support.tiny_run import tiny_config, train_quietly
from support.written_runs import CLASSES, write_run

from semiseg.config.options import DataOptions, SceneOptions
from semiseg.costs.bench import pictures, workers
from semiseg.data.masks import MaskReader
from semiseg.training.record import read_record

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
RUN_HERE = {
    "compared_looks",
    "curves",
    "decoders",
    "fuzz",
    "many_images",
    "nuclei_looks",
    "planned",
    "predict",
    "scaling",
    "seams",
    "sharper_teacher",
    "suggest",
    "table",
    "traces",
}
SVG = "{http://www.w3.org/2000/svg}"
COLORS = {"fluorescence": (40, 40, 40), "bright field": (200, 200, 200), "stained": (220, 90, 160)}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Imports a script by its name, and leaves no trace of it: scripts import one another by name, too."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Its `main`, as if the words were typed."""
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, words)])
    module.main()


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on two classes; its validation images have each look once, with a square nucleus."""
    root = tmp_path_factory.mktemp("nuclei")
    for name in ("images", "masks"):
        (root / name).mkdir()
    looks = [*COLORS] * 3
    for number, look in enumerate(looks):
        mask = np.zeros((40, 40), np.uint8)
        mask[8:32, 8:32] = 1
        image = np.broadcast_to(np.uint8(COLORS[look]), (40, 40, 3)) + mask[..., None] * 20
        Image.fromarray(image.astype(np.uint8)).save(root / f"images/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    names = {"labeled": "0\n1\n2\n", "unlabeled": "3\n4\n5\n", "val": "6\n7\n8\n"}
    lists = {name: root / f"{name}.txt" for name in names}
    for name, file in lists.items():
        file.write_text(names[name])
    run = root / "runs" / "nuclei-3-prototype-0"
    options = DataOptions(root=root, **lists)
    train_quietly(tiny_config(run, data=options, steps=3, evaluate_every=3, checkpoint_every=3))
    return run


def test_every_script_is_run_here():
    assert set(SCRIPTS) == RUN_HERE


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_how_it_is_called(script, name):
    assert f"python benchmarks/{name}.py" in script(name).__doc__


def test_every_decoder_is_timed(script, monkeypatch, capsys):
    decoders = script("decoders")
    monkeypatch.setattr(decoders, "CROPS", ((2, 32, 64),))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    decoders.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [each[0] for each in decoders.DECODERS]
    figures = [re.search(r": (\d+\.\d+) s, in bf16 (\d+\.\d+) s$", line) for line in lines]
    assert all(figures)


def test_a_table_of_runs_has_their_scores_and_means(script, nuclei, monkeypatch, capsys):
    call(script("table"), monkeypatch, nuclei)
    said = capsys.readouterr().out
    result = json.loads((nuclei / "result.json").read_text())
    last, best = (result[which]["val"] for which in ("last", "best"))
    figures = [scores[name]["miou"] for scores in (last, best) for name in ("linear", "prototype")]
    cells = " | ".join(f"{figure:.2f}" for figure in figures)
    assert f"| prototype | {result['seed']} | {cells} | {result['best']['step']} |" in said
    assert f"| **prototype** | mean | {cells} |" in said
    for name in result["classes"]:
        assert f"| {name} | {last[last['headline']]['iou'][name] or 0:.2f} |" in said
    assert result["split"]["val"]["sha256"][:12] in said


def test_the_mean_of_a_table_is_of_its_seeds(script):
    scores = ({"linear": {"miou": miou}} for miou in (40.0, 41.0, 50.0, 53.0))
    runs = [{"method": "cutmix", "seed": seed, "seconds": 1} for seed in (1, 0)]
    for run in runs:
        run |= {"last": {"val": next(scores)}, "best": {"val": next(scores), "step": 9}}
    *_, first, second, mean = script("table").table(runs, "val").splitlines()
    assert first == "| cutmix | 0 | 50.00 | - | 53.00 | - | 9 | 1 |"
    assert second == "| cutmix | 1 | 40.00 | - | 41.00 | - | 9 | 1 |"
    assert mean == "| **cutmix** | mean | 45.00 | - | 47.00 | - |  | 1 |"


def panels(file: Path) -> list[ElementTree.Element]:
    return ElementTree.parse(file).getroot().findall(f"{SVG}g")


def test_curves_have_a_panel_for_the_mean_and_each_class_and_a_line_for_each_run(script, tmp_path, monkeypatch):
    runs = [write_run(tmp_path / f"scenes-9-{method}-0", method) for method in ("supervised", "prototype")]
    call(script("curves"), monkeypatch, tmp_path / "out.svg", "iou", *runs, "--depth", 10)
    found = panels(tmp_path / "out.svg")
    assert [panel.find(f"{SVG}text").text for panel in found] == ["mIoU", *CLASSES]
    assert [len(panel.findall(f"{SVG}polyline")) for panel in found] == [2] * 7


def test_curves_of_pseudo_labels_have_recall_and_dashed_precision(script, nuclei, tmp_path, monkeypatch):
    call(script("curves"), monkeypatch, tmp_path / "out.svg", "pseudo-labels", nuclei)
    mean, *classes = panels(tmp_path / "out.svg")
    assert [line.get("class") for line in mean.findall(f"{SVG}polyline")] == [None]
    assert len(classes) == 2
    recorded = [line for line in read_record(nuclei / "metrics.jsonl") if line["kind"] == "evaluation"][-1][
        "pseudo_labels"
    ]
    for name, panel in zip(recorded["recall_by_class"], classes, strict=True):
        figures = (recorded["recall_by_class"][name], recorded["precision_by_class"][name])
        expected = [kind for kind, figure in zip((None, "dashed"), figures, strict=True) if figure is not None]
        assert [line.get("class") for line in panel.findall(f"{SVG}polyline")] == expected


def test_looks_are_told_by_colour_and_brightness(script):
    look = script("nuclei_looks").look
    for name, color in COLORS.items():
        assert look(np.broadcast_to(np.uint8(color), (4, 4, 3))) == name


def test_nuclei_are_counted_by_look(script, nuclei, monkeypatch, capsys):
    module = script("nuclei_looks")
    call(module, monkeypatch, nuclei)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition("  images")[0].removeprefix(str(nuclei)).strip() for line in said] == sorted(COLORS)
    for name, (seen,) in module.by_look(nuclei).items():
        assert name == look_of(seen.name)
        assert seen.matrix.counts.sum() == 40 * 40
        assert 0 <= seen.missed <= 18 * 18  # the square without a rim of 3 pixels
        assert seen.missed <= seen.matrix.counts[1, 0]


def look_of(name: str) -> str:
    return [*COLORS][int(Path(name).stem) % 3]


def test_looks_are_compared_from_the_counts_a_run_left(script, nuclei, monkeypatch, capsys):
    call(script("compared_looks"), monkeypatch, nuclei.parent)
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| runs | fluorescence (1 images) | stained (1 images) | bright field (1 images) |"
    counted = script("nuclei_looks").by_look(nuclei)
    cells = []
    for name in ("fluorescence", "stained", "bright field"):
        counts = counted[name][0].matrix.counts
        iou = counts[1, 1] / (counts[1].sum() + counts[0, 1])
        cells.append(f"{100 * iou:.1f} / {100 * counts[1, 1] / counts[1].sum():.1f}")
    assert row == f"| 3-prototype-0 | {' | '.join(cells)} |"


@pytest.mark.slow
@pytest.mark.skipif(not workers.MEMORY.exists(), reason="this system does not tell a process's memory")
def test_many_images_are_opened_and_read(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "LINKS", 4)
    monkeypatch.setattr(workers, "NAMES", 2000)
    script("many_images").main(tmp_path / "many", 9)
    first, *grown = capsys.readouterr().out.splitlines()
    assert first.startswith("9 images open in ")
    assert [line.split(":")[0] for line in grown] == ["fork"] * 2 + ["spawn"] * 2


def test_a_model_of_scaling_is_what_its_formula_says(script, monkeypatch, capsys):
    scaling = script("scaling")
    words = ("table", "demo", "--image-seconds", 0.01, "--fixed-seconds", 0.02, "--devices", 2, "--bandwidth", 1e8)
    call(scaling, monkeypatch, *words)
    said = capsys.readouterr().out
    count = scaling.parameters_of("demo")
    assert said.startswith(f"{count:,} parameters")
    one, two = (line.strip("| ").split(" | ") for line in said.splitlines()[-2:])
    compute, exchange = 0.02 + 0.01 * 8, 4 * count / 1e8
    seconds = compute + max(0.0, exchange - 2 / 3 * 0.01 * 8)
    assert float(one[6]) == pytest.approx(compute, rel=0.01)
    assert float(two[6]) == pytest.approx(seconds, rel=0.01)
    assert one[-1] == "100%"
    assert two[-1] == f"{compute / seconds:.0%}"


@pytest.mark.slow
def test_processes_are_measured_against_the_model():
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import scaling; print(scaling.measure(4))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[-4:]]
    assert [(row[0], row[1]) for row in rows] == [("1", "4"), ("1", "8"), ("2", "2"), ("2", "4")]
    assert all(float(cell) > 0 for row in rows for cell in row[2:])


def test_traces_tell_where_two_codes_part(script, tmp_path, monkeypatch, capsys):
    traces = script("traces")
    monkeypatch.setattr(traces.semiseg, "METHODS", {"supervised": None, "cutmix": None})
    monkeypatch.setattr(traces, "VARIANTS", {"more": ("cutmix", {"method.confidence": "pixel"})})
    monkeypatch.setattr(traces, "STEPS", 2)
    few = dict.fromkeys(("train.steps", "train.evaluate_every", "train.checkpoint_every"), 2)
    monkeypatch.setattr(traces, "SHARED", traces.SHARED | few)
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    traces.record(one)
    recorded = json.loads(one.read_text())
    assert [*recorded] == ["supervised", "cutmix", "more"]
    assert all([*steps] == ["1", "2"] for steps in recorded.values())
    traces.record(other)
    capsys.readouterr()
    assert traces.compare(one, other) == 0
    assert capsys.readouterr().out.count("equal, every digit") == 3
    recorded["cutmix"]["2"]["supervised"] *= 1.001
    del recorded["more"]
    other.write_text(json.dumps(recorded))
    assert traces.compare(one, other) == 1
    said = capsys.readouterr().out
    assert "more: recorded in one of the files only" in said
    assert "cutmix: supervised apart from step 2 on, by 1.0e-03 at most" in said
    assert "supervised: equal, every digit" in said


def test_suggested_images_are_held_against_random_ones(script, tmp_path, monkeypatch, capsys):
    suggest = script("suggest")
    few = dict.fromkeys(("train.steps", "train.evaluate_every", "train.checkpoint_every"), 2)
    monkeypatch.setattr(
        suggest, "TRAINING", suggest.TRAINING | few | {"augment.crop_height": 32, "augment.crop_width": 32}
    )
    monkeypatch.setattr(suggest, "SCENES", SceneOptions(labeled=3, unlabeled=12, val=2, height=32, width=40))
    call(suggest, monkeypatch, tmp_path, "--seeds", "3", "--draws", "1")
    made = json.loads((tmp_path / "3.json").read_text("utf-8"))
    difference = made["suggested"][0] - made["random"][0]
    said = capsys.readouterr().out
    cells = (made["few"], made["random"][0], made["suggested"][0])
    assert f"| 3 | {' | '.join(f'{cell:.2f}' for cell in cells)} | {difference:+.2f} |" in said
    assert len(set(made["chosen"])) == 10
    call(suggest, monkeypatch, tmp_path, "--table")
    assert capsys.readouterr().out == said


@pytest.mark.slow
def test_a_planned_folder_is_scored_on_images_that_it_never_saw(script, tmp_path, monkeypatch, capsys):
    data = drawn_folder(tmp_path / "data", masks=9, images=10)
    images = sorted(path.stem for path in (data / "images").iterdir())
    for name, ids in (("train", images[:8]), ("few", images[:6]), ("val", images[6:9])):
        (data / f"{name}.txt").write_text("\n".join(ids))
    given = [word for key, value in TINY.items() for word in ("--option", f"{key}={str(value).lower()}")]
    words = (data, tmp_path / "out", "--labeled", "few.txt", "--seeds", "3", *given)
    call(script("planned"), monkeypatch, *words)
    first, row = capsys.readouterr().out.splitlines()[-3:], json.loads((tmp_path / "out/3.json").read_text())
    assert len(list((tmp_path / "out/photos/masks").iterdir())) == 6
    assert len(list((tmp_path / "out/photos/images").iterdir())) == 8
    assert len(list((tmp_path / "out/val/masks").iterdir())) == 3
    assert [len(row["folds"][kind]) for kind in ("method", "baseline")] == [3, 3]
    assert f"{row['rest']['val']:.1f}" in first[-2]
    assert f"{np.mean(row['folds']['method']):.1f} / {np.mean(row['folds']['baseline']):.1f}" in first[-1]
    call(script("planned"), monkeypatch, *words, "--table")
    assert capsys.readouterr().out.splitlines()[-3:] == first


def test_a_teachers_labels_are_scored_by_view_and_prior(script, tmp_path, monkeypatch, capsys):
    config = tiny_config(tmp_path / "run", "supervised", steps=1)
    train_quietly(config)
    call(script("sharper_teacher"), monkeypatch, config.run_folder, "--images", "2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| 2 images | mIoU |")
    assert len(lines) == 2 + 4 + 5
    assert all(0 <= float(line.split("|")[2]) <= 100 for line in lines[2:])


def test_prediction_is_held_against_bare_passes(script, tmp_path, monkeypatch, capsys):
    predict = script("predict")
    config = tiny_config(tmp_path / "run", "supervised", steps=1)
    train_quietly(config)
    monkeypatch.setattr(predict, "SMALL", (40, 56))
    call(predict, monkeypatch, config.run_folder, "--side", "96", "--pictures", "3", "--device", "cpu")
    said = capsys.readouterr().out
    assert re.search(r"3 of 40x56: [\d.]+ Mpixel/s, [\d.]+ of bare passes", said)
    assert re.search(r"1 of 96x96: [\d.]+ Mpixel/s, [\d.]+ of bare passes\npeak \d+ MB", said)


@pytest.mark.parametrize("name", ["pictures", "lists", "recipes", "models"])
def test_what_fuzzing_starts_from_is_read_or_answered(script, tmp_path, name):
    """The seeds, and each of them with a bit turned and cut short."""
    target, findings = script("fuzz").TARGETS[name], tmp_path / "findings"
    place = tmp_path / "place"
    place.mkdir()
    reader, seeds = target.reader(place), target.seeds()
    assert len(seeds) >= 10
    tried = [*seeds, *(seed[: len(seed) // 2] for seed in seeds)][:: len(seeds) // 10]
    assert [found for content in tried if (found := script("fuzz").check(reader, content, place, findings))] == []


def test_a_finding_is_saved_once_and_an_answer_is_none(script, tmp_path):
    def reader(content):
        if content == b"answer":
            MaskReader(()).read(tmp_path / "gone.png", tmp_path / "gone.png")
        raise KeyError(content)

    check = script("fuzz").check
    assert check(reader, b"answer", tmp_path, tmp_path / "findings") is None
    assert "KeyError" in check(reader, b"one", tmp_path, tmp_path / "findings")
    assert check(reader, b"two", tmp_path, tmp_path / "findings") is None
    kept, told = sorted((tmp_path / "findings").iterdir())
    assert kept.read_bytes() == b"one"
    assert "Traceback" in told.read_text()


def test_without_atheris_fuzzing_says_where_it_is(script, monkeypatch):
    module = script("fuzz")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="uv run --group fuzz"):
        call(module, monkeypatch, "lists")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is an optional tool")
def test_inputs_that_reach_new_lines_are_kept(script, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(script("fuzz"), monkeypatch, "lists", "--minutes", 0.05, "--out", tmp_path)
    assert ended.value.code in (0, 1)
    assert re.search(r"lists: 3 s, [\d,]+ inputs, \d+ places reached", capsys.readouterr().out)
    assert list((tmp_path / "lists/corpus").iterdir())


def test_seams_are_the_error_at_windows_borders_over_the_error_elsewhere(script, nuclei, monkeypatch, capsys):
    seams, root = script("seams"), nuclei.parents[1]
    monkeypatch.setattr(seams, "NEAR", 2)
    near = seams.borders(40, 16, 12)  # windows end at 16, 28 and 40, and begin at 0, 12 and 24
    assert np.flatnonzero(near).tolist() == [*range(10, 18), *range(22, 30)]
    picture, truth = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
    truth[20:40] = 255  # which counts for nothing

    class Wrong:
        """At every border of columns, and at one pixel in four elsewhere."""

        def predict(self, moved, window, stride, blend):
            label = np.zeros(moved.shape[:2], np.uint8)
            label[::2, ::2] = 1
            label[seams.borders(60, window, stride)] = 1
            label[:, seams.borders(80, window, stride)] = 1
            return label, None

    found = seams.errors(Wrong(), picture, truth, 32, 24, "mean")
    assert np.isnan(found[:, 20:40]).all()
    assert (np.isnan(found[0]) == np.isnan(found[1])).all()
    assert np.nanmin(found[0]) == 1
    assert np.nanmean(found[1]) == pytest.approx(0.25, abs=0.05)
    names = ("--images", root / "images", "--masks", root / "masks", "--list", root / "unlabeled.txt")
    monkeypatch.setattr(seams, "ACROSS", 1)
    call(seams, monkeypatch, nuclei, *names, "--count", "2", "--window", "24", "--stride", "16", "--device", "cpu")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("40x80, windows of 24, 16 apart")
    assert [line.partition(":")[0] for line in lines] == ["mean", "smooth"]
    for line in lines:
        at, elsewhere, ratio = map(float, re.findall(r"\d\.\d+", line)[:3])
        assert at / elsewhere == pytest.approx(ratio, abs=0.02)
