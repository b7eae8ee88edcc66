"""Predicting pictures of which some are damaged, hostile, or in the way."""

import errno
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.models import untrained_run

from semiseg.cli.main import main
from semiseg.evaluation.model import Model
from semiseg.evaluation.segment import predict_images

QUIET = Console(quiet=True)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("run"))


def picture(path: Path, height: int = 32, width: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (32, 40, 3), np.uint8)).save(file, form)
    return file.getvalue()


DAMAGED = {
    "empty.png": b"", "cut.png": encoded("PNG")[:400], "cut.jpg": encoded("JPEG")[:500], "text.jpg": b"no picture",
    "page.png": b"<html><script>alert(1)</script></html>", "zeros.tif": bytes(1000),
    "flipped.png": encoded("PNG")[:200] + b"\xff" * 300 + encoded("PNG")[500:],
}  # fmt: skip


def written(out: Path) -> set[str]:
    """Files of pictures, without those of the whole prediction."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir() and path.parent != out}


def of(*names: str) -> set[str]:
    parts = {"masks": "png", "overlays": "jpg", "confidence": "png"}
    return {f"{part}/{name}.{ending}" for name in names for part, ending in parts.items()}


def test_damaged_pictures_are_named_at_the_end_and_the_others_are_done(run, tmp_path, capsys):
    for name in ("a.png", "m.jpg", "z.png"):
        picture(tmp_path / "in" / name)
    for number, (name, content) in enumerate(DAMAGED.items()):
        (tmp_path / "in" / f"bad{number}-{name}").write_bytes(content)
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in/folder.png").mkdir()
    (tmp_path / "in/notes.txt").write_text("no picture")
    assert main(["predict", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert shown.out.endswith(f"3 masks in {tmp_path / 'out/masks'}\n")
    first, *others = shown.err.strip().splitlines()
    assert first == f"semiseg: {len(DAMAGED) + 2} of {len(DAMAGED) + 5} images were left out:"
    bad = sorted([*(f"bad{number}-{name}" for number, name in enumerate(DAMAGED)), "link.png", "pipe.png"])
    assert len(others) == len(bad)
    for line, name in zip(others, bad, strict=True):
        assert str(tmp_path / "in" / name) in line
    assert written(tmp_path / "out") == of("a", "m", "z")


@pytest.mark.parametrize("names", [["cut.png"], [*DAMAGED]])
def test_where_nothing_can_be_read_the_status_is_two(run, tmp_path, capsys, names):
    for number, name in enumerate(names):
        path = tmp_path / "in" / f"{number}-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DAMAGED[name])
    assert main(["predict", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("semiseg: error: ")
    assert message.count("\n") == 1
    assert len(names) == 1 or f"none of the {len(names)} pictures in {tmp_path / 'in'} can be predicted: " in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 2), (3, 65_501), (3, 65_500)])
def test_a_picture_longer_than_jpeg_takes_has_an_overlay_of_another_format(run, tmp_path, size):
    picture(tmp_path / "in/long.png", *size)
    assert predict_images(run, tmp_path / "in", tmp_path / "out", window=512, console=QUIET).failed == {}
    ending = "png" if max(size) > 65_500 else "jpg"
    assert written(tmp_path / "out") == {"masks/long.png", f"overlays/long.{ending}", "confidence/long.png"}
    for path in map((tmp_path / "out").joinpath, written(tmp_path / "out")):
        assert Image.open(path).size == size[::-1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory\nTried to"), ValueError("no size")])
def test_a_picture_that_the_network_cannot_take_is_left_out(run, tmp_path, monkeypatch, error):
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/b.png", 33, 41)
    pieces = Model.pieces

    def refusing(model, pictures, asked):
        if pictures[0].height == 33:
            raise error
        return pieces(model, pictures, asked)

    monkeypatch.setattr(Model, "pieces", refusing)
    failed = predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET).failed
    (reason,) = failed.values()
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/in/b\.png: (MemoryError|CUDA out of memory|no size)", reason)
    assert written(tmp_path / "out") == of("a")


# ---- what is written ----


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("write", range(1, 8))  # the first is predict.json
def test_where_it_is_stopped_only_whole_files_are_left(run, tmp_path, monkeypatch, stop, write):
    """At the moment of the n-th write, with all bytes written and the name not yet given."""
    for name in ("a", "b"):
        picture(tmp_path / f"in/{name}.png")
    calls, fsync = [], os.fsync

    def stopping(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == write:
            raise stop
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", stopping)
    with pytest.raises(type(stop)):
        predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)
    whole = written(tmp_path / "out")
    assert len(whole) <= max(write - 2, 0)  # as many, where one thread writes
    for name in whole:
        Image.open(tmp_path / "out" / name).load()
    for name in ("a", "b"):
        assert f"masks/{name}.png" not in whole or of(name) <= whole  # a mask stands for all three


@pytest.mark.parametrize("name", sorted(of("a")))
@pytest.mark.parametrize("target", ["file", "nothing"])
def test_a_planted_link_is_replaced_and_not_followed(run, tmp_path, name, target):
    picture(tmp_path / "in/a.png")
    victim = tmp_path / "victim"
    if target == "file":
        victim.write_bytes(b"mine")
    planted = tmp_path / "out" / name
    planted.parent.mkdir(parents=True)
    (tmp_path / "out/confidence").mkdir(exist_ok=True)
    planted.symlink_to(victim)
    predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)
    assert not planted.is_symlink()
    assert Image.open(planted).size == (40, 32)
    assert victim.read_bytes() == b"mine" if target == "file" else not victim.exists()


@pytest.mark.parametrize("part", ["masks", "confidence", "overlays"])
@pytest.mark.parametrize("how", ["file", "linked file", "linked folder"])
def test_a_picture_to_predict_is_never_written_over(run, tmp_path, part, how):
    out = tmp_path / "out"
    source = picture(out / part / "a.png")
    (out / "confidence").mkdir(exist_ok=True)
    before = source.read_bytes()
    if how == "linked file":
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.png").symlink_to(source)
        source = tmp_path / "in/a.png"
    if how == "linked folder":
        (tmp_path / "in").symlink_to(out / part)
        source = tmp_path / "in/a.png"
    with pytest.raises(ValueError, match=r"would be written over the picture .*a\.png: choose another --out"):
        predict_images(run, source, out, console=QUIET)
    assert (out / part / "a.png").read_bytes() == before
    assert written(out) == {f"{part}/a.png"}


def test_the_masks_of_a_dataset_are_never_written_over(run, tmp_path):
    picture(tmp_path / "images/a.png")
    before = picture(tmp_path / "masks/a.png").read_bytes()
    with pytest.raises(ValueError, match="masks holds files that `semiseg predict` did not write"):
        predict_images(run, tmp_path / "images", tmp_path, console=QUIET)
    assert (tmp_path / "masks/a.png").read_bytes() == before


@pytest.mark.parametrize(("one", "other"), [("a.jpg", "a.png"), ("A/b.png", "A/b.PNG"), ("a.b.tif", "a.b.jpeg")])
def test_two_pictures_of_one_name_are_refused_before_the_first_is_read(run, tmp_path, one, other):
    for name in ("0.png", one, other):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"never read")
    with pytest.raises(ValueError, match="differ in their suffix only and would both become"):
        predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)


# ---- folders ----


def test_linked_folders_are_followed(run, tmp_path):
    picture(tmp_path / "elsewhere/deep/b.png")
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)
    assert written(tmp_path / "out") == of("a", "linked/deep/b")


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_that_leads_back_is_refused(run, tmp_path, target):
    picture(tmp_path / "in/one/two/a.png")
    (tmp_path / "in/one/two/back").symlink_to(target)
    with pytest.raises(ValueError, match="is a folder that it lies in itself, by a link: remove the link"):
        predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)


@pytest.fixture(params=[(1200, "d"), (20, "d" * 250)])
def deep(request, tmp_path):
    """Folders in one another, so many, or of so many characters. Python's own way to remove them would recurse."""
    before, (depth, name) = Path.cwd(), request.param
    (tmp_path / "in").mkdir()
    os.chdir(tmp_path / "in")
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    yield depth
    for _ in range(depth):
        os.chdir("..")
        os.rmdir(name)
    os.chdir(before)


def test_nested_folders_are_no_recursion_and_a_path_too_long_is_named(run, tmp_path, deep):
    picture(tmp_path / "in/a.png")
    if deep == 1200:
        assert predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET).count == 1
    else:
        with pytest.raises(ValueError, match=r"the folder .*d cannot be read \(File name too long\)"):
            predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET)


# ---- names ----

HOSTILE = [
    "=cmd()|calc.png", "[red]bold[red].png", "\x1b[31mred.png", "\x1b]0;title\x07.png", "<script>alert(1)<_script>.png",
    "a\nsemiseg: error: forged.png", "gpj.\u202eexe.png", "{{7*7}}.png", "%s%n.png", "$(touch x);`touch y`.png",
    "-rf.png", os.fsdecode(b"caf\xe9.png"),
]  # fmt: skip


def test_hostile_names_are_inert(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in/fine.png")
    for name in HOSTILE:
        (tmp_path / "in" / name).write_bytes(b"no picture")
    assert main(["predict", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert len(shown.err.strip().splitlines()) == 1 + len(HOSTILE)
    for name in (
        "=cmd()|calc.png",
        "[red]bold[red].png",
        r"\x1b[31mred.png",
        r"a\nsemiseg: error: forged.png",
        r"caf\xe9",
    ):
        assert name in shown.err
    assert written(tmp_path / "out") == of("fine")


def test_hostile_names_are_file_names_of_what_is_predicted(run, tmp_path):
    for name in HOSTILE:
        picture(tmp_path / "in" / name)
    assert predict_images(run, tmp_path / "in", tmp_path / "out", console=QUIET).count == len(HOSTILE)
    assert written(tmp_path / "out") == of(*(name.removesuffix(".png") for name in HOSTILE))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("stride", [0, -1, 9])
def test_a_stride_that_is_none_is_refused(run, tmp_path, stride):
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"stride is {stride}\b.*; expected [01] <=? stride"):
        predict_images(run, tmp_path / "a.png", tmp_path / "out", window=8, stride=stride, console=QUIET)
