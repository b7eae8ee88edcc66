"""Which images to label next: doubt against a slow twin, regions and the choice against slow ones, what is written."""

import csv
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.models import untrained_run
from support.tiny_run import QUIET, tiny_config, train_quietly

import semiseg
from semiseg.analysis.doubt import Measure, class_doubt, doubtful_pairs
from semiseg.analysis.regions import Regions, RegionSums
from semiseg.analysis.selection import NEAR, Cover, choose, nearest, spaced, standardised
from semiseg.analysis.suggest import suggest
from semiseg.cli.main import main
from semiseg.config.options import DataOptions, EvaluationOptions, SceneOptions
from semiseg.data.sets.scenes import open_scenes
from semiseg.evaluation.model import load_model
from semiseg.parts.augment import as_batch

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


def slow_regions(logits, features, counted):
    """Of each class: label, doubt and vector, pixel by pixel."""
    large = F.interpolate(features, logits.shape[2:], mode="bilinear", align_corners=True).double()
    chances = logits.double().softmax(1)
    found, total = {}, 0
    for window in range(len(logits)):
        for row in range(logits.shape[2]):
            for column in range(logits.shape[3]):
                if not counted[window, row, column]:
                    continue
                pixel = chances[window, :, row, column].tolist()
                unsure = -sum(p * math.log(p) for p in pixel) / math.log(len(pixel))
                found.setdefault(pixel.index(max(pixel)), []).append((unsure, large[window, :, row, column]))
                total += 1
    kept = {label: own for label, own in sorted(found.items()) if len(own) >= max(1, 0.003 * total)}
    means = [
        (sum(each[0] for each in own) / len(own), sum(each[1] for each in own) / len(own)) for own in kept.values()
    ]
    return list(kept), [doubt for doubt, _ in means], [vector.tolist() for _, vector in means]


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_the_slow_loops(seed):
    rng = np.random.default_rng(seed)
    sums, every = RegionSums(), ([], [], [])
    for _ in range(1 + seed % 2):  # batches of windows
        logits, features = (
            torch.from_numpy(rng.standard_normal(size)).float() for size in ((2, 4, 20, 26), (2, 5, 6, 7))
        )
        logits[:, 3] -= 20  # nowhere, but for a speck that is too small
        logits[0, 3, 4, 4] = 20
        counted = torch.from_numpy(rng.random((2, 20, 26)) < 0.7)
        sums.add_(logits, features, counted)
        for kept, new in zip(every, (logits, features, counted), strict=True):
            kept.append(new)
    made = sums.regions()
    labels, doubts, vectors = slow_regions(*(torch.cat(each) for each in every))
    assert made.label.tolist() == labels == [0, 1, 2]
    assert made.doubt.tolist() == pytest.approx(doubts, abs=1e-6)
    np.testing.assert_allclose(made.vectors, vectors, atol=1e-5)


def pool_of(seed, images=25, channels=4):
    """Images' vectors, their regions, 1 to 3 each and none of the last, and labelled regions, standardised."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((images, channels)).astype(np.float32)
    counts = rng.integers(1, 4, images)
    counts[-1] = 0
    size = counts.sum()
    own, covered = standardised(
        *(rng.standard_normal((size, channels)).astype(np.float32) for size in (size, 3 * (seed % 3)))
    )
    owner = np.repeat(np.arange(images), counts)
    return vectors, Regions(owner, rng.integers(0, 3, size), rng.random(size), own), covered


def slow_choice(images, regions, covered, vectors, avoided, count):
    """Plain greedy: each time the whole amount is computed from scratch for every image."""
    known = [each.astype(np.float64) for each in covered]

    def amount(more):
        total = 0.0
        for doubt, vector in zip(regions.doubt, regions.vectors.astype(np.float64), strict=True):
            nearest_known = min((math.dist(vector, each) for each in [*known, *more]), default=math.inf)
            total += doubt * (min(nearest_known, math.sqrt(2)) if len(covered) == 0 else nearest_known)
        return total

    own = [regions.vectors[regions.image == image].astype(np.float64) for image in range(images)]
    whole, taken, blocked = amount([]), [], list(avoided)
    while len(taken) < count:
        best = None
        before = amount([])
        for image in range(images):
            if any(math.dist(vectors[image], each) <= NEAR * math.sqrt(2) for each in blocked):
                continue
            share = round((before - amount(own[image])) / whole, 9)
            if best is None or share > best[1]:
                best = (image, share)
        if best is None:
            break
        taken.append(best)
        blocked.append(vectors[best[0]])
        known.extend(own[best[0]])
    return taken


@pytest.mark.parametrize("seed", range(9))
def test_the_choice_is_the_plain_greedy_one(seed, monkeypatch):
    if seed >= 3:  # in small blocks
        monkeypatch.setattr("semiseg.analysis.selection._AT_ONCE", 200)
        monkeypatch.setattr("semiseg.analysis.selection._ANEW", seed - 2)
    vectors, regions, covered = pool_of(seed)
    vectors[20:22] = vectors[:2] + 1e-3  # near-duplicates
    avoided = vectors[5:6] + 1e-3
    found = choose(Cover(25, regions, covered), vectors, avoided, 25)
    slow = slow_choice(25, regions, covered, vectors, avoided, 25)
    assert [image for image, _ in found] == [image for image, _ in slow]
    assert [share for _, share in found] == pytest.approx([share for _, share in slow], abs=3e-9)
    assert len(found) == 22  # neither 5 nor both of a pair
    assert found[-1][1] == 0  # the one without regions takes nothing
    assert sum(share for _, share in found) <= 1 + 1e-6


def test_equal_images_go_to_the_first_and_doubtless_ones_in_order():
    vectors, regions, covered = pool_of(1, images=12)
    twice = Regions(*(np.concatenate([each, each]) for each in vars(regions).values()))
    twice.image[len(regions.image) :] += 12
    apart = np.concatenate([vectors, vectors + 5])
    found = [image for image, _ in choose(Cover(24, twice, covered), apart, vectors[:0], 6)]
    assert max(found) < 12
    none = replace(regions, doubt=np.zeros_like(regions.doubt))
    assert choose(Cover(12, none, covered), vectors, vectors[:0], 3) == [(0, 0), (1, 0), (2, 0)]


def test_near_duplicates_are_taken_once_and_the_avoided_never():
    _, regions, covered = pool_of(0, images=15)
    few = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    thrice, avoided = standardised(np.repeat(few, 3, axis=0), few[:2])
    found = [image // 3 for image, _ in choose(Cover(15, regions, covered), thrice, avoided, 15)]
    assert sorted(found) == [2, 3, 4]


def test_a_large_pool_is_covered_by_evenly_spaced_regions_of_each_class(monkeypatch):
    labels = np.tile([0, 1, 2, 3], 250)
    kept = spaced(labels, 100)
    assert np.bincount(labels[kept]).tolist() == [25] * 4
    assert all((np.diff(kept[labels[kept] == one]) == 40).all() for one in range(4))
    assert spaced(labels, 2000).tolist() == list(range(1000))
    assert len(spaced(labels[:0], 10)) == 0
    vectors, regions, covered = pool_of(2)
    monkeypatch.setattr("semiseg.analysis.selection.MOST_REGIONS", 7)
    cover = Cover(25, regions, covered)
    assert cover.targets.tolist() == regions.vectors[spaced(regions.label, 7)].tolist()
    assert len(choose(cover, vectors, vectors[:0], 25)) == 25


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
    small = measure(scenes[0])
    assert len(small.vector) == 5
    assert small.regions.vectors.shape == (len(small.regions.label), 5)
    assert measure.doubtful(scenes[0]).size <= 130


def test_an_images_regions_are_the_networks(model, scenes):
    """In windows as the sums of its windows, each by its own prediction; whole as the slow loop."""
    loaded, slide = load_model(model).to("cpu"), EvaluationOptions(protocol="slide", window=24, stride=16)
    batch = as_batch(scenes[0])
    cuts = [batch[:, :, top : top + 24, left : left + 24] for top in (0, 8) for left in (0, 16)]
    for evaluation, windows in ((slide, cuts), (EvaluationOptions(protocol="whole"), [batch])):
        measure = Measure(replace(loaded, evaluation=evaluation, scale=1.0))
        with torch.inference_mode():
            logits = torch.cat([next(iter(measure.predictor(each).values())) for each in windows])
            features = torch.cat([measure.predictor.segmentor(each).features for each in windows])
        labels, doubts, vectors = slow_regions(logits, features, torch.ones(len(logits), *logits.shape[2:]).bool())
        made = measure(scenes[0]).regions
        assert made.label.tolist() == labels
        assert made.doubt.tolist() == pytest.approx(doubts, abs=1e-5)
        np.testing.assert_allclose(made.vectors, vectors, rtol=1e-3, atol=1e-4)


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
