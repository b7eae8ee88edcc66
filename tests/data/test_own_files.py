"""What this program wrote among somebody's pictures is no picture of theirs, for every command that takes pictures."""

import pytest
from support.own_folders import LAYOUTS, mask, picture, save

from semiseg.analysis import own_pictures, suggest
from semiseg.config.options import DataOptions
from semiseg.data.doctor.examine import examine
from semiseg.data.layouts import find_layout
from semiseg.data.listing import picture_endings
from semiseg.data.passed_over import WRITTEN
from semiseg.evaluation import done, pictures
from semiseg.training import record

OURS = {
    "predict": ("predict.json", ["masks/a.png", "overlays/a.jpg", "confidence/in/a.png", "legend.png"]),
    "suggest": ("suggestions.csv", ["suggestions.png"]),
    "evaluate": ("evaluation.html", ["worst.png"]),
    "analyse": ("metrics.jsonl", ["analysis/scatter.png"]),
    "check": (None, ["semiseg-check/check.png"]),
}
PLACES = ["", "out", "deep/runs/a/b"]
FINDERS = {
    "images": lambda root: [root / (name + ending) for name, ending in picture_endings(root).items()],
    "predict": lambda root: [*pictures.find_pictures(root).values()],
    "pattern": lambda root: [*pictures.find_pictures(f"{root}/**/*").values()],
}


def plant(folder, command):
    tells, files = OURS[command]
    for file in files:
        save(picture(1), folder / file)
    if tells:
        (folder / tells).write_text("{}")


def test_the_rule_knows_what_the_commands_write():
    assert set(WRITTEN) == {done.PREDICT, suggest.TABLE, own_pictures.PAGE, record.METRICS}
    parts = (pictures.MASKS, pictures.OVERLAYS, pictures.CONFIDENCE, pictures.LEGEND)
    assert WRITTEN[done.PREDICT] == ("predict", parts)
    assert WRITTEN[suggest.TABLE] == ("suggest", (suggest.SHEET,))
    assert WRITTEN[own_pictures.PAGE] == ("evaluate", (own_pictures.SHEET,))


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", OURS)
def test_it_is_passed_over_with_a_word_and_pictures_beside_it_are_taken(tmp_path, caplog, command, place, find):
    for file in ("a.jpg", "masks/own.png", "out/x.png", "deep/runs/y.png"):
        if place or file != "masks/own.png":
            save(picture(2), tmp_path / file)
    before = sorted(FINDERS["images"](tmp_path))
    plant(tmp_path / place, command)
    assert sorted(set(find(tmp_path))) == before
    assert f"`semiseg {command}`" in caplog.text
    assert str((tmp_path / place / OURS[command][1][0]).parent) in caplog.text


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
def test_folders_of_the_same_names_without_the_file_that_tells_are_pictures(tmp_path, caplog, find):
    for command in ("predict", "suggest", "evaluate"):
        for file in OURS[command][1]:
            save(picture(1), (tmp_path / file).with_stem(f"{command}-{len(file)}"))
    assert len(set(find(tmp_path))) == 6
    assert caplog.text == ""


@pytest.mark.parametrize("find", [picture_endings, pictures.find_images, find_layout])
@pytest.mark.parametrize("part", ["masks", "overlays", "confidence", "confidence/in"])
def test_a_folder_of_predictions_that_is_named_itself_is_refused(tmp_path, find, part):
    plant(tmp_path, "predict")
    with pytest.raises(ValueError, match=rf"{part} was written by `semiseg predict`; expected pictures"):
        find(tmp_path / part)


def test_predictions_are_no_labels(tmp_path):
    save(picture(1), tmp_path / "images/a.jpg")
    save(mask(1), tmp_path / "masks/a.png")
    (tmp_path / "predict.json").write_text("{}")
    (finding,) = examine(DataOptions(root=tmp_path)).findings
    assert finding.level == "error"
    assert "masks was written by `semiseg predict`" in finding.words


@pytest.mark.parametrize("tells", ["metrics.jsonl", "plan.json"])
@pytest.mark.parametrize("find", [pictures.find_images, find_layout])
def test_a_run_folder_is_called_one(tmp_path, find, tells):
    (tmp_path / tells).write_text("{}")
    with pytest.raises(ValueError, match="is a run folder"):
        find(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_without_it(tmp_path, layout):
    root = tmp_path
    LAYOUTS[layout](root)
    before = find_layout(root)
    for command in OURS:
        plant(root / "out" / command, command)
    found = find_layout(root)
    assert (found.endings, found.masked, found.lists) == (before.endings, before.masked, before.lists)


def test_the_check_says_it_once(tmp_path):
    root = LAYOUTS["NAME_mask in one folder"](tmp_path)
    plant(root / "out", "predict")
    words = [finding.words for finding in examine(DataOptions(root=root)).findings]
    assert sum("`semiseg predict`" in each for each in words) == 1
