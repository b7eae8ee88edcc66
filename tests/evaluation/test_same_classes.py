"""Classes that changed after the training: evaluation and loading refuse them by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.folders import opened, save_image, save_mask
from support.tiny_run import QUIET, tiny_config

from semiseg.cli.main import main
from semiseg.config.options import DataOptions
from semiseg.evaluation.model import load_model
from semiseg.evaluation.same_classes import check_same_classes, class_difference, class_record
from semiseg.evaluation.segment import predict_images
from semiseg.training.experiment import train
from semiseg.training.finished import evaluate

COLORS = {"road": (128, 64, 128), "sky": (70, 130, 180), "tree": (107, 142, 35)}
RECORD = {"names": [*COLORS], "colors": [list(color) for color in COLORS.values()]}

CHANGES = {
    "reordered": (
        ["sky", "road", "tree"],
        r"line 1, class 0, was 'road' and is 'sky'; the names are the same in another",
    ),
    "swapped at the end": (["road", "tree", "sky"], "line 2, class 1, was 'sky' and is 'tree'; the names are the same"),
    "renamed": (["road", "heaven", "tree"], r"line 2, class 1, was 'sky' and is 'heaven' \(3 classes then, 3 now\)"),
    "extended": (["road", "sky", "tree", "car"], r"line 4, class 3 \('car'\), was added \(3 classes then, 4 now\)"),
    "extended within": (["road", "car", "sky", "tree"], "line 2, class 1, was 'sky' and is 'car'"),
    "shortened": (["road", "sky"], r"line 3, class 2 \('tree'\), is gone \(3 classes then, 2 now\)"),
    "shortened within": (["road", "tree"], "line 2, class 1, was 'sky' and is 'tree'"),
}
RECOLORED = r"line 2, class 1 \('sky'\), had the colour 70 130 180 and has 1 2 3"


def lines(names: list[str], colors: dict) -> str:
    return "".join(f"{name} {' '.join(map(str, colors.get(name, (9, 9, 9))))}\n".strip() + "\n" for name in names)


def make_folder(root: Path, colored: bool) -> Path:
    """Images with masks of all three classes, as indices or in the classes' colours."""
    rng, table = np.random.default_rng(0), np.array([*COLORS.values()], np.uint8)
    for number in range(6):
        for part, pixels in {
            "images": rng.integers(0, 256, (32, 40, 3), np.uint8),
            "masks": table[np.resize([0, 1, 2], (32, 40))]
            if colored
            else np.resize([0, 1, 2], (32, 40)).astype(np.uint8),
        }.items():
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / f"{number}.png")
    Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(root / "images/u.png")
    (root / "classes.txt").write_text(lines([*COLORS], COLORS))
    return root


@pytest.fixture(scope="module", params=["index masks", "colour masks"])
def trained(request, tmp_path_factory) -> Path:
    """The folder above a dataset and a run on it."""
    folder = tmp_path_factory.mktemp("trained")
    data = DataOptions(root=make_folder(folder / "data", request.param == "colour masks"))
    train(tiny_config(folder / "run", "supervised", data=data, steps=1), console=QUIET)
    return folder


@pytest.fixture
def classes(trained):
    """The dataset's classes.txt, which is put back."""
    path = trained / "data/classes.txt"
    before = path.read_text()
    yield path
    path.write_text(before)


@pytest.mark.parametrize("change", CHANGES)
def test_evaluate_names_the_class_that_changed(trained, classes, change, capsys):
    names, why = CHANGES[change]
    classes.write_text(lines(names, COLORS))
    with pytest.raises(ValueError, match=rf"^the classes in .*classes\.txt are not those of the run in .*: {why}"):
        evaluate(trained / "run", console=QUIET)
    assert not list((trained / "run").glob("evaluation-*"))
    assert main(["evaluate", str(trained / "run")]) == 2
    assert "Put classes.txt back as it was" in capsys.readouterr().err


def test_evaluate_names_the_colour_that_changed(trained, classes):
    classes.write_text(lines([*COLORS], COLORS | {"sky": (1, 2, 3)}))
    with pytest.raises(ValueError, match=RECOLORED):
        evaluate(trained / "run", console=QUIET)


def test_evaluate_names_the_class_that_changed_in_a_file_without_colours(trained, classes):
    classes.write_text("road\nheaven\ntree\n")
    with pytest.raises(ValueError, match=CHANGES["renamed"][1]):
        evaluate(trained / "run", console=QUIET)
    classes.write_text("road\nsky\ntree\n")
    with pytest.raises(ValueError, match="colour"):
        evaluate(trained / "run", console=QUIET)


def test_evaluate_goes_on_where_nothing_changed(trained, classes):
    classes.write_text("# the classes\n" + lines([*COLORS], COLORS))
    scores = evaluate(trained / "run", console=QUIET)
    assert list(scores["linear"]["iou"]) == [*COLORS]
    for path in (trained / "run").glob("evaluation-*"):
        path.unlink()


def test_predict_has_the_classes_of_the_model_whatever_became_of_the_dataset(trained, classes, tmp_path):
    predict_images(trained / "run", trained / "data/images", tmp_path / "before", console=QUIET)
    classes.write_text(lines(["tree", "car"], {}))
    predict_images(trained / "run", trained / "data/images", tmp_path / "after", console=QUIET)
    for path in (tmp_path / "before/masks").iterdir():
        assert (tmp_path / "after/masks" / path.name).read_bytes() == path.read_bytes()
        assert Image.open(path).getpalette()[:9] == [value for color in COLORS.values() for value in color]
    model = load_model(trained / "run")
    assert (model.classes, model.colors) == (tuple(COLORS), tuple(COLORS.values()))


@pytest.mark.parametrize("change", [*CHANGES, "recolored"])
def test_a_model_whose_classes_were_changed_is_refused(trained, tmp_path, change):
    copied = Path(shutil.copytree(trained / "run/model", tmp_path / "run/model"))
    names, why = CHANGES.get(change, ([*COLORS], RECOLORED))
    about = json.loads((copied / "model.json").read_text())
    colors = COLORS | ({"sky": (1, 2, 3)} if change == "recolored" else {})
    about |= {"classes": names, "colors": [list(colors.get(name, (9, 9, 9))) for name in names]}
    (copied / "model.json").write_text(json.dumps(about))
    # Another number of them shows in the last layer's shape first.
    why = why if len(names) == 3 else r"does not hold weights of the network that model\.json describes: other shapes"
    for load in (lambda: load_model(tmp_path / "run"), lambda: predict(tmp_path)):
        with pytest.raises(ValueError, match=rf"model\.safetensors .*{why}"):
            load()


def predict(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    predict_images(folder / "run", folder / "a.png", folder / "out", console=QUIET)


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_told_in_both_directions(change):
    names, _ = CHANGES[change]
    other = {"names": names, "colors": [[0, 0, 0]] * len(names)}
    assert class_difference(RECORD, RECORD) is None
    assert class_difference(other, other) is None
    assert class_difference(RECORD, other) != class_difference(other, RECORD) is not None


@pytest.mark.parametrize(("old", "new"), [("\u00e9t\u00e9", "e\u0301te\u0301"), ("\u212b", "\u00c5")])
def test_names_that_look_the_same_are_told_by_their_code_points(old, new):
    records = [{"names": ["a", name], "colors": [[0, 0, 0], [1, 1, 1]]} for name in (old, new)]
    assert f"class 1, was {old!a} and is {new!a}" in class_difference(*records)
    assert "was 'été' and is 'hiver'" in class_difference(
        *({"names": [name, "b"], "colors": [[0, 0, 0], [1, 1, 1]]} for name in ("été", "hiver"))
    )


# What 255 means -------------------------------------------------------------------------------------------------------

ONES_AND_255 = {True: [0, 255], False: [0, 1, 255]}  # whether 255 is class 1 -> values of each mask
MEANING = {True: r"255 in masks was class 1 \('b'\), for they held only 0 and 255, and is ignored",
           False: r"255 in masks was ignored, and is class 1 \('b'\), for all hold only 0 and 255"}  # fmt: skip


def fill(root: Path, binary: bool) -> Path:
    for number in range(6):
        save_image(root / f"images/m{number}.png")
        save_mask(root / f"masks/m{number}.png", ONES_AND_255[binary])
    (root / "classes.txt").write_text("a\nb\n")
    save_image(root / "images/u.png")
    return root


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("saved", ["now", "of old", "none"])
def test_masks_in_which_255_means_something_else_are_refused(tmp_path, before, saved):
    dataset, other = (opened(fill(tmp_path / str(binary), binary)) for binary in (before, not before))
    assert (dataset.binary, other.binary) == (before, not before)
    record = class_record(dataset.classes, dataset.colors, dataset.binary if saved == "now" else None)
    record = None if saved == "none" else json.loads(json.dumps(record))
    check_same_classes(record, dataset, tmp_path)
    if saved != "now":
        check_same_classes(record, other, tmp_path)
        return
    with pytest.raises(
        ValueError, match=rf"the masks are not those of the run in .*: {MEANING[before]}.* class indices"
    ):
        check_same_classes(record, other, tmp_path)


@pytest.mark.parametrize("binary", ["yes", 1, None, []])
def test_a_saved_meaning_of_255_that_is_none_is_refused(tmp_path, binary):
    dataset = opened(fill(tmp_path, True))
    record = class_record(dataset.classes, dataset.colors) | {"binary": binary}
    with pytest.raises(ValueError, match="the saved classes are none: binary is"):
        check_same_classes(record, dataset, tmp_path)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_refuses_masks_in_which_255_means_something_else(tmp_path, before):
    data = DataOptions(root=fill(tmp_path / "data", before))
    config = tiny_config(tmp_path / "run", "supervised", data=data, steps=1)
    train(config, console=QUIET)
    evaluate(tmp_path / "run", console=QUIET)
    fill(tmp_path / "data", not before)
    with pytest.raises(ValueError, match=MEANING[before]):
        evaluate(tmp_path / "run", console=QUIET)
    (tmp_path / "run/result.json").unlink()
    with pytest.raises(ValueError, match=MEANING[before]):
        train(config, resume=True, console=QUIET)


@pytest.mark.parametrize(
    "saved",
    [{}, [], 5, {"names": ["a"]}, {"names": "a", "colors": "b"}, {"names": ["a"], "colors": []},
     {"names": [1], "colors": [[0, 0, 0]]}, {"names": ["a"], "colors": [[0, 0]]},
     {"names": ["a"], "colors": [[0, 0, None]]},
     {"names": ["a"], "colors": [7]}, {"names": None, "colors": None}],
)  # fmt: skip
def test_saved_classes_that_are_none_are_refused(saved):
    with pytest.raises(ValueError, match="the saved classes are none"):
        class_difference(saved, RECORD)
