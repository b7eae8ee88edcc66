"""Table 5 and Fig. 2, 4 and 5 of finished runs: the same pixels for all, held against whole maps, and refusals."""

import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_run import QUIET, tiny_config, train_quietly
from torch.nn import functional as F

import semiseg
from semiseg.analysis import discriminate, embed, picture
from semiseg.analysis.embedding import class_numbers, to_plane
from semiseg.analysis.features import choose_pixels, pixel_features
from semiseg.analysis.scatter import SAFE, readable
from semiseg.cli.main import main
from semiseg.config.options import DataOptions, SceneOptions
from semiseg.config.recipe import save_config
from semiseg.data.dataset import ImageSet, palette
from semiseg.data.loading import whole_images
from semiseg.data.sets.scenes import CLASSES
from semiseg.runtime.files import plain
from semiseg.training.finished import load_run
from semiseg.types import IGNORE


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = [folder / "supervised", folder / "prototype"]
    for run in made:
        train_quietly(tiny_config(run, run.name))
    return made


class Masks(ImageSet):
    """Images of which only the masks are asked for."""

    def __init__(self, masks):
        self.masks, self.name, self.names, self.has_masks = masks, "val", [str(i) for i in range(len(masks))], True

    def image(self, index):
        raise AssertionError("no image is read to choose pixels")

    def mask(self, index):
        return self.masks[index]


def masks(seed=0, count=5):
    """Class 2 in one image alone, class 3 nowhere, and an image without a label."""
    rng = np.random.default_rng(seed)
    made = [rng.choice([0, 1, IGNORE], (7, 9), p=[0.6, 0.3, 0.1]).astype(np.uint8) for _ in range(count)]
    made[3][2:4, 2:5] = 2
    made[1][:] = IGNORE
    return made


def chosen(choice, made):
    """(image, row, column) of all chosen pixels, by class."""
    found = {}
    for index in choice.images():
        places, classes = choice.pixels(index, torch.from_numpy(made[index].astype(np.int64)))
        for place, number in zip(places.tolist(), classes.tolist(), strict=True):
            assert made[index][tuple(place)] == number
            found.setdefault(number, []).append((index, *place))
    return found


# Pixels and their features --------------------------------------------------------------------------------------------


def test_without_a_limit_every_labelled_pixel_is_chosen_once():
    made = masks()
    found = chosen(choose_pixels(Masks(made), 4, None, 0), made)
    for number in range(3):
        every = [(i, *place) for i in range(5) for place in np.argwhere(made[i] == number).tolist()]
        assert sorted(found[number]) == every
    assert set(found) == {0, 1, 2}


def test_a_limit_holds_for_each_class_and_a_seed_draws_the_same():
    made = masks()
    choice = choose_pixels(Masks(made), 4, 10, 5)
    found = chosen(choice, made)
    assert {number: len(set(places)) for number, places in found.items()} == {0: 10, 1: 10, 2: 6}
    assert choice.chosen.tolist() == [10, 10, 6, 0]
    assert choice.total.tolist() == [sum(int((mask == number).sum()) for mask in made) for number in range(4)]
    assert chosen(choose_pixels(Masks(made), 4, 10, 5), made) == found
    assert chosen(choose_pixels(Masks(made), 4, 10, 6), made) != found
    assert chosen(choose_pixels(Masks(made), 4, 10, 5, [1]), made) == {1: found[1]}


def test_every_pixel_of_a_class_is_as_likely_wherever_it_lies():
    made = [np.zeros((1, 2), np.uint8), np.zeros((2, 5), np.uint8)]
    draws = [chosen(choose_pixels(Masks(made), 1, 3, seed), made)[0] for seed in range(600)]
    counts = {}
    for place in (place for draw in draws for place in draw):
        counts[place] = counts.get(place, 0) + 1
    assert len(counts) == 12
    assert all(abs(count - 150) < 5 * 150**0.5 for count in counts.values())


def test_no_labelled_pixel_is_told():
    with pytest.raises(ValueError, match="the 2 val images have no labelled pixel to look at: all are 255"):
        choose_pixels(Masks([np.full((3, 3), IGNORE, np.uint8)] * 2), 4, None, 0)


def whole_map_features(run, images):
    """Features (N, D) and classes (N,) of every labelled pixel, from maps that are upsampled to the image."""
    experiment = load_run(run, "last")
    network, features, classes = experiment.method.predictor.segmentor.eval(), [], []
    for _, image, label in whole_images(images):
        with torch.no_grad():
            small = network(image).features
        large = F.interpolate(small, label.shape, mode="bilinear", align_corners=True)[0]  # (D, H, W)
        features.append(large[:, label != IGNORE].T)
        classes.append(label[label != IGNORE])
    return torch.cat(features).double().numpy(), torch.cat(classes).numpy()


def test_features_are_those_of_the_upsampled_map_in_whatever_parts_they_come(runs, monkeypatch):
    experiment = load_run(runs[1], "last")
    images = experiment.dataset.val
    choice = choose_pixels(images, len(CLASSES), None, 0)
    monkeypatch.setattr("semiseg.analysis.features.CHUNK", 500)
    parts = list(pixel_features(experiment, images, choice, "t", QUIET))
    assert max(len(part) for part, _ in parts) == 500
    features, classes = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    expected, label = whole_map_features(runs[1], images)
    assert sorted(classes) == sorted(label)
    for number in np.unique(label):
        mine, theirs = features[classes == number], expected[label == number]
        assert np.sort(mine, 0) == pytest.approx(np.sort(theirs, 0), abs=1e-4)


# Table 5 --------------------------------------------------------------------------------------------------------------


def test_the_traces_are_those_of_all_features_at_once(runs, tmp_path):
    found = discriminate(runs, tmp_path, pixels=None, console=QUIET)
    assert [row["label"] for row in found["rows"]] == ["supervised", "prototype"]
    for run, row in zip(runs, found["rows"], strict=True):
        features, label = whole_map_features(run, load_run(run, "last").dataset.val)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        for key, alike, values in (("raw", "balanced", features), ("unit", "unit_balanced", unit)):
            assert row[key]["total"] == pytest.approx(values.var(0).sum(), rel=1e-4)
            within = np.mean([values[label == number].var(0).sum() for number in np.unique(label)])
            assert row[alike]["intra"] == pytest.approx(within, rel=1e-4)
            assert row[key]["ratio"] == pytest.approx(row[key]["inter"] / row[key]["intra"])
        assert row["unit"]["total"] <= 1
        assert sum(each["of"] for each in row["classes"].values()) == len(label)
    assert json.loads((tmp_path / "discrimination.json").read_text("utf-8")) == plain(found)
    page = (tmp_path / "discrimination.md").read_text("utf-8")
    assert f"{found['rows'][1]['unit']['ratio']:.4g}" in page
    assert found["split"]["sha256"] in page
    assert f"    {found['command']}\n" in page


def test_a_sample_estimates_the_traces_of_all_pixels(runs, tmp_path):
    every = discriminate(runs[:1], tmp_path, pixels=None, console=QUIET)["rows"][0]
    some = discriminate(runs[:1], tmp_path, pixels=400, console=QUIET)["rows"][0]
    assert some["classes"]["ground"]["pixels"] == 400 < every["classes"]["ground"]["pixels"]
    assert some["raw"]["ratio"] != every["raw"]["ratio"]
    for key in ("raw", "balanced", "unit", "unit_balanced"):
        assert some[key]["ratio"] == pytest.approx(every[key]["ratio"], rel=0.3)


# Fig. 2 ---------------------------------------------------------------------------------------------------------------


def test_an_embedding_is_drawn_with_the_classes_names_and_says_how_well_they_part(runs, tmp_path):
    paths = embed(runs, tmp_path, labels=["first", "ours"], classes=["ground", 1], pixels=30, console=QUIET)
    assert [path.name for path in paths] == ["embedding.svg", "embedding.png", "embedding.json"]
    svg = paths[0].read_text("utf-8")
    for text in ("first", "ours", "ground", CLASSES[1], "prototype", "axes have no unit"):
        assert text in svg
    assert np.asarray(Image.open(paths[1]).convert("RGB")).std() > 10
    found = json.loads(paths[2].read_text("utf-8"))
    assert found["pixels_by_class"] == {"ground": 30, CLASSES[1]: 30}
    assert [row["prototypes"] for row in found["rows"]] == [0, 4]
    assert all(-1 <= row["silhouette"] <= 1 for row in found["rows"])


def test_all_runs_show_the_same_pixels_and_the_same_command_draws_the_same(runs, tmp_path):
    same = [runs[0], runs[0]]
    paths = embed(same, tmp_path / "a", labels=["x", "y"], classes=[0, 1], pixels=20, console=QUIET)
    rows = json.loads(paths[2].read_text("utf-8"))["rows"]
    assert rows[0]["silhouette"] == rows[1]["silhouette"]
    again = embed(same, tmp_path / "b", labels=["x", "y"], classes=[0, 1], pixels=20, console=QUIET)
    assert paths[0].read_bytes() == again[0].read_bytes()


def test_the_plane_keeps_neighbours_and_a_seed_gives_the_same():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], 8)
    features = rng.normal(0, 0.05, (24, 7)) + np.eye(7)[label]
    places = to_plane(features, 0)
    away = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(24)
    assert (label[away.argmin(1)] == label).all()
    assert np.array_equal(places, to_plane(features, 0))


def test_classes_are_names_or_numbers_and_a_slip_is_told_with_the_nearest():
    names = ("background", "boat", "bottle")
    assert class_numbers(["bottle", 0], names) == [2, 0]
    assert class_numbers(["2", "boat", "1"], names) == [2, 1]
    with pytest.raises(ValueError, match=r"there is no class 'botle'; did you mean bottle\? .*number from 0 to 2"):
        class_numbers(["botle", "boat"], names)
    with pytest.raises(ValueError, match="there is no class '3'"):
        class_numbers([3, 1], names)
    with pytest.raises(ValueError, match="1 classes to embed; expected 2 to 8"):
        class_numbers(["boat", 1], names)


def test_colours_that_cannot_be_told_apart_are_replaced():
    apart = [(200, 60, 40), (40, 60, 220)]
    assert readable(apart) == apart
    assert readable([(210, 60, 40), (90, 130, 40)]) == list(SAFE[:2])  # red and green of one lightness
    assert readable(list(palette(2))) == list(SAFE[:2])  # black on white is no colour
    assert len({*readable(list(SAFE))}) == len(SAFE)


# Fig. 4 and 5 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["boundary", "consistency"])
def test_pictures_are_drawn_and_scored(runs, tmp_path, rule):
    found = picture(runs, tmp_path, rule=rule, count=2, console=QUIET)
    assert json.loads((tmp_path / f"pictures-{rule}.json").read_text("utf-8")) == plain(found)
    assert [row["label"] for row in found["rows"]] == ["supervised", "prototype"]
    for row in found["rows"]:
        for score in (row["boundary_iou"]["mean"], row["consistency"]["mean"], row["consistency"]["right"]):
            assert 0 < score <= 100
    assert len(found["images"]) <= 2
    if not found["images"] and rule == "consistency":
        pytest.skip("with these versions no image has objects that are no less right, which this rule asks for")
    gains = [each["scores"]["prototype"] - each["scores"]["supervised"] for each in found["images"]]
    assert gains == sorted(gains, reverse=True)
    width, height = Image.open(tmp_path / f"pictures-{rule}.png").size
    assert width > 4 * 280
    assert height > len(found["images"]) * 280 * 32 / 40
    page = (tmp_path / f"pictures-{rule}.md").read_text("utf-8")
    assert f"{found['rows'][0]['boundary_iou']['mean']:.2f}" in page
    assert found["images"][0]["name"] in page


# Refusals and commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("analyse", [discriminate, embed, picture])
def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path, analyse):
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.yaml"):
        analyse([runs[0], tmp_path], tmp_path / "out", console=QUIET)
    with pytest.raises(ValueError, match="there is no run to look at"):
        analyse([], tmp_path / "out", console=QUIET)
    with pytest.raises(ValueError, match="labels are a, a; expected 2 different ones"):
        analyse(runs, tmp_path / "out", labels=["a", "a"], console=QUIET)
    with pytest.raises(ValueError, match="supervised has no test images to look at"):
        analyse(runs, tmp_path / "out", subset="test", console=QUIET)
    assert not (tmp_path / "out").exists()


def test_other_validation_images_are_refused_before_anything_is_computed(runs, tmp_path, monkeypatch):
    data = DataOptions(dataset="scenes", scenes=SceneOptions(4, 8, 5, height=32, width=40))
    (tmp_path / "other").mkdir()
    save_config(tiny_config(tmp_path / "other", "supervised", data=data), tmp_path / "other" / "config.yaml")
    monkeypatch.setattr("semiseg.analysis.subjects.load_run", None)
    with pytest.raises(ValueError, match=r"scored on different validation images: .* on 3 .* on 5 .* one val list"):
        discriminate([runs[0], tmp_path / "other"], tmp_path, labels=["a", "b"], console=QUIET)


def test_what_is_asked_for_is_checked(runs, tmp_path):
    with pytest.raises(ValueError, match=r"there is no rule 'boundry'; did you mean boundary\?"):
        picture(runs, tmp_path, rule="boundry")
    with pytest.raises(ValueError, match="count is 0"):
        picture(runs, tmp_path, count=0)
    with pytest.raises(ValueError, match="pixels is 0"):
        discriminate(runs, tmp_path, pixels=0)
    with pytest.raises(ValueError, match="there is no class 'grund'; did you mean ground"):
        embed(runs, tmp_path, classes=["grund", "1"])


@pytest.fixture
def calls(monkeypatch):
    """Stands in for the package, and keeps what it is asked."""
    seen = []

    def keep(name, answer):
        return lambda *args, **kwargs: (seen.append((name, args, kwargs)), answer)[1]

    versions = {key: {"ratio": 0.5} for key in ("raw", "balanced", "unit", "unit_balanced")}
    scores = {"boundary_iou": {"mean": 61.25}, "consistency": {"mean": 90.5}}
    stands_in = SimpleNamespace(
        discriminate=keep("discriminate", {"rows": [{"label": "a", **versions}]}),
        embed=keep("embed", [Path("o/embedding.svg")]),
        picture=keep("picture", {"rows": [{"label": "a", **scores}]}),
    )
    monkeypatch.setitem(sys.modules, "semiseg.analysis", stands_in)
    monkeypatch.setattr(semiseg, "analysis", stands_in, raising=False)
    return seen


def test_commands_hand_on_what_was_typed(calls, capsys):
    assert main(shlex.split("analyse discrimination r s --label 'a, b' --label c --pixels all --data.root d")) == 0
    assert main(shlex.split("analyse embedding r --classes 'boat, 3' --set test --out o --seed 4")) == 0
    assert main(shlex.split("analyse pictures r s --rule consistency --count 2 --checkpoint best")) == 0
    (_, one, first), (_, two, second), (_, _, third) = calls
    assert one == ([Path("r"), Path("s")], Path("r/analysis"))
    assert (first["labels"], first["pixels"], first["root"]) == (["a, b", "c"], None, Path("d"))
    assert (two[1], second["classes"], second["subset"], second["seed"]) == (Path("o"), ["boat", "3"], "test", 4)
    assert (third["rule"], third["count"], third["checkpoint"], third["labels"]) == ("consistency", 2, "best", None)
    said = capsys.readouterr().out
    assert "a: inter / intra raw 0.500; balanced 0.500" in said
    assert "o/embedding.svg" in said
    assert "a: boundary mIoU 61.25, consistency within objects 90.50" in said


def test_a_number_of_pixels_that_is_none_is_told(calls, capsys):
    assert main(["analyse", "discrimination", "r", "--pixels", "many"]) == 2
    assert "--pixels is many; expected a number above 0, or all" in capsys.readouterr().err


def test_the_pages_commands_are_commands(calls):
    page = (Path(__file__).parents[2] / "docs" / "analyse.md").read_text("utf-8")
    commands = re.findall(r"uv run semiseg (analyse .*)", page)
    assert {command.split()[1] for command in commands} == {"discrimination", "embedding", "pictures"}
    assert [main(shlex.split(command)) for command in commands] == [0] * len(commands)
