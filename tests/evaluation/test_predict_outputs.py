"""What is written of predictions: overlays, legends, areas, objects, georeference; and what is kept from before."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from support.models import untrained_run
from support.ranks import in_ranks

from semiseg.cli.main import main
from semiseg.config.predicting import PredictOptions
from semiseg.data.dataset import palette
from semiseg.evaluation import segment
from semiseg.evaluation.areas import count_objects, count_pixels
from semiseg.evaluation.colors import draw_colors, draw_legend, lab
from semiseg.evaluation.model import Model, load_model
from semiseg.evaluation.native import in_memory
from semiseg.evaluation.overlay import draw_overlay_
from semiseg.evaluation.pictures import find_pictures, out_folder
from semiseg.evaluation.segment import predict_images
from semiseg.runtime.timing import peak_bytes

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return untrained_run(tmp_path_factory.mktemp("run"), data__scale=1.0)


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / f"photos/{'deep/' * (number > 2)}p{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 52 + (number == 4), 3), np.uint8)).save(path)
    return tmp_path / "photos"


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# ---- what is predicted, and where it goes ----


def test_a_folder_a_pattern_and_a_list_name_the_same_pictures(photos, tmp_path):
    (tmp_path / "list.txt").write_text("photos/p0.png\n\nphotos/deep/p3.png\n./photos/p0.png\n")
    assert list(find_pictures(photos)) == ["deep/p3", "deep/p4", "p0", "p1", "p2"]
    assert find_pictures(f"{photos}/**/*.png") == find_pictures(photos)
    assert find_pictures(photos / "p[01].*") == {name: photos / f"{name}.png" for name in ("p0", "p1")}
    assert find_pictures(f"{tmp_path}/phot*") == {f"photos/{name}": p for name, p in find_pictures(photos).items()}
    listed = find_pictures(tmp_path / "list.txt")
    assert [(name, path.resolve()) for name, path in listed.items()] == [
        ("p0", photos / "p0.png"),
        ("deep/p3", photos / "deep/p3.png"),
    ]


def test_what_names_no_picture_is_told(tmp_path, photos):
    with pytest.raises(ValueError, match=r"no picture is named as .*x\*\.jpg"):
        find_pictures(photos / "x*.jpg")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.txt names no picture"):
        find_pictures(tmp_path / "empty.txt")
    (photos / "p0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="differ in their suffix only"):
        find_pictures(photos / "p0*")


def test_masks_are_never_nested_in_masks():
    assert out_folder(Path("run"), None) == Path("run/predictions")
    assert out_folder(Path("run"), Path("there")) == Path("there")
    assert out_folder(Path("run"), Path("there/masks")) == Path("there")


def test_by_default_they_go_into_the_run_folder(run, photos):
    made = predict_images(run, photos / "p0.png", console=QUIET)
    assert made.out == run / "predictions"
    assert (run / "predictions/masks/p0.png").is_file()


def test_a_users_own_legend_or_table_is_not_written_over(run, photos):
    (photos / "areas.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"areas\.csv was not written by"):
        predict_images(run, photos, photos, console=QUIET)
    assert (photos / "areas.csv").read_text() == "mine"


# ---- what is kept ----


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    names, pieces = [], Model.pieces

    def counting(model, pictures, asked):
        names.extend([str(picture.height) for picture in pictures])
        return pieces(model, pictures, asked)

    monkeypatch.setattr(Model, "pieces", counting)
    return names


def test_what_is_done_is_kept_and_what_changed_is_made_again(run, photos, tmp_path, counted):
    out = tmp_path / "out"
    assert predict_images(run, photos, out, console=QUIET).kept == 0
    assert len(counted) == 5
    before = contents(out)
    again = predict_images(run, photos, out, console=QUIET)
    assert (again.kept, again.count, len(counted)) == (5, 5, 5)
    assert contents(out) == before
    (out / "masks/p1.png").unlink()
    os.utime(photos / "deep/p4.png", (1, 1))
    predict_images(run, photos, out, console=QUIET)
    assert len(counted) == 5 + 1 + 3  # p0, p1 and p2 are one batch
    assert {name: content for name, content in contents(out).items() if "/" in name} == {
        name: content for name, content in before.items() if "/" in name
    }


def drawn(folder: Path, seed: int) -> Path:
    """A picture p.bmp of the same size in bytes, and the same time, for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 52, 3), np.uint8)).save(folder / "p.bmp")
    os.utime(folder / "p.bmp", (1, 1))
    return folder


@pytest.mark.parametrize("how", ["another folder", "another folder before", "replaced"])
def test_another_picture_of_the_same_name_size_and_time_never_keeps_a_mask(run, tmp_path, how):
    first, out = drawn(tmp_path / "first", 1), tmp_path / "out"
    predict_images(run, first, out, console=QUIET)
    second = drawn(first if how == "replaced" else tmp_path / "second", 2)
    expected = predict_images(run, second, tmp_path / "expected", console=QUIET).out
    assert predict_images(run, second, out, console=QUIET).kept == 0
    if how == "another folder before":  # the first record of the first folder must not count
        expected = predict_images(run, first, tmp_path / "expected", console=QUIET).out
        assert predict_images(run, first, out, console=QUIET).kept == 0
    for file in ("confidence/p.png", "masks/p.png", "areas.csv"):
        assert (out / file).read_bytes() == (expected / file).read_bytes()


def test_the_last_record_counts_whichever_process_wrote_it(run, tmp_path):
    first, second, out = drawn(tmp_path / "first", 1), drawn(tmp_path / "second", 2), tmp_path / "out"
    predict_images(run, first, out, console=QUIET)
    (part,) = out.glob(".done-*-0.jsonl")
    part.rename(part.with_name(part.name.replace("-0.jsonl", "-1.jsonl")))  # as if of two processes the second did it
    predict_images(run, second, out, console=QUIET)
    assert predict_images(run, second, out, console=QUIET).kept == 1
    assert predict_images(run, first, out, console=QUIET).kept == 0


def test_killed_while_a_mask_is_replaced_its_old_record_does_not_count(run, tmp_path, monkeypatch):
    first, second, out = drawn(tmp_path / "first", 1), drawn(tmp_path / "second", 2), tmp_path / "out"
    predict_images(run, first, out, console=QUIET)
    add = segment.Done.add

    def killed_at_the_end(done, rank, record):
        if "mask" in record:
            raise KeyboardInterrupt
        add(done, rank, record)

    monkeypatch.setattr(segment.Done, "add", killed_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        predict_images(run, second, out, console=QUIET)
    monkeypatch.undo()
    assert predict_images(run, first, out, console=QUIET).kept == 0


def test_records_of_an_earlier_version_are_made_again_with_a_word(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    predict_images(run, photos, out, console=QUIET)
    (part,) = out.glob(".done-*.jsonl")
    lines = [json.loads(line) for line in part.read_text().splitlines() if line]
    for line in lines:
        status = (photos / f"{line['name']}.png").stat()
        line["file"] = [status.st_size, status.st_mtime_ns]
        del line["turn"]
    part.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    said = []
    for _ in range(2):
        assert main(["predict", str(run), str(photos), "--out", str(out)]) == 0
        said.append(" ".join(capsys.readouterr().out.split()))
    assert "5 predictions in" in said[0]
    assert "of an earlier version of semiseg" in said[0]
    assert "earlier version" not in said[1]
    assert "5 pictures were done before" in said[1]


@pytest.mark.parametrize("other", ["options", "model"])
def test_another_model_or_other_options_make_all_again_and_say_so(run, photos, tmp_path, counted, capsys, other):
    out = tmp_path / "out"
    predict_images(run, photos, out, console=QUIET)
    where = untrained_run(tmp_path / "another", data__scale=1.0, seed=9) if other == "model" else run
    options = ["--flips", "horizontal"] if other == "options" else []
    assert main(["predict", str(where), str(photos), "--out", str(out), *options]) == 0
    assert "are of another model or of other options: they are made again" in " ".join(capsys.readouterr().out.split())
    assert len(counted) == 10
    assert len(list(out.glob(".done-*"))) == 1


@pytest.mark.parametrize("stop", [2, 5, 8])
def test_stopped_in_the_middle_and_begun_again_gives_the_same_files(run, photos, tmp_path, monkeypatch, stop):
    predict_images(run, photos, tmp_path / "whole", console=QUIET)
    calls, fsync = [], os.fsync

    def stopping(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == stop:
            raise KeyboardInterrupt
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict_images(run, photos, tmp_path / "out", console=QUIET)
    monkeypatch.undo()
    for part in (tmp_path / "out").glob(".done-*"):
        part.write_bytes(part.read_bytes()[:-7])  # a line cut short
    predict_images(run, photos, tmp_path / "out", console=QUIET)
    found, expected = (
        {name: content for name, content in contents(tmp_path / out).items() if not name.startswith(".")}
        for out in ("out", "whole")
    )
    assert found == expected


def test_batches_are_what_one_picture_at_a_time_gives(run, photos, tmp_path, monkeypatch):
    predict_images(run, photos, tmp_path / "together", console=QUIET)
    monkeypatch.setitem(segment.AT_ONCE, "cpu", 1)
    predict_images(run, photos, tmp_path / "alone", console=QUIET)
    for name in ("p0", "deep/p4"):
        masks = [np.asarray(Image.open(tmp_path / out / f"masks/{name}.png")) for out in ("together", "alone")]
        assert (masks[0] == masks[1]).mean() > 0.999


# ---- areas and objects ----


def test_the_table_of_areas_is_what_the_masks_show(run, photos, tmp_path):
    predict_images(run, photos, tmp_path / "out", console=QUIET, objects=True)
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").open()))
    classes = load_model(run).classes
    assert len(rows) == 5 * len(classes)
    for row in rows:
        mask = np.asarray(Image.open(tmp_path / f"out/masks/{row['image']}.png"))
        here = (mask == classes.index(row["class"])).astype(np.uint8)
        assert int(row["pixels"]) == here.sum()
        assert float(row["share"]) == pytest.approx(here.mean(), abs=1e-6)
        assert int(row["objects"]) == cv2.connectedComponents(here, connectivity=8)[0] - 1


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 30), width=st.integers(1, 20), rows=st.integers(1, 9), smallest=st.integers(1, 6),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_objects_in_strips_are_those_of_the_whole(height, width, rows, smallest, seed):
    label = np.random.default_rng(seed).integers(0, 3, (height, width), np.uint8)
    expected = []
    for number in range(3):
        _, _, figures, _ = cv2.connectedComponentsWithStats((label == number).astype(np.uint8), connectivity=8)
        expected.append(int((figures[1:, cv2.CC_STAT_AREA] >= smallest).sum()))
    assert count_objects(label, 3, smallest, rows) == expected


def test_pixels_without_a_class_are_not_counted():
    assert count_pixels(np.array([[0, 1, 255], [1, 1, 255]], np.uint8), 3) == [1, 3, 0]


# ---- what people look at ----


@pytest.mark.parametrize("count", [2, 11, 21, 254])
def test_colours_differ_from_each_other_and_from_black(count):
    names = tuple(f"class {number}" for number in range(count))
    drawn = draw_colors(names, palette(count))
    assert None not in drawn
    places = lab(np.array([(0, 0, 0), *drawn], np.uint8))
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(count + 1)
    assert apart.min() > (25 if count <= 21 else 5)


def test_good_colours_are_kept_and_a_background_has_none():
    colors = ((0, 0, 0), (230, 30, 30), (230, 35, 30), (30, 200, 60))
    first, *others = draw_colors(("Background", "a", "b", "c"), colors)
    assert first is None
    assert others[0] == (230, 30, 30)
    assert others[2] == (30, 200, 60)
    assert others[1] not in colors
    legend = draw_legend(("Background", "a", "b", "c"), (first, *others))
    seen = {color for _, color in legend.getcolors(10_000)}
    assert set(others) <= seen


@pytest.mark.parametrize("tint", [0.0, 0.5])
def test_an_overlay_tints_and_outlines_what_has_a_colour(tint):
    label = np.zeros((700, 60), np.uint8)
    label[100:600, 20:40] = 1
    photo = np.full((700, 60, 3), (200, 100, 40), np.uint8)
    painted = photo.copy()
    draw_overlay_(painted, label, (None, (10, 250, 130)), tint=tint)
    painted = painted[..., ::-1]
    assert (painted[label == 0] == (200, 100, 40)).all()
    np.testing.assert_array_equal(painted[100, 20], (10, 250, 130))
    np.testing.assert_array_equal(painted[511, 20], (10, 250, 130))  # at the seam of two strips
    inside = (200, 100, 40) if tint == 0 else (105, 175, 85)
    np.testing.assert_allclose(painted[105:595, 25:35].reshape(-1, 3), np.tile(inside, (4900, 1)), atol=1)


@pytest.mark.parametrize("overlay", ["tint", "outline", "none"])
def test_overlays_are_as_asked(run, photos, tmp_path, overlay):
    predict_images(run, photos, tmp_path / "out", console=QUIET, overlay=overlay)
    assert (tmp_path / "out/overlays/p0.jpg").exists() == (overlay != "none")
    assert (tmp_path / "out/legend.png").exists() == (overlay != "none")
    assert json.loads((tmp_path / "out/predict.json").read_text())["options"]["overlay"] == overlay


# ---- several processes, and large pictures ----


def predict_here(run: Path, photos: Path, out: Path) -> int:
    """In one of several processes."""
    return predict_images(run, photos, out, console=QUIET, device="cpu").count


@pytest.fixture
def twenty(tmp_path) -> Path:
    """More pictures than one process takes at a time; one of them is damaged."""
    rng = np.random.default_rng(0)
    (tmp_path / "twenty").mkdir()
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (24, 33, 3), np.uint8)).save(tmp_path / f"twenty/{number:02}.png")
    (tmp_path / "twenty/07.png").write_bytes(b"no picture")
    return tmp_path / "twenty"


def assert_alike(shared: Path, alone: Path) -> None:
    """But for the records, of which each of two processes has its own."""
    found, expected = (
        {name: content for name, content in contents(out).items() if not name.startswith(".")}
        for out in (shared, alone)
    )
    assert found == expected
    assert len(list(shared.glob(".done-*"))) == 2


def test_shares_of_two_processes_are_what_one_writes(run, twenty, tmp_path, monkeypatch):
    predict_images(run, twenty, tmp_path / "alone", console=QUIET)
    monkeypatch.setattr(segment, "world_size", lambda: 2)
    for rank in (1, 0):  # one after the other; the first process writes the table, of all
        monkeypatch.setattr(segment, "rank", lambda rank=rank: rank)
        failed = {twenty / "07.png": "of the first share"}
        monkeypatch.setattr(segment, "gathered", lambda found, patience, failed=failed: [found, (failed, 0)])
        predict_images(run, twenty, tmp_path / "shared", console=QUIET)
    assert_alike(tmp_path / "shared", tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_share_a_folder_and_write_what_one_writes(run, twenty, tmp_path):
    found = in_ranks(2, tmp_path / "group", predict_here, run, twenty, tmp_path / "shared")
    assert found == [19, 19], [file.read_text() for file in tmp_path.glob("group/*.txt")]
    predict_images(run, twenty, tmp_path / "alone", console=QUIET)
    assert_alike(tmp_path / "shared", tmp_path / "alone")


@pytest.mark.slow
def test_a_large_picture_takes_little_more_than_its_own_bytes(run, tmp_path):
    """Of 3,000 x 3,000 pixels; its logits alone, of the demo's classes, would be 36 MB times the classes."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)).save(tmp_path / "a.png")
    model, seen = load_model(run), []
    picture = in_memory(np.asarray(Image.open(tmp_path / "a.png")))
    asked = PredictOptions(window=256)

    def label() -> None:
        with torch.inference_mode():
            seen.extend((piece.rows.stop, piece.columns.stop) for piece in model.pieces([picture], asked))

    assert peak_bytes(label, torch.device("cpu")) < 80e6
    assert seen[-1] == (3000, 3000)
