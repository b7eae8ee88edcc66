"""Folders of one's own: what is wrong with them, in words."""

import numpy as np
import pytest
from PIL import Image
from support.folders import SIZE, fails, filled, lists_of, opened, save_image, save_mask


@pytest.fixture
def root(tmp_path):
    return filled(tmp_path)


def test_missing_folders_and_images(tmp_path):
    fails(tmp_path, r"no folder .*images\. The folder must hold images/NAME\.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/notes.doc").touch()
    fails(tmp_path, r"no images in .*images; expected files ending in \.jpg")


def test_masks_of_other_names(root):
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_drawn.png"))
    fails(root, r"no image in .*images has a mask.*such as masks/m0_drawn\.png.*the mask of m0\.jpg is masks/m0\.png")


def test_a_labelled_image_without_mask(root):
    (root / "l.txt").write_text("m0\nu1\n")
    fails(root, r"1 image.*no mask; the first is .*u1\.png, whose mask would be .*masks.u1\.png\.", labeled="l.txt")
    (root / "masks/u1.jpg").touch()
    fails(root, r"u1\.png \(u1\.jpg is there, but masks must be PNG\)", labeled="l.txt")


def test_a_listed_image_that_is_not_there(root):
    (root / "l.txt").write_text("m0\nm77\n")
    fails(root, r"l\.txt names 'm77', but .*images has no such image; a line is a name like 'm0'", labeled="l.txt")


def test_two_images_of_one_name(root):
    save_image(root / "images/m0.png")
    fails(root, r"m0\.jpg and .*m0\.png have the same name")


def test_a_list_that_is_no_text(root):
    (root / "l.txt").write_bytes(b"\xff\xfe\x00m")
    fails(root, r"l\.txt is not a text file in UTF-8", labeled="l.txt")


@pytest.mark.parametrize(
    ("lists", "pattern"),
    [
        (
            {"labeled": "m0", "unlabeled": "m0", "val": "m1"},
            "in the labeled list .labeled_list.txt. and in the unlabeled list .unlabeled_list",
        ),
        ({"labeled": "m0", "val": "m0"}, "in the labeled list .labeled_list.txt. and in the val list .val_list.txt"),
        (
            {"unlabeled": "m0", "val": "m0"},
            "in the unlabeled list .unlabeled_list.txt. and in the val list .val_list.txt",
        ),
        ({"labeled": "m0\nm1\nm0", "val": "m2"}, "'m0' is twice in the labeled list .labeled_list.txt"),
        (
            {"labeled": "m0", "val": "m1", "test": "m0"},
            "in the labeled list .labeled_list.txt. and in the test list .test_list.txt",
        ),
        ({"labeled": "# none", "val": "m1"}, "there are no labeled images"),
        ({"labeled": "m0", "val": ""}, r"there are no val images \(val_list\.txt\)"),
        ({"unlabeled": "", "val": "m1"}, "there are no unlabeled images"),
    ],
)
def test_overlapping_and_empty_lists(root, lists, pattern):
    for name, text in lists.items():
        (root / f"{name}_list.txt").write_text(text)
    fails(root, pattern, **{name: f"{name}_list.txt" for name in lists})


def test_the_test_list_may_be_the_validation_list(root):
    (root / "v.txt").write_text("m0\n")
    assert lists_of(opened(root, val="v.txt", test="v.txt"))["test"] == {"m0"}


def test_everything_labelled_leaves_nothing_to_learn_from(root):
    for index in range(5):
        save_mask(root / f"masks/u{index}.png", [0, 1])
    fails(root, r"no unlabeled images.*--data\.labeled_count.*needs none$")
    for name in ("8", "4"):
        (root / "splits" / name).mkdir(parents=True)
        (root / "splits" / name / "labeled.txt").write_text("m0\n")
    fails(root, r"no unlabeled images.*choose a split that is there: --data\.labeled splits/4/labeled\.txt$")


def test_counts_that_cannot_be(root):
    fails(root, r"data\.labeled_count is 9, but .* has only 8 images with masks", labeled_count=9)
    (root / "l.txt").write_text("m0\n")
    fails(root, r"data\.labeled_count is for an automatic split", labeled_count=1, labeled="l.txt")
    for index in range(1, 10):
        (root / f"masks/m{index}.png").unlink()
    fails(root, r"has 1 image\(s\) with masks to share between training and validation")


def test_masks_with_one_class_or_too_many(root):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0])
    fails(root, r"no .*classes\.txt, and the highest class in the masks is 0")
    Image.fromarray(np.full(SIZE, 4000, dtype=np.uint16)).save(root / "masks/m3.png")
    fails(root, r"the highest class in the masks is 4000 \(in .*m3\.png\)")


def test_a_bad_mask_is_told_at_open_and_a_test_mask_when_it_is_read(root):
    (root / "classes.txt").write_text("a\nb\nc\n")
    (root / "l.txt").write_text("m0\nm1\nm2\nm3\n")
    (root / "val.txt").write_text("m9\n")
    (root / "test.txt").write_text("m8\n")
    save_mask(root / "masks/m8.png", [7])
    dataset = opened(root, labeled="l.txt")
    assert dataset.test is not None
    with pytest.raises(ValueError, match=r"m8\.png holds 7 at 48 pixels"):
        dataset.test.mask(0)
    for name in ("m9", "m3"):
        save_mask(root / f"masks/{name}.png", [7])
        fails(root, rf"{name}\.png holds 7 at 48 pixels", labeled="l.txt")


def test_training_images_are_scaled_and_scored_ones_are_not(root):
    dataset = opened(root, scale=0.5, cache=True)
    assert dataset.labeled.image(0).shape == dataset.unlabeled.image(0).shape == (3, 4, 3)
    assert dataset.labeled.mask(0).shape == (3, 4)
    assert dataset.val.image(0).shape == (6, 8, 3)


def test_a_published_split_is_not_for_folders(root):
    fails(root, "'u2pl/pascal/92'.*dataset 'folder': only voc and cityscapes", split="u2pl/pascal/92")
