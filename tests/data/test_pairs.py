"""Pictures and masks of one's own: paired by name, held against the model's classes before anything is predicted."""

import numpy as np
import pytest
from PIL import Image

from semiseg.data.sets.pairs import open_pairs

CLASSES, COLORS = ("sky", "road", "tree"), ((0, 0, 0), (200, 0, 0), (0, 200, 0))
SIZE = (6, 8)


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8), mode).save(path)


@pytest.fixture
def root(tmp_path):
    """Three pictures, one of them in a folder, with masks of classes 0 to 2 and ignored pixels."""
    for name in ("a", "b", "in/c"):
        save(tmp_path / f"images/{name}.jpg", np.full((*SIZE, 3), 90))
        save(tmp_path / f"masks/{name}.png", np.resize([0, 1, 2, 255], SIZE))
    return tmp_path


def opened(root, classes=CLASSES, colors=COLORS):
    return open_pairs(root / "images", root / "masks", classes, colors)


def test_pairs_by_name_below_folders_in_whatever_order_the_files_were_made(root):
    pairs = opened(root)
    assert sorted(pairs.images.names) == ["a", "b", "in/c"]
    assert (pairs.failed, pairs.without_mask) == ({}, ())
    assert pairs.images.mask(0).tolist() == np.resize([0, 1, 2, 255], SIZE).tolist()


def test_pictures_without_a_mask_are_named_and_left_out(root, caplog):
    (root / "masks/b.png").unlink()
    pairs = opened(root)
    assert sorted(pairs.images.names) == ["a", "in/c"]
    assert pairs.without_mask == (root / "images/b.jpg",)
    assert "1 of 3 pictures" in caplog.text


@pytest.mark.parametrize("file", ["images/a.jpg", "masks/a.png"])
def test_what_cannot_be_read_is_listed(root, file):
    (root / file).write_bytes(b"none")
    pairs = opened(root)
    assert list(pairs.failed) == [root / file]
    assert sorted(pairs.images.names) == ["b", "in/c"]


def test_masks_in_the_models_colours_are_read(root):
    for name in ("a", "b", "in/c"):
        save(root / f"masks/{name}.png", np.array(COLORS)[np.resize([0, 1, 2, 2], SIZE)])
    assert opened(root).images.mask(1).tolist() == np.resize([0, 1, 2, 2], SIZE).tolist()


def test_masks_of_0_and_255_are_two_classes(root, caplog):
    for name in ("a", "b", "in/c"):
        save(root / f"masks/{name}.png", np.resize([0, 255], SIZE))
    mask = opened(root, CLASSES[:2], COLORS[:2]).images.mask(0)
    assert np.unique(mask).tolist() == [0, 1]
    assert "255 is read as class 1, 'road'" in caplog.text


def fails(root, pattern, **given):
    with pytest.raises(ValueError, match=pattern):
        opened(root, **given)


def test_values_beyond_the_classes_are_refused(root):
    save(root / "masks/b.png", np.full(SIZE, 7))
    fails(root, r"b\.png holds 7 at 48 pixels; expected 0\.\.2")


def test_masks_that_count_from_one_are_refused_with_the_repair(root):
    for name in ("a", "b", "in/c"):
        save(root / f"masks/{name}.png", np.resize([1, 2, 3], SIZE))
    fails(root, "the model has 3 classes.*count from 1")


def test_another_size_is_refused(root):
    save(root / "masks/a.png", np.zeros((6, 9)))
    fails(root, "9 x 6 pixels, but its image")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("sky\ntree\nroad\n", "the same names in another order; class 1 is 'tree' in the file and 'road' in the model"),
        ("sky\nroad\n", "names 2 classes and the model has 3; class 2 is 'none' in the file"),
    ],
)
@pytest.mark.parametrize("place", ["classes.txt", "masks/classes.txt"])
def test_other_classes_are_refused(root, text, pattern, place):
    (root / place).write_text(text)
    fails(root, pattern)


def test_the_same_classes_are_taken_with_colours_of_their_own(root):
    (root / "classes.txt").write_text("sky 1 1 1\nroad 2 2 2\ntree 3 3 3\nignore 9 9 9\n")
    for name in ("a", "b", "in/c"):
        save(root / f"masks/{name}.png", np.array([[1] * 3, [2] * 3, [3] * 3, [9] * 3])[np.resize([0, 1, 2, 3], SIZE)])
    assert opened(root).images.mask(0).tolist() == np.resize([0, 1, 2, 255], SIZE).tolist()


def test_folders_without_a_pair_are_refused(root):
    for name in ("a", "b", "in/c"):
        (root / f"masks/{name}.png").rename(root / f"masks/{name}_mask.png")
    fails(root, r"no picture in .* the mask of a\.jpg would be .*a\.png \('a_mask\.png' is there")
    with pytest.raises(ValueError, match="no folder"):
        open_pairs(root / "images", root / "nowhere", CLASSES, COLORS)
