"""Which images to label next: doubt against a slow twin, the choice against a slow greedy one, what is written."""

import csv
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import untrained_run
from support.tiny_run import QUIET, tiny_config, train_quietly

import semiseg
from semiseg.analysis.doubt import Measure, class_doubt, doubtful_pairs
from semiseg.analysis.selection import NEAR, choose, nearest, standardised
from semiseg.analysis.suggest import suggest
from semiseg.cli.main import main
from semiseg.config.options import DataOptions, SceneOptions
from semiseg.data.sets.scenes import open_scenes
from semiseg.evaluation.model import load_model

SCENE = {"data__scenes__height": 32, "data__scenes__width": 40}


def probabilities(seed, classes=4, size=(6, 7)):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((classes, *size)) * 2).float().softmax(0)


def slow_doubt(chances):
    classes, height, width = chances.shape
    entropies = {}
    for row in range(height):
        for column in range(width):
            pixel = chances[:, row, column].tolist()
            entropy = -sum(p * math.log(p) for p in pixel if p > 0) / math.log(classes)
            entropies.setdefault(pixel.index(max(pixel)), []).append(entropy)
    return sum(sum(own) / len(own) for own in entropies.values()) / classes


@pytest.mark.parametrize("seed", range(20))
def test_doubt_is_the_slow_twins(seed):
    chances = probabilities(seed, classes=2 + seed % 4)
    assert class_doubt(chances) == pytest.approx(slow_doubt(chances), abs=1e-5)


def test_a_small_doubtful_object_counts_as_much_as_a_large_one():
    def one(side):
        chances = torch.tensor([1.0, 0.0])[:, None, None].repeat(1, 20, 20)
        chances[:, :side, :side] = torch.tensor([0.4, 0.6])[:, None, None]
        return class_doubt(chances)

    assert one(3) == pytest.approx(one(15))
    assert one(3) > 0.4
    assert one(0) == 0


def test_every_class_alike_is_the_most_doubt():
    assert class_doubt(torch.full((3, 4, 4), 1 / 3)) <= 1 / 3 + 1e-6  # all pixels are predicted as one class
    chances = torch.full((3, 1, 3), 1 / 3) + torch.eye(3)[:, None] * 1e-5
    assert class_doubt(chances) == pytest.approx(1, abs=1e-4)


def test_the_pairs_that_are_told_are_the_most_frequent():
    chances = torch.zeros(3, 10, 10)
    chances[0] = 1
    chances[:, 0] = torch.tensor([0.0, 0.45, 0.55])[:, None]  # a tenth: 1 or 2
    chances[:, 1, :3] = torch.tensor([0.6, 0.4, 0.0])[:, None]  # 0 or 1
    assert doubtful_pairs(chances) == ((1, 2, pytest.approx(0.1)), (0, 1, pytest.approx(0.03)))
    chances[:] = torch.tensor([0.8, 0.2, 0.0])[:, None, None]
    assert doubtful_pairs(chances) == ()


def slow_choice(doubt, vectors, labelled, count, avoided):
    taken, centres = [], [list(each) for each in labelled]
    blocked = [list(each) for each in avoided]
    while len(taken) < count:
        best = None
        for index, vector in enumerate(vectors):
            away = min((math.dist(vector, centre) for centre in centres), default=1.0)
            near = [*centres, *blocked]
            if index in taken or any(math.dist(vector, each) <= NEAR * math.sqrt(2) for each in near):
                continue
            score = doubt[index] * math.sqrt(away)
            if best is None or score > best[0] + 1e-9:
                best = (score, index)
        if best is None:
            break
        taken.append(best[1])
        centres.append(list(vectors[best[1]]))
    return taken


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_slow_greedy_one(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((30, 4)).astype(np.float32)
    vectors[20:] = vectors[:10] + 0.001  # near-duplicates
    labelled, avoided = (rng.standard_normal((size, 4)).astype(np.float32) for size in (seed % 3, 2))
    labelled = np.concatenate([labelled, vectors[25:26]]) if seed % 2 else labelled
    parts = standardised(vectors, labelled, avoided)
    doubt = rng.random(30)
    found = choose(doubt, *parts[:2], 12, parts[2])
    assert [index for index, _ in found] == slow_choice(doubt, *parts[:2], 12, parts[2])


def test_near_duplicates_are_taken_once_and_the_labelled_never():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5, 3)).astype(np.float32)
    pool, labelled = standardised(np.repeat(vectors, 3, axis=0), vectors[:2])
    found = [index // 3 for index, _ in choose(np.ones(15), pool, labelled, 15, labelled[:0])]
    assert sorted(found) == [2, 3, 4]


def test_distances_are_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, centres = (rng.standard_normal((size, 3)).astype(np.float32) for size in (10, 4))
    whole = nearest(vectors, centres)
    monkeypatch.setattr("semiseg.analysis.selection._AT_ONCE", 6)
    assert nearest(vectors, centres).tolist() == whole.tolist()
    assert np.isinf(nearest(vectors, centres[:0])).all()


def test_a_channel_that_does_not_vary_does_not_count():
    vectors = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    (found,) = standardised(vectors)
    assert found[:, 1].tolist() == [0, 0]
    assert found[:, 0].tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("model"), per_class=2, **SCENE)


@pytest.fixture(scope="module")
def scenes():
    drawn = open_scenes(DataOptions(dataset="scenes", scenes=SceneOptions(height=32, width=40))).unlabeled
    return [drawn.image(index) for index in range(8)]


def write(folder, scenes, names):
    folder.mkdir(parents=True)
    for name, scene in zip(names, scenes, strict=True):
        Image.fromarray(scene).save(folder / f"{name}.png")
    return folder


def rows(folder):
    with (folder / "suggestions.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_with_a_model_alone(model, scenes, tmp_path):
    folder = write(tmp_path / "pool", scenes, "abcdefgh")
    shutil.copy(folder / "a.png", folder / "z.png")
    (folder / "broken.png").write_bytes(b"none")
    found = suggest(model, 20, images=folder, out=tmp_path / "out", console=QUIET)
    names = [each.name for each in found.chosen]
    assert len(set(names)) == len(names)
    assert len({"a", "z"} & set(names)) <= 1
    assert list(found.failed) == ["broken"]
    assert found.pool == 9
    table = rows(tmp_path / "out")
    assert [row["name"] for row in table] == names
    assert [row["rank"] for row in table] == [str(rank) for rank in range(1, len(names) + 1)]
    assert all(row["path"] == str(folder / f"{row['name']}.png") for row in table)
    with Image.open(tmp_path / "out/suggestions.png") as sheet:
        assert sheet.size[0] > 1000


def test_the_choice_does_not_depend_on_the_order_of_files_and_repeats_itself(model, scenes, tmp_path):
    first = write(tmp_path / "first/in", scenes, "abcdefgh")
    other = write(tmp_path / "other/in", scenes[::-1], "hgfedcba")
    found = [suggest(model, 4, images=each, out=each.parent, console=QUIET) for each in (first, other)]
    assert [(one.name, one.score) for one in found[0].chosen] == [(one.name, one.score) for one in found[1].chosen]
    again = suggest(model, 4, images=first, out=tmp_path / "again", console=QUIET)
    assert again.chosen == found[0].chosen
    assert (tmp_path / "again/suggestions.png").read_bytes() == (first.parent / "suggestions.png").read_bytes()


def test_one_image_and_none(model, scenes, tmp_path):
    folder = write(tmp_path / "one", scenes[:1], "a")
    found = suggest(model, images=folder, out=tmp_path / "out", console=QUIET)
    assert [each.name for each in found.chosen] == ["a"]
    (folder / "a.png").unlink()
    with pytest.raises(ValueError, match="no images in"):
        suggest(model, images=folder, console=QUIET)
    (folder / "b.png").write_bytes(b"none")
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        suggest(model, images=folder, console=QUIET)


def test_long_vectors_are_projected_and_large_images_are_shrunk(model, scenes, monkeypatch):
    loaded = load_model(model)
    assert len(Measure(loaded)(scenes[0]).vector) == 16
    monkeypatch.setattr("semiseg.analysis.doubt.MOST_CHANNELS", 5)
    monkeypatch.setattr("semiseg.analysis.doubt.MOST_PIXELS", 100)
    measure = Measure(loaded)
    assert len(measure(scenes[0]).vector) == 5
    assert measure.doubtful(scenes[0]).size <= 130


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on drawn scenes."""
    config = tiny_config(tmp_path_factory.mktemp("tiny") / "run", steps=4, evaluate_every=4)
    train_quietly(config)
    return config.run_folder


def test_the_runs_own_unlabelled_images(run, capsys):
    found = semiseg.Run(run).suggest(count=3, console=QUIET)
    assert len(found.chosen) == 3
    assert all(each.name.startswith("unlabeled-") and each.path is None for each in found.chosen)
    assert main(["suggest", str(run), "--count", "3"]) == 0
    said = capsys.readouterr().out
    assert all(each.name in said for each in found.chosen)
    assert "put each into masks/" in said


def test_a_dataset_of_ones_own(run, scenes, tmp_path):
    drawn = open_scenes(DataOptions(dataset="scenes", scenes=SceneOptions(height=32, width=40)))
    pairs = [(drawn.labeled.image(index), drawn.labeled.mask(index)) for index in range(2)]
    dataset = semiseg.Dataset.from_items(drawn.classes, labeled=pairs, val=pairs, unlabeled=[*scenes, pairs[0][0]])
    found = suggest(run, 20, dataset=dataset, out=tmp_path, console=QUIET)
    assert "unlabeled-000008" not in {each.name for each in found.chosen}  # it is labelled
    assert found.pool == 9


def test_mistakes_are_told(run, tmp_path, capsys):
    assert main(["suggest", str(run), "--count", "0"]) == 2
    assert "count" in capsys.readouterr().err
    assert main(["suggest", str(tmp_path)]) == 2
    assert "model.json is not there" in capsys.readouterr().err
