"""The check of what is no dataset, or cannot be read in part: said in words that fit, with all that was read."""

import json
import shutil

import numpy as np
import pytest
from support.own_folders import NAMES, mask, save, write

from semiseg.cli.main import main
from semiseg.config.options import DataOptions
from semiseg.data.doctor import examine as doctor
from semiseg.data.doctor.examine import examine


def asked(capsys, root, *more):
    """Exit status and the JSON of `semiseg check`."""
    status = main(["check", str(root), "--json", "--out", str(root.parent / "sheet"), *more])
    return status, json.loads(capsys.readouterr().out)


def named(root, *names):
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))


def with_masks(root, change):
    for seed, name in enumerate(NAMES):
        save(change(mask(seed)), root / f"masks/{name}.png")


REFUSED = {
    # name: (what is done to a clean folder, kind, images that are still told)
    "0 and 255 beside three names": (
        lambda r: (named(r, "a", "b", "c"), with_masks(r, lambda made: 255 * made)), "one-class", 18,
    ),
    "nothing drawn in any": (
        lambda r: (named(r, "a", "b", "c"), with_masks(r, lambda made: np.full_like(made, 255))), "nothing-drawn", 18,
    ),
    "nothing drawn in validation": (
        lambda r: (
            (r / "val.txt").write_text("ash\n"), named(r, "a", "b", "c"),
            save(np.full_like(mask(0), 255), r / "masks/ash.png"),
        ),
        "nothing-drawn", 18,
    ),
    "one name": (lambda r: named(r, "a"), "classes-file", 18),
    "names in UTF-16": (lambda r: (r / "classes.txt").write_bytes(b"\xff\xfea\0"), "classes-file", 18),
    "broken data.yaml": (lambda r: (r / "data.yaml").write_text("classes: [a, b\n"), "classes-file", 18),
    "a list of other images": (lambda r: (r / "val.txt").write_text("nobody\n"), "lists", 18),
    "all validate": (lambda r: (r / "val.txt").write_text("\n".join(NAMES)), "no-masks", 18),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_whatever_stops_the_check_is_a_finding_beside_what_was_read(tmp_path, capsys, case):
    spoil, kind, images = REFUSED[case]
    spoil(write(tmp_path / "data"))
    status, found = asked(capsys, tmp_path / "data")
    assert (status, found["exit_code"]) == (2, 2)
    assert kind in [each["kind"] for each in found["findings"] if each["level"] == "error"]
    assert [each["count"] for each in found["images"]] == [images]
    assert len(found["masks"]) == 12


@pytest.mark.parametrize("where", ["values", "classes_of", "_opened"])
def test_an_error_in_any_check_is_a_finding(tmp_path, monkeypatch, where):
    def fails(*_):
        raise ValueError("the eleventh mask is odd")

    monkeypatch.setattr(doctor, where, fails)
    found = examine(DataOptions(root=write(tmp_path)))
    assert ("error", "the eleventh mask is odd") in [(each.level, each.words) for each in found.findings]
    assert (found.exit_code, len(found.images)) == (2, 18)


def test_an_error_of_the_contact_sheet_is_a_finding(tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise ValueError("the last mask is odd")

    monkeypatch.setattr("semiseg.report.contact_sheet.write_contact_sheet", fails)
    status, found = asked(capsys, write(tmp_path / "data"))
    assert (status, found["findings"][0]["words"]) == (2, "the last mask is odd")


@pytest.mark.parametrize("lost", [1, 18])
def test_pictures_that_cannot_be_read_have_no_size(tmp_path, lost):
    for path in sorted(write(tmp_path).glob("images/*"))[:lost]:
        path.write_bytes(b"")
    found = examine(DataOptions(root=tmp_path))
    table = "\n".join(found.table())
    assert "0 x 0" not in table
    assert "0 band" not in table
    assert f"18, 12 of them with a mask, {lost} cannot be read" in table
    assert [each["count"] for each in found.to_dict()["images"]] == ([18 - lost] if lost < 18 else [])
    assert found.to_dict()["not_read"] == lost


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "test"])
def test_the_folder_of_images_without_a_mask_is_named(tmp_path, name):
    write(tmp_path, "train/images/{}.jpg", "train/masks/{}.png", "unlabeled/{}.jpg", NAMES[:8])
    write(tmp_path, f"{name}/images/{{}}.jpg", f"{name}/masks/{{}}.png", None, NAMES[8:], 8)
    (tmp_path / f"{name}/masks/oak.png").unlink()
    (found,) = (each for each in examine(DataOptions(root=tmp_path)).findings if each.kind == "without-mask")
    assert f"in {tmp_path / name} have no mask, such as {name}/oak" in found.words


def test_masks_in_another_folder_are_named_where_all_validate(tmp_path):
    write(tmp_path, mask_at="labels/{}.png")
    (tmp_path / "val.txt").write_text("\n".join(NAMES))
    (found,) = (each for each in examine(DataOptions(root=tmp_path)).findings if each.kind == "no-masks")
    assert str(tmp_path / "labels") in found.words
    assert "masks/" not in found.words


# What is no dataset


GIVEN = {
    "no such": ((), "there is no"),
    "plan": (("plan.json", "recipe.yaml"), "the run of `semiseg train FOLDER`"),
    "run": (("config.yaml", "metrics.jsonl"), "a run folder"),
    "finished run": (("config.yaml", "result.json"), "a run folder"),
    "model": (("model.json", "model.safetensors"), "a model"),
    "predictions": (("predict.json", "areas.csv"), "a folder of predictions"),
}


@pytest.mark.parametrize("what", GIVEN)
def test_the_check_says_what_was_given_and_what_was_expected(tmp_path, capsys, what):
    names, words = GIVEN[what]
    for name in names:
        (tmp_path / "given").mkdir(exist_ok=True)
        (tmp_path / "given" / name).write_text("{}")
    status, found = asked(capsys, tmp_path / "given")
    (finding,) = found["findings"]
    assert (status, finding["kind"]) == (2, "layout")
    assert words in finding["words"]
    assert "expected a folder of images and masks" in finding["words"]
    assert str(tmp_path / "given") in finding["words"]


@pytest.mark.parametrize("name", ["ash.jpg", "notes.txt"])
def test_a_file_is_called_one_and_its_folder_is_named(tmp_path, capsys, name):
    shutil.copy(write(tmp_path / "data") / "images/ash.jpg", tmp_path / name)
    status, found = asked(capsys, tmp_path / name)
    assert status == 2
    assert f"{tmp_path / name} is a file; expected a folder" in found["findings"][0]["words"]
    assert f"such as {tmp_path}" in found["findings"][0]["words"]


BESIDE = [("images/{}.jpg", "masks/{}.png"), ("{}.jpg", "{}_mask.png"), ("{}.jpg", "gt/{}.png")]


@pytest.mark.parametrize("paths", BESIDE)
@pytest.mark.parametrize("file", ["predict.json", "suggestions.csv", "scores.json"])
def test_what_semiseg_wrote_into_a_dataset_does_not_hide_it(tmp_path, paths, file):
    """But masks/ beside predict.json would be predictions, taken for labels."""
    (write(tmp_path, *paths, paths[0]) / file).write_text("{}")
    found = examine(DataOptions(root=tmp_path))
    if file == "predict.json" and paths == BESIDE[0]:
        assert found.exit_code == 2
        assert f"{tmp_path / 'masks'} was written by `semiseg predict`" in found.findings[0].words
    else:
        assert found.exit_code == 0
