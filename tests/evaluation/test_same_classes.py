"""Classes that changed after the training: evaluation and loading refuse them by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_run import QUIET, tiny_config

from semiseg.cli.main import main
from semiseg.config.options import DataOptions
from semiseg.evaluation.model import load_model
from semiseg.evaluation.same_classes import class_difference
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
