"""Drawn scenes: the same everywhere, several looks per class, of which the labelled ones show some."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from semiseg.config.options import DataOptions, SceneOptions
from semiseg.data.sets.scenes import CLASSES, LOOKS, Scenes, draw_scene, open_scenes

OPTIONS = DataOptions(dataset="scenes", scenes=SceneOptions(labeled=12, unlabeled=60, val=40))


@pytest.fixture(scope="module")
def dataset():
    return open_scenes(OPTIONS)


def looks(images: Scenes) -> Counter:
    return Counter(look for index in range(len(images)) for look in images.scene(index).looks)


def test_the_dataset_has_what_was_asked_for(dataset):
    assert [len(images) for images in dataset.image_sets.values()] == [12, 60, 40]
    assert dataset.test is None
    assert len(dataset.classes) == len(set(dataset.colors)) == len(CLASSES)
    names = [name for images in dataset.image_sets.values() for name in images.names]
    assert len(set(names)) == len(names)
    assert dataset.split["unlabeled"]["count"] == 60
    assert [images.has_masks for images in dataset.image_sets.values()] == [True, False, True]


@pytest.mark.parametrize("size", [(128, 160), (32, 32), (97, 45)])
def test_size_and_types_are_those_of_the_options(size):
    scenes = Scenes("val", 4, SceneOptions(height=size[0], width=size[1]))
    for index in range(4):
        assert scenes.image(index).shape == (*size, 3)
        assert scenes.mask(index).shape == size
        assert scenes.image(index).dtype == scenes.mask(index).dtype == np.uint8
        assert scenes.mask(index).max() < len(CLASSES)


def test_a_scene_is_drawn_again_the_same(dataset):
    first = [dataset.val.image(index).copy() for index in range(5)]
    draw_scene.cache_clear()
    copy = pickle.loads(pickle.dumps(dataset))
    for index in (4, 3, 2, 1, 0):
        np.testing.assert_array_equal(copy.val.image(index), first[index])


def test_a_scene_does_not_depend_on_how_many_there_are():
    few, many = Scenes("val", 3, OPTIONS.scenes), open_scenes(OPTIONS).val
    np.testing.assert_array_equal(few.image(2), many.image(2))


def test_lists_seeds_and_indices_draw_different_scenes():
    images = [
        Scenes(name, 2, SceneOptions(seed=seed)).image(index).tobytes()
        for name in ("labeled", "unlabeled", "val")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(images)) == len(images)


def test_the_drawing_cannot_be_spoiled_by_its_reader(dataset):
    with pytest.raises(ValueError, match="read-only"):
        dataset.val.image(0)[0, 0] = 0


def test_labelled_scenes_show_two_looks_unequally_and_the_others_all(dataset):
    labeled, unlabeled, val = (looks(images) for images in (dataset.labeled, dataset.unlabeled, dataset.val))
    assert {look for _, look in labeled} == {0, 1}
    firsts = sum(count for (_, look), count in labeled.items() if look == 0)
    assert firsts / labeled.total() > 0.55
    every = {(index, look) for index in range(len(CLASSES)) for look in range(LOOKS)}
    assert set(unlabeled) == set(val) == every


def test_a_dozen_labelled_scenes_show_every_class():
    for seed in range(5):
        scenes = open_scenes(DataOptions(dataset="scenes", scenes=SceneOptions(seed=seed))).labeled
        shown = set().union(*(np.unique(scenes.mask(index)) for index in range(len(scenes))))
        assert shown == set(range(len(CLASSES)))


def test_neighbouring_looks_stand_side_by_side(dataset):
    def has_neighbours(found: tuple) -> bool:
        return any((index, look + 1) in found for index, look in found if index >= 2)  # objects only

    scenes = [dataset.unlabeled.scene(index) for index in range(60)]
    assert sum(has_neighbours(scene.looks) for scene in scenes) > 20


def mean_colours(images: Scenes) -> dict[tuple[int, int], np.ndarray]:
    """The mean colour of each (class, look) over scenes in which the class has that look only."""
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for index in range(len(images)):
        scene = images.scene(index)
        for kind in range(1, len(CLASSES)):
            kinds = {look for other, look in scene.looks if other == kind}
            pixels = scene.image[scene.mask == kind]
            if len(kinds) == 1 and len(pixels) > 50:
                found.setdefault((kind, *kinds), []).append(pixels.mean(0))
    return {key: np.mean(colours, 0) for key, colours in found.items()}


def test_looks_form_a_row_whose_ends_lie_apart():
    colours = mean_colours(Scenes("unlabeled", 150, SceneOptions()))
    for kind in range(1, len(CLASSES)):
        row = [colours[kind, look] for look in range(LOOKS)]
        steps = [np.linalg.norm(after - before) for before, after in pairwise(row)]
        assert min(steps) > 8  # grey levels
        assert np.linalg.norm(row[-1] - row[0]) > 1.2 * max(steps)


def test_colour_alone_does_not_settle_the_class_of_an_unseen_look():
    """By the nearest labelled colour, some class's last look belongs to another class: labels must travel."""
    colours = mean_colours(Scenes("unlabeled", 150, SceneOptions()))
    seen = {key: colour for key, colour in colours.items() if key[1] < 2}

    def nearest(colour: np.ndarray) -> int:
        return min(seen, key=lambda key: float(np.linalg.norm(seen[key] - colour)))[0]

    mistaken = [kind for kind in range(1, len(CLASSES)) if nearest(colours[kind, LOOKS - 1]) != kind]
    assert mistaken
