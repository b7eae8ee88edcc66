"""`semiseg train FOLDER` and its data: test images stay apart, changes are told, and what no mask shows is said."""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.examined import CLASSES, TINY, drawn_folder
from support.tiny_run import QUIET

from semiseg.config.options import DataOptions
from semiseg.data import images, open_dataset
from semiseg.data import masks as masks_module
from semiseg.data.damage import require_whole
from semiseg.data.doctor import looks
from semiseg.data.doctor.examine import examine
from semiseg.evaluation.hidden import hidden_pool
from semiseg.evaluation.statistics import paired_interval
from semiseg.studies.own import begin
from semiseg.studies.own.begin import train_folder
from semiseg.studies.own.facts import facts_of
from semiseg.studies.own.folds import Fold
from semiseg.studies.own.page import scores
from semiseg.studies.own.state import differences, open_unscaled, state_of, unlearnt
from semiseg.studies.own.trainings import in_folds, last_training, read_plan
from semiseg.studies.own.verdict import Scored, Verdict, as_dict, sentences
from semiseg.training.finished import evaluate


def planned(root, run, monkeypatch, **options):
    """The plan, without its trainings."""
    monkeypatch.setattr("semiseg.studies.own.run.run_plan", lambda *_: None)
    train_folder(root, {**TINY, "run": str(run), **options}, console=QUIET)
    return read_plan(run)


def masks(root):
    return sorted((root / "masks").rglob("*.png"))


def blank(path):
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)


# Test images ----------------------------------------------------------------------------------------------------------


def within(root):
    """images/{train,test} and masks/{train,test}."""
    for number, part in enumerate(("train", "test")):
        part_of = drawn_folder(root.with_name(f"{root.name}-{part}"), masks=5 - 2 * number, images=7, seed=number)
        for kind in ("images", "masks"):
            shutil.copytree(part_of / kind, root / kind / part)
    return root


def beside(root):
    """train/ and test/, each with images/ and masks/."""
    for number, part in enumerate(("train", "test")):
        drawn_folder(root / part, masks=5 - 2 * number, images=7, seed=number)
        (root / part / "classes.txt").unlink()
    return root


def listed(root):
    """test.txt."""
    drawn_folder(root, masks=8, images=11)
    (root / "test.txt").write_text("".join(f"{path.stem}\n" for path in masks(root)[:3]))
    return root


@pytest.mark.parametrize("layout", [within, beside, listed])
def test_no_training_of_a_folded_plan_sees_a_test_image(layout, tmp_path, monkeypatch):
    root = layout(tmp_path / "data")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    plan = planned(root, tmp_path / "run", monkeypatch)
    split = examine(plan.config.data, console=QUIET).split
    tested = set(split["test"])
    assert (len(tested), len(plan.folds)) == (3, 3)
    last = last_training(plan, tmp_path / "run", "method")
    for training in [*(method for method, _ in in_folds(plan, tmp_path / "run")), last]:
        found = examine(training.config.data, console=QUIET).split
        assert set(found["test"]) == tested
        assert set(found["unlabeled"]) == set(split["unlabeled"])
        assert not tested & {*found["labeled"], *found["val"]}


@pytest.mark.parametrize("layout", [within, beside])
def test_a_list_for_validation_leaves_the_folder_test_its_images(layout, tmp_path):
    root = layout(tmp_path / "data")
    one = examine(DataOptions(root=root), console=QUIET).split
    (root / "val.txt").write_text(f"{one['labeled'][0]}\n")
    two = examine(DataOptions(root=root), console=QUIET).split
    assert two["val"] == one["labeled"][:1]
    assert two["test"] == one["test"] != ()
    assert two["unlabeled"] == one["unlabeled"]
    (root / "val.txt").write_text("".join(f"{id_}\n" for id_ in one["test"]))  # the folder's images validate, then
    three = examine(DataOptions(root=root), console=QUIET).split
    assert (set(three["val"]), "test" in three) == (set(one["test"]), False)


def test_images_in_the_folder_test_that_the_test_list_leaves_out_are_in_no_list_and_told(tmp_path):
    root = within(tmp_path / "data")
    tested = examine(DataOptions(root=root), console=QUIET).split["test"]
    (root / "test.txt").write_text(f"{tested[0]}\n")
    found = examine(DataOptions(root=root), console=QUIET)
    assert found.split["test"] == tested[:1]
    assert not {*tested[1:]} & {id_ for ids in found.split.values() for id_ in ids}
    assert any("2 image(s) in the folder test/" in finding.words for finding in found.findings)


# Data that changed ----------------------------------------------------------------------------------------------------


def invert(root):
    path = masks(root)[0]
    Image.fromarray(2 - np.asarray(Image.open(path))).save(path)


def other_picture(root):
    path = root / "images" / masks(root)[0].name
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def other_unlabelled(root):
    masked = {path.name for path in masks(root)}
    path = next(path for path in sorted((root / "images").iterdir()) if path.name not in masked)
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def grey_levels(root):
    (root / "classes.txt").unlink()
    (root / "data.yaml").write_text("classes: [field, disc, bar]\nvalues: {0: field, 1: bar, 2: disc}\n")


def more_unlabelled(root):
    Image.fromarray(np.full((48, 64, 3), 9, np.uint8)).save(root / "images/new.png")


CHANGES = {
    "another mask": (invert, r"1 image\(s\) have another mask"),
    "another picture": (other_picture, r"1 image\(s\) are other pictures of the same name"),
    "a mask gone": (lambda root: masks(root)[0].unlink(), r"are not any more.*unlabelled images are others \(3 .* 4"),
    "classes": (lambda root: (root / "classes.txt").write_text("disc\nfield\nbar\n"), "were field, disc, bar and are"),
    "colours": (lambda root: (root / "classes.txt").write_text("field 9 9 9\ndisc 8 8 8\nbar 7 7 7\n"), "the colours"),
    "values in data.yaml": (grey_levels, r"6 image\(s\) have another mask"),
    "a test list": (lambda root: (root / "test.txt").write_text(masks(root)[0].stem), r"list\(s\) .*test"),
    "another unlabelled picture": (other_unlabelled, r"\(3 then, 3 now\)"),
    "an image more": (more_unlabelled, r"\(3 then, 4 now\)"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [False, True])
def test_data_that_changed_are_refused_before_anything_is_trained(change, finished, tmp_path, monkeypatch):
    root, (make, words) = drawn_folder(tmp_path / "discs", masks=6, images=9), CHANGES[change]
    planned(root, tmp_path / "run", monkeypatch)
    if finished:
        (tmp_path / "run/verdict.json").write_text("{}")
    monkeypatch.setattr("semiseg.studies.own.run.run_plan", None)
    make(root)
    with pytest.raises(ValueError, match=f"has changed since.*{words}"):
        train_folder(root, {**TINY, "run": str(tmp_path / "run")}, resume=True, console=QUIET)


def test_what_was_copied_or_touched_is_the_same(tmp_path):
    root = drawn_folder(tmp_path / "discs", masks=6, images=9)
    before = json.loads(json.dumps(state_of(open_unscaled(DataOptions(root=root)))))
    for path in [*root.rglob("*.png")]:
        os.utime(path, (1, 1))
    Image.open(masks(root)[0]).save(masks(root)[0], compress_level=0)  # other bytes, the same mask
    shutil.copytree(root, tmp_path / "copy")
    assert differences(before, state_of(open_unscaled(DataOptions(root=tmp_path / "copy")))) == []


def test_beside_damaged_files_that_are_left_out_every_picture_is_known_by_its_content(tmp_path):
    root = drawn_folder(tmp_path / "discs", masks=8, images=11)
    options = DataOptions(root=root, on_error="skip")
    damaged = examine(options, console=QUIET).split["labeled"][0]
    (root / f"images/{damaged}.png").write_bytes(b"no picture")
    before = state_of(open_unscaled(options))
    assert damaged not in before["masks"]
    for id_ in before["lists"]["labeled"]:
        read = (root / f"images/{id_}.png").read_bytes()
        assert before["masks"][id_]["picture"] == hashlib.sha256(read).hexdigest()[:24]
        assert before["masks"][id_]["classes"] == np.unique(Image.open(root / f"masks/{id_}.png")).tolist()


def test_of_very_many_unlabelled_pictures_none_is_read_and_the_time_of_change_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("semiseg.studies.own.state.MOST_READ", 2)
    root = drawn_folder(tmp_path / "discs", masks=6, images=9)
    before = state_of(open_unscaled(DataOptions(root=root)))
    assert differences(before, state_of(open_unscaled(DataOptions(root=root)))) == []
    for path in masks(root):
        os.utime(root / "images" / path.name, (1, 1))  # of those with masks the content counts
    assert differences(before, state_of(open_unscaled(DataOptions(root=root)))) == []
    other_unlabelled(root)
    assert "(3 then, 3 now)" in differences(before, state_of(open_unscaled(DataOptions(root=root))))[0]


def test_until_the_first_training_a_picture_is_decoded_once_and_its_files_are_known_to_be_whole(tmp_path, monkeypatch):
    root, decoded = drawn_folder(tmp_path / "discs", masks=6, images=9), Counter()
    decode = images.decoded

    def counting(path, *given):
        decoded[Path(path).relative_to(root).parts[0]] += 1
        return decode(path, *given)

    for module in (images, masks_module, looks):
        monkeypatch.setattr(module, "decoded", counting)
    plan = planned(root, tmp_path / "run", monkeypatch)
    assert decoded["images"] == 9
    assert decoded["masks"] <= 6 * 5  # looked at, split by, held against their pictures, measured and hashed
    require_whole(open_dataset(replace(plan.config.data, cache="off")), QUIET)
    assert decoded["images"] == 9


def test_a_plan_of_an_older_version_goes_on_and_says_that_it_cannot_know(tmp_path, monkeypatch, capsys):
    root, run, said = drawn_folder(tmp_path / "discs", masks=6, images=9), tmp_path / "run", []
    planned(root, run, monkeypatch)
    document = json.loads((run / "plan.json").read_text())
    del document["data"]
    (run / "plan.json").write_text(json.dumps(document))
    monkeypatch.setattr(begin, "say", lambda _, line: said.append(line))
    train_folder(root, {**TINY, "run": str(run)}, resume=True, console=QUIET)
    assert any("not known" in line for line in said)


# What no mask shows ---------------------------------------------------------------------------------------------------


def test_a_class_that_no_labelled_mask_of_a_fold_shows_is_named_with_the_fold(tmp_path, monkeypatch):
    root = drawn_folder(tmp_path / "discs", masks=5, images=7)
    for path in masks(root)[1:]:
        Image.fromarray(np.asarray(Image.open(path)) % 2).save(path)  # bars, class 2, in one mask alone
    plan = planned(root, tmp_path / "run", monkeypatch)
    alone = masks(root)[0].stem
    number = next(n for n, fold in enumerate(plan.folds, 1) if alone in fold.val)
    assert unlearnt(plan.folds, plan.details["data"]) == {"bar": (number,)}
    assert f"No labelled mask of fold {number} shows bar" in " ".join(plan.lines)


def test_without_folds_the_lists_of_the_split_are_looked_at():
    state = {
        "classes": [["a", []], ["b", []], ["c", []]],
        "lists": {"labeled": ["x"], "val": ["y"]},
        "masks": {"x": {"classes": [0, 2]}, "y": {"classes": [0, 1]}},
    }
    assert unlearnt((), state) == {"b": ()}
    assert unlearnt((Fold(("y",), ("x",)), Fold(("x",), ("y",))), state) == {"c": (1,), "b": (2,)}


@pytest.mark.parametrize("compared", [True, False])
@pytest.mark.parametrize(("folds", "where"), [((2,), " of fold 2"), ((1, 3), " of folds 1, 3"), ((), "")])
def test_the_verdict_says_beside_the_score_that_it_is_of_models_that_never_saw_the_class(compared, folds, where):
    side = Scored(("m",), np.eye(2, dtype=np.int64)[None], (50.0, 50.0, 50.0))
    interval = paired_interval(side.counts[None], side.counts[None], draws=5)
    verdict = Verdict(("a", "b"), side, unlearnt={"b": folds})
    verdict = replace(verdict, baseline=side, interval=interval) if compared else verdict
    there = " there" if folds else ""
    words = f"No labelled mask{where} shows b: its score{there} is of models that never saw it, and counts in the mean."
    assert words in sentences(verdict)
    found = as_dict(verdict, "final")
    assert found["unlearnt_classes"] == {"b": list(folds)}
    assert words in found["words"]
    assert list(scores(verdict).columns[0].cells)[:2] == ["a", f"b (unseen by the models{where})"]


@pytest.mark.slow
def test_a_mask_without_a_labelled_pixel_stops_no_fold_and_the_test_images_are_scored(tmp_path):
    root, run = within(tmp_path / "data"), tmp_path / "run"
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    blank(masks(root)[-1])
    train_folder(root, {**TINY, "run": str(run), "method": "supervised"}, console=QUIET)
    verdict = json.loads((run / "verdict.json").read_text())
    assert len(verdict["images"]) == 4
    assert evaluate(run, subset="test", console=QUIET)["subset"] == "test"


@pytest.mark.parametrize("empty", [1, 3])
def test_masks_without_a_labelled_pixel_are_in_no_fold_and_named(empty, tmp_path, monkeypatch):
    root = drawn_folder(tmp_path / "discs", masks=5, images=7)
    for path in masks(root)[:empty]:
        blank(path)
    plan = planned(root, tmp_path / "run", monkeypatch)
    assert sorted(id_ for fold in plan.folds for id_ in fold.val) == [path.stem for path in masks(root)[empty:]]
    assert f"{empty} without a labelled pixel ({masks(root)[0].stem}" in dict(plan.reasons)["left out"]


def test_an_automatic_split_never_validates_on_empty_masks_alone(tmp_path):
    root = drawn_folder(tmp_path / "discs", masks=5, images=7)
    for path in masks(root)[:3]:
        blank(path)
    shown = {path.stem for path in masks(root)[3:]}
    for seed in range(8):
        assert {*examine(DataOptions(root=root, split_seed=seed), console=QUIET).split["val"]} & shown


def test_a_single_mask_with_a_labelled_pixel_is_refused(tmp_path):
    root = drawn_folder(tmp_path / "discs", masks=4, images=7)
    for path in masks(root)[1:]:
        blank(path)
    with pytest.raises(ValueError, match="labelled pixel"):
        train_folder(root, {**TINY, "run": str(tmp_path / "run")}, console=QUIET)


def test_a_picture_without_data_has_no_labelled_pixel(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    root = drawn_folder(tmp_path / "discs", masks=5, images=7)
    for number, path in enumerate(sorted((root / "images").iterdir())):
        pixels = np.asarray(Image.open(path)).astype(np.float32)[..., [0, 1, 2, 0]]
        path.unlink()
        nothing = path.stem == masks(root)[0].stem
        tifffile.imwrite(
            path.with_suffix(".tif"),
            pixels * np.nan if nothing else pixels + number,
            photometric="minisblack",
            planarconfig="contig",
        )
    found = examine(DataOptions(root=root, scale=0.5), console=QUIET)
    facts = facts_of(found, open_unscaled(found.options))
    empty = masks(root)[0].stem
    assert [id_ for id_ in facts.masks if not facts.present[id_]] == [empty]
    names = [path.stem for path in masks(root)]
    (root / "labeled.txt").write_text("\n".join(names[1:3]))
    (root / "val.txt").write_text(names[3])
    hidden = hidden_pool(open_dataset(DataOptions(root=root, labeled="labeled.txt")), 16)  # scores pseudo-labels
    assert hidden is not None
    assert list(hidden.names) == names[4:]


# Where it is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["images", "masks/deeper/run", "unlabeled/run", "."])
def test_a_run_among_pictures_or_masks_is_refused_and_nothing_is_left(inside, tmp_path):
    root = drawn_folder(tmp_path / "discs", masks=5, images=7)
    (root / "unlabeled").mkdir()
    Image.fromarray(np.full((48, 64, 3), 9, np.uint8)).save(root / "unlabeled/new.png")
    before = {path for path in root.rglob("[!.]*") if path.is_file()}
    with pytest.raises(ValueError, match="is among the pictures or masks"):
        train_folder(root, {**TINY, "run": str(root / inside)}, console=QUIET)
    assert {path for path in root.rglob("[!.]*") if path.is_file()} == before
