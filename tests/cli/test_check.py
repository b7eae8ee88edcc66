"""`semiseg check` on the command line: exit status, JSON, the contact sheet, and the repair."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from support.own_folders import NAMES, mask, save, write

import semiseg
from semiseg.cli.main import main
from semiseg.report.contact_sheet import contact_sheet, sheet_colors


def ran(capsys, *words):
    status = main(["check", *map(str, words)])
    return status, capsys.readouterr().out


def binary(root):
    for seed, name in enumerate(NAMES):
        save(255 * mask(seed), root / f"masks/{name}.png")


def test_a_clean_folder_is_told_in_a_table_and_drawn(tmp_path, capsys):
    status, words = ran(capsys, write(tmp_path / "data"), "--out", tmp_path / "out")
    assert status == 0
    for part in ("images/ and masks/", "18, 12 of them with a mask", "all 64 x 48", "class_1", "validate    2: ", "6"):
        assert part in words
    assert "nothing is wrong" in words
    assert "warning" not in words
    with Image.open(tmp_path / "out/check.png") as sheet:
        assert sheet.width > 1000


def test_warnings_are_1_and_fix_takes_them_away(tmp_path, capsys):
    binary(write(tmp_path / "data"))
    out = ["--out", tmp_path / "out"]
    status, words = ran(capsys, tmp_path / "data", *out)
    assert status == 1
    assert "--fix writes data.yaml" in words
    status, words = ran(capsys, tmp_path / "data", *out, "--fix")
    assert status == 0
    assert "data.yaml" in words.splitlines()[0]


def test_errors_are_2_and_json_is_alone(tmp_path, capsys):
    write(tmp_path / "data")
    (tmp_path / "data/images/ash.jpg").write_bytes(b"")
    status, words = ran(capsys, tmp_path / "data", "--json", "--out", tmp_path / "out")
    document = json.loads(words)
    assert (status, document["exit_code"], document["contact_sheet"]) == (2, 2, None)
    assert [finding["files"] for finding in document["findings"] if finding["level"] == "error"] == [
        [str(tmp_path / "data/images/ash.jpg")]
    ]


def test_an_error_stops_a_training_before_anything_is_computed(tmp_path, capsys):
    write(tmp_path / "data")
    save(mask(0)[:20], tmp_path / "data/masks/ash.png")
    status = main(["train", "folder", "--data.root", str(tmp_path / "data"), "--run", str(tmp_path / "run")])
    assert status == 2
    assert "ash.png is 64 x 20, its image 64 x 48" in capsys.readouterr().err


def test_every_class_is_on_the_contact_sheet_and_the_background_is_not_tinted(tmp_path):
    write(tmp_path, classes=2)
    save(mask(5, 4), tmp_path / "masks/hazel.png")
    save(mask(5, 4), tmp_path / "masks/yew.png")
    (tmp_path / "classes.txt").write_text("background\nleaf\npest\nstone\n")
    found = semiseg.check(tmp_path)
    colors = sheet_colors(["background", "leaf", "pest", "stone"])
    assert colors[0] == (0, 0, 0)
    with Image.open(io.BytesIO(contact_sheet(found, most=4))) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)[60:]
    for color in colors[1:]:  # its outline is nearly of its colour
        assert (np.abs(pixels - color).max(-1) < 30).any()


@pytest.mark.parametrize("count", [2, 20, 21, 60])
def test_the_colours_of_classes_differ(count):
    colors = sheet_colors([f"kind {index}" for index in range(count)])
    assert len({*colors}) == count
