"""Folders of one's own: lists, automatic splits and classes."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.folders import SIZE, fails, filled, lists_of, opened, save_image, save_mask

from semiseg.data.sets.folder import read_classes
from semiseg.data.splits import covering_order


@pytest.fixture
def root(tmp_path):
    return filled(tmp_path)


# Automatic splits


def test_without_lists_masks_decide_and_a_seeded_part_validates(root):
    lists = lists_of(opened(root))
    assert lists["unlabeled"] == {f"u{index}" for index in range(5)}
    assert lists["labeled"] | lists["val"] == {f"m{index}" for index in range(10)}
    assert len(lists["val"]) == 2
    assert "test" not in lists
    assert lists == lists_of(opened(root))
    assert any(lists != lists_of(opened(root, split_seed=seed)) for seed in (1, 2, 3))


def test_fewer_labels_leave_validation_alone_and_the_rest_unlabelled(root):
    few, more = (lists_of(opened(root, labeled_count=count)) for count in (3, 5))
    assert len(few["labeled"]) == 3
    assert few["labeled"] < more["labeled"]
    assert few["val"] == more["val"]
    assert len(few["unlabeled"]) == 5 + 10 - 2 - 3


def test_every_class_is_labelled_if_it_can_be(root):
    (root / "classes.txt").write_text("a\nb\nrare\n")
    save_mask(root / "masks/m7.png", [0, 2])
    for seed in range(10):
        assert "m7" in lists_of(opened(root, labeled_count=2, split_seed=seed))["labeled"]


def test_opening_a_folder_opens_no_mask_of_an_unlabelled_image(root):
    (root / "few.txt").write_text("m0\nm1\n")
    (root / "val.txt").write_text("m2\n")
    for index in range(3, 10):
        (root / f"masks/m{index}.png").write_bytes(b"broken")
    dataset = opened(root, labeled="few.txt")
    assert len(dataset.unlabeled) == 12
    with pytest.raises(ValueError, match="have no masks"):
        dataset.unlabeled.mask(0)


def test_of_a_binary_set_class_1_is_labelled_if_it_can_be(root):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 255] if index == 4 else [0])
    for seed in range(5):
        assert lists_of(opened(root, labeled_count=1, split_seed=seed))["labeled"] == {"m4"}


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.frozensets(st.integers(0, 5)), min_size=1),
    st.integers(0, 3),
)
def test_a_covering_order_shows_every_class_first(present, seed):
    order = covering_order(present, seed)
    assert sorted(order) == sorted(present)
    every = frozenset().union(*present.values())
    # As soon as an image adds nothing, nothing is missing.
    shown = frozenset()
    for name in order:
        if present[name] <= shown:
            break
        shown |= present[name]
    assert shown == every


# Lists


def test_a_line_is_a_stem_a_file_name_or_a_path(root):
    save_image(root / "images/deep/er/x.y.png")
    save_mask(root / "masks/deep/er/x.y.png", [0, 1])
    (root / "l.txt").write_text("# labelled\n\nm0\nm1.jpg\nimages/m2.jpg\n  deep/er/x.y.png", encoding="utf-8-sig")
    (root / "v.txt").write_text("m9\n")
    dataset = opened(root, labeled="l.txt", val="v.txt")
    assert list(dataset.labeled.names) == ["m0", "m1", "m2", "deep/er/x.y"]
    assert dataset.labeled.mask(3).shape == SIZE
    assert len(dataset.unlabeled) == 16 - 5


def test_a_bare_name_finds_a_nested_image_unless_two_have_it(root):
    for city in ("rome", "oslo"):
        save_image(root / f"images/{city}/x.png")
    save_image(root / "images/rome/y.png")
    (root / "v.txt").write_text("m9\n")
    (root / "u.txt").write_text("y\nrome/x\n")
    assert lists_of(opened(root, unlabeled="u.txt", val="v.txt"))["unlabeled"] == {"rome/y", "rome/x"}
    (root / "u.txt").write_text("x\n")
    fails(root, r"u\.txt names 'x', which may be oslo/x or rome/x", unlabeled="u.txt", val="v.txt")


def test_a_whole_path_outranks_a_nested_namesake(root):
    save_image(root / "images/deep/u0.png")
    (root / "u.txt").write_text("u0\nu1.png\n")
    assert lists_of(opened(root, unlabeled="u.txt"))["unlabeled"] == {"u0", "u1"}


def test_lists_are_looked_up_in_the_root_then_in_the_current_folder(root, tmp_path_factory, monkeypatch):
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    (here / "l.txt").write_text("m0\n")
    assert lists_of(opened(root, labeled="l.txt"))["labeled"] == {"m0"}
    (root / "l.txt").write_text("m1\n")
    assert lists_of(opened(root, labeled="l.txt"))["labeled"] == {"m1"}
    fails(root, rf"no list file 'no\.txt': neither {re.escape(str(root))}.*no\.txt nor .*here", labeled="no.txt")


def test_usual_lists_in_the_root_are_taken(root):
    (root / "val.txt").write_text("m0\nm1\nm2\n")
    (root / "test.txt").write_text("m3\n")
    lists = lists_of(opened(root))
    assert lists["val"] == {"m0", "m1", "m2"}
    assert lists["test"] == {"m3"}
    assert lists["labeled"] == {f"m{index}" for index in range(4, 10)}


def test_validation_is_drawn_from_masks_nobody_uses_else_from_the_labelled(root):
    (root / "l.txt").write_text("m0\nm1\nm2\nm3\nm4\n")
    (root / "u.txt").write_text("m5\nm6\nm7\nm8\nu0\n")
    lists = lists_of(opened(root, labeled="l.txt", unlabeled="u.txt"))
    assert lists["val"] == {"m9"}
    assert len(lists["labeled"]) == 5
    (root / "u.txt").write_text("m5\nm6\nm7\nm8\nm9\n")
    dataset = opened(root, labeled="l.txt", unlabeled="u.txt")
    lists = lists_of(dataset)
    assert len(lists["val"]) == 1
    assert lists["val"] | lists["labeled"] == {f"m{index}" for index in range(5)}
    assert dataset.split["labeled"]["name"] == "l.txt, less val"


def test_the_split_record_identifies_the_lists(root):
    (root / "l.txt").write_text("m1\nm0")
    record = opened(root, labeled="l.txt").split
    # printf 'm0\nm1\n' | sha256sum: the order in the list and the missing line end do not matter
    sha256 = "a7418dc1513b0c3e1c90405f010d08173b49b1aadbbe7b5d8b2051fb4d4c0dda"
    assert record["labeled"] == {"name": "l.txt", "sha256": sha256, "count": 2, "source": None, "file_sha256": None}
    assert record["val"]["name"] == "automatic, seed 0"
    assert set(record) == {"labeled", "unlabeled", "val"}


# Classes


def test_classes_are_derived_from_the_masks(root):
    save_mask(root / "masks/m4.png", [0, 3, 255])
    dataset = opened(root)
    assert dataset.classes == ("class_0", "class_1", "class_2", "class_3")
    assert len(set(dataset.colors)) == 4


def test_0_and_255_are_two_classes_only_if_no_mask_says_otherwise(root, caplog):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 255])
    with caplog.at_level(logging.WARNING):
        dataset = opened(root)
    assert dataset.classes == ("class_0", "class_1")
    assert set(np.unique(dataset.labeled.mask(0))) == {0, 1}
    assert dataset.binary
    assert len([record for record in caplog.records if "255 is read as class 1" in record.message]) == 1

    caplog.clear()
    (root / "classes.txt").write_text("background\ncell\n")
    (root / "val.txt").write_text("m9\n")
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 1, 255])
    save_mask(root / "masks/m0.png", [0])
    save_mask(root / "masks/m9.png", [0, 1])
    dataset = opened(root)
    assert set(np.unique(dataset.labeled.mask(1))) == {0, 1, 255}
    assert not dataset.binary
    assert not caplog.records


def test_colour_coded_masks_follow_classes_txt(root):
    (root / "classes.txt").write_text("the road 128 64 128\nsky 70 130 180\nignore 0 0 0\n")
    pixels = np.resize(np.array([[70, 130, 180], [0, 0, 0], [128, 64, 128]], dtype=np.uint8), (*SIZE, 3))
    for index in range(10):
        Image.fromarray(pixels).save(root / f"masks/m{index}.png")
    dataset = opened(root)
    assert dataset.classes == ("the road", "sky")
    assert dataset.colors == ((128, 64, 128), (70, 130, 180))
    assert dataset.labeled.mask(0).ravel()[:4].tolist() == [1, 255, 0, 1]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("only\n", r"classes\.txt names 1 classes; expected 2 to 255"),
        ("a\nb\na\n", r"classes\.txt has a more than once"),
        ("a 1 1 1\nb\n", r"classes\.txt gives only some of its classes a colour"),
        ("a 1 1 1\nb 1 1 1\n", r"classes\.txt has \(1, 1, 1\) more than once"),
        ("a 1 1 1\nb 1 1 300\n", r"classes\.txt: 'b 1 1 300' has a colour beyond 255"),
        ("a\nb\nignore\n", r"classes\.txt has a line `ignore` without a colour"),
    ],
)
def test_a_wrong_classes_file_is_refused(tmp_path, text, pattern):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=pattern):
        read_classes(tmp_path / "classes.txt")


# Real data, where there are some


@pytest.mark.parametrize(("name", "split", "counts"), [("camvid", 46, (46, 321, 101)), ("nuclei", 12, (12, 386, 100))])
def test_real_data(name, split, counts):
    found = [parent / "shared/data" / name for parent in Path(__file__).parents]
    root = next((path for path in found if path.is_dir()), None)
    if root is None:
        pytest.skip(f"no folder shared/data/{name} beside the checkout")
    lists = {kind: f"splits/{split}/{kind}.txt" for kind in ("labeled", "unlabeled")}
    dataset = opened(root, **lists)
    assert (len(dataset.labeled), len(dataset.unlabeled), len(dataset.val)) == counts
    assert dataset.classes == tuple((root / "classes.txt").read_text().split())
    assert {*np.unique(dataset.labeled.mask(0))} <= {*range(len(dataset.classes)), 255}
    assert dataset.labeled.image(0).shape[:2] == dataset.labeled.mask(0).shape


# What is read at once


def test_every_mask_is_looked_at_before_training(root):
    save_mask(root / "masks/m9.png", [0, 1])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "masks/m9.png")
    (root / "val.txt").write_text("m8\nm9\n")
    fails(root, r"m9\.png")


def test_a_list_without_a_labelled_pixel_is_refused(root):
    (root / "classes.txt").write_text("a\nb\nc\n")
    (root / "val.txt").write_text("m8\nm9\n")
    for name in ("m8", "m9"):
        save_mask(root / f"masks/{name}.png", [255])
    fails(
        root, r"masks of the val images \(val\.txt\) have no labelled pixel.*Draw their classes, or name other images"
    )


def test_classes_that_no_mask_shows_are_named(root, caplog):
    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    opened(root)
    assert "2 of 4 classes are in no labelled or validation mask (c, d)" in caplog.text


def test_gaps_among_derived_classes_are_noticed(root, caplog):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 1, 2, 5])
    opened(root)
    assert "2 of 6 classes are in no labelled or validation mask (class_3, class_4)" in caplog.text


# What 255 means -------------------------------------------------------------------------------------------------------


def border(share):
    """Values of a mask of 48 pixels with a 0, and 255 at that share."""
    return [*[255] * round(48 * share), *[0] * (48 - round(48 * share))]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("ones", [[0, 1], [0, 1, 255], [1]])
@pytest.mark.parametrize("count", [1, 5])
def test_masks_of_0_and_255_beside_masks_with_a_1_are_refused(root, named, ones, count):
    if named:
        (root / "classes.txt").write_text("background\ncell\n")
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", ones if index < count else [0, 255])
    fails(
        root,
        rf"{10 - count} of 10 masks hold no 1, and 255 at 1% .* such as \S+m\d\.png; {count} hold a 1, such as "
        r"\S+m\d\.png\. 255 would be ignored .*write 255 for each 1, or 1 for each 255.*`ignore 255 255 255`",
    )


def test_of_such_masks_the_line_ignore_says_what_255_means(root):
    (root / "classes.txt").write_text("background 0 0 0\ncell 255 0 0\nignore 255 255 255\n")
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 255] if index else [0, 1, 255])
    (root / "val.txt").write_text("m0\n")
    dataset = opened(root)
    assert not dataset.binary
    assert set(np.unique(dataset.labeled.mask(0))) == {0, 255}


def test_ignored_pixels_where_255_is_rare_or_thin_are_no_contradiction(root, caplog):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", border(0.004) if index % 2 else [0, 1, 255])
    assert not opened(root).binary
    assert caplog.text == ""


def test_a_few_masks_that_may_mean_255_otherwise_are_named(root, caplog):
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 255] if index < 3 else [0, 1])
    assert not opened(root).binary
    assert "3 of 10 masks hold no 1, and 255 at 1%" in caplog.text
    assert "where it stands for class 1, write 1" in caplog.text


def test_of_more_classes_255_has_one_meaning(root, caplog):
    (root / "classes.txt").write_text("a\nb\nc\n")
    for index in range(10):
        save_mask(root / f"masks/m{index}.png", [0, 255] if index % 2 else [0, 1, 2])
    assert not opened(root).binary
    assert "255" not in caplog.text


def test_masks_that_belong_to_no_image_are_noticed(root, caplog):
    opened(root)
    assert caplog.text == ""
    save_mask(root / "masks/m3_mask.png", [0, 1])
    opened(root)
    assert "1 files in" in caplog.text
    assert "m3_mask.png" in caplog.text
