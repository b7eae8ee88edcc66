"""Pictures and masks of one's own: paired by name, held against the model's classes before anything is predicted."""

import re
import unicodedata

import numpy as np
import pytest
from PIL import Image
from support.own_folders import LAYOUTS
from support.own_folders import NAMES as TREES
from support.own_folders import mask as own_mask

import semiseg
from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.layouts import find_layout
from semiseg.data.sets.two_folders import open_pairs

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


def test_masks_without_a_picture_are_named(root, caplog):
    save(root / "masks/in/d.png", np.resize([0, 1], SIZE))
    pairs = opened(root)
    assert sorted(pairs.images.names) == ["a", "b", "in/c"]
    assert "1 mask(s) in" in caplog.text
    assert "belong to no picture" in caplog.text
    assert "in/d.png" in caplog.text


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
        (root / f"masks/{name}.png").rename(root / f"masks/{name.upper()}.png".replace("IN/", "in/"))
    fails(root, r"no picture in .* the mask of a\.jpg would be .*a\.png \('A\.png' is there")
    with pytest.raises(ValueError, match="no folder"):
        open_pairs(root / "images", root / "nowhere", CLASSES, COLORS)


# As a dataset's folder ------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "in/c")
TWO = {"classes": CLASSES[:2], "colors": COLORS[:2]}


def draw(root, *values):
    """The masks of a, b and in/c: these values over and over, of each mask in turn."""
    for name, own in zip(NAMES, values * 3 if len(values) == 1 else values, strict=True):
        save(root / f"masks/{name}.png", np.resize(np.array(own), SIZE))


def seen(pairs):
    return [np.unique(pairs.images.mask(pairs.images.names.index(name))).tolist() for name in NAMES]


def test_of_more_than_two_classes_masks_of_0_and_255_alone_are_refused(root):
    draw(root, [0, 255])
    fails(root, r"all masks in .*masks show a single class, 0 \(sky\), and 255, which is ignored.*`ignore: 255`")
    (root / "data.yaml").write_text("ignore: 255\n")
    assert seen(opened(root)) == [[0, 255]] * 3


def test_of_two_classes_one_class_and_ignored_pixels_are_refused(root):
    draw(root, [1, 255])
    fails(root, r"show a single class, 1 \(road\), and 255", **TWO)


def test_masks_without_a_labelled_pixel_are_refused(root):
    draw(root, [255])
    fails(root, "have no labelled pixel: every value is 255")
    (root / "data.yaml").write_text("ignore: 255\n")
    fails(root, "have no labelled pixel: every value is 255")


@pytest.mark.parametrize("ones", [[0, 1], [0, 1, 255]])
def test_of_two_classes_most_masks_of_0_and_255_beside_a_1_are_refused(root, ones):
    draw(root, [0, 255], [0, 255], ones)
    fails(root, r"2 of 3 masks hold no 1, and 255 .* 1 hold a 1, such as .*c\.png.*seems to be class 1 in most", **TWO)
    (root / "data.yaml").write_text("ignore: 255\n")
    assert seen(opened(root, **TWO)) == [[0, 255], [0, 255], ones]


@pytest.mark.parametrize(
    ("given", "others", "pattern"),
    [
        (TWO, [0, 1], "1 of 3 masks hold no 1, .*a.png; 2 hold a 1, .*b.png.*for class 1, write 1"),
        ({}, [0, 1, 2], "1 of 3 masks hold no class above 0, .*a.png; 2 hold a class above 0, .*for a class, write"),
    ],
)
def test_a_few_masks_of_0_and_255_are_warned_of(root, caplog, given, others, pattern):
    draw(root, [0, 255], others, others)
    assert seen(opened(root, **given)) == [[0, 255], others, others]
    assert re.search(pattern, caplog.text)


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 1, 2, 255]])
def test_right_masks_are_taken_without_a_word(root, caplog, values):
    draw(root, values)
    opened(root)
    assert caplog.text == ""


@pytest.mark.parametrize(("values", "question"), [([1, 2], True), ([0, 1], False)])
def test_classes_in_no_mask_are_warned_of(root, caplog, values, question):
    draw(root, values)
    opened(root)
    assert "1 of 3 classes are in no mask" in caplog.text
    assert ("count from 1?" in caplog.text) == question


FILES = {
    "values": ("values: {10: tree, 20: road, 0: sky}", [0, 10, 20, 255], [0, 2, 1, 255]),
    "values and ignore": ("values: {10: tree, 20: road, 0: sky}\nignore: 9", [0, 10, 20, 9], [0, 2, 1, 255]),
    "ignore": ("ignore: 9", [0, 1, 2, 9], [0, 1, 2, 255]),
    "names": ("classes: [sky, road, tree]", [0, 1, 2, 255], [0, 1, 2, 255]),
    "colors": (
        "colors: {sky: [1, 1, 1], tree: [2, 2, 2], road: [3, 3, 3], ignore: [4, 4, 4]}",
        [[1] * 3, [2] * 3, [3] * 3, [4] * 3],
        [0, 2, 1, 255],
    ),
    "another program's": ("train: images\nnc: 3", [0, 1, 2, 255], [0, 1, 2, 255]),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("place", [".", "masks"])
def test_data_yaml_says_what_the_values_mean(root, place, kind):
    text, stored, meant = FILES[kind]
    (root / place / "data.yaml").write_text(text)
    order = np.arange(48).reshape(SIZE) % 4
    for name in NAMES:
        save(root / f"masks/{name}.png", np.array(stored)[order])
    assert (opened(root).images.mask(0) == np.array(meant)[order]).all()


@pytest.mark.parametrize("place", [".", "masks"])
def test_data_yaml_says_whether_a_palette_means_its_colours(root, place):
    order = np.arange(48).reshape(SIZE) % 3
    for name in NAMES:
        mask = Image.fromarray(order.astype(np.uint8), "P")
        mask.putpalette([part for color in (COLORS[2], COLORS[0], COLORS[1]) for part in color])
        mask.save(root / f"masks/{name}.png")
    assert (opened(root).images.mask(0) == order).all()
    (root / place / "data.yaml").write_text("palette: colors\n")
    assert (opened(root).images.mask(0) == np.array([2, 0, 1])[order]).all()


@pytest.mark.parametrize("place", [".", "masks"])
@pytest.mark.parametrize(("text", "class_"), [("[tree, road, sky]", 0), ("[sky, road]", 2)])
def test_data_yaml_must_name_the_models_classes_in_their_order(root, place, text, class_):
    (root / place / "data.yaml").write_text(f"classes: {text}\n")
    fails(root, rf"data\.yaml names \d classes and the model has 3.*class {class_} is .*name them so in data\.yaml")


def test_files_that_contradict_one_another_are_refused(root):
    (root / "data.yaml").write_text("values: {0: sky, 1: tree, 2: road}\n")
    (root / "masks/data.yaml").write_text("values: {0: sky, 1: road, 2: tree}\n")
    fails(root, "say differently what the masks in .*masks mean")
    (root / "masks/data.yaml").write_text("values: {0: sky, 1: tree, 2: road}\n")
    assert opened(root).images.mask(0)[0, :3].tolist() == [0, 2, 1]


@pytest.mark.parametrize("inside", ["images/PART masks/PART", "PART/images PART/masks", "images/PART labels/PART"])
@pytest.mark.parametrize("part", ["train", "val", "Validation", "test"])
def test_above_the_folders_of_lists_the_files_are_found(tmp_path, inside, part):
    images, masks = (tmp_path / each for each in inside.replace("PART", part).split())
    save(images / "a.jpg", np.full((*SIZE, 3), 90))
    save(masks / "a.png", np.resize([0, 10, 20], SIZE))
    (tmp_path / "data.yaml").write_text("classes: [sky, road, tree]\nvalues: {10: sky, 0: road, 20: tree}\n")
    assert open_pairs(images, masks, CLASSES, COLORS).images.mask(0)[0, :3].tolist() == [1, 0, 2]


def test_above_another_folder_they_are_another_datasets(tmp_path):
    save(tmp_path / "new/images/a.jpg", np.full((*SIZE, 3), 90))
    save(tmp_path / "new/masks/a.png", np.resize([0, 1, 2], SIZE))
    (tmp_path / "data.yaml").write_text("classes: [cat, dog]\n")
    assert len(open_pairs(tmp_path / "new/images", tmp_path / "new/masks", CLASSES, COLORS).images) == 1


@pytest.mark.parametrize("ending", ["_mask.png", "-label.png", "_gt.tif", ".png", ".tif", ".bmp", ".PNG"])
def test_masks_are_paired_as_in_a_datasets_folder(root, ending):
    for name in NAMES:
        (root / f"masks/{name}.png").unlink()
        save(root / f"masks/{name}{ending}", np.resize([0, 1, 2], SIZE))
    assert seen(opened(root)) == [[0, 1, 2]] * 3


@pytest.mark.parametrize("other", ["a_mask.png", "a.bmp", "a.tif", "a.txt"])
def test_name_png_is_taken_before_any_other(root, other):
    save(root / f"masks/{other.replace('txt', 'png')}.png", np.full(SIZE, 1))
    (root / f"masks/{other.replace('txt', 'png')}.png").rename(root / f"masks/{other}")
    assert seen(opened(root)) == [[0, 1, 2, 255]] * 3


@pytest.mark.parametrize(("image", "mask"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_normal_form_are_paired(root, image, mask):
    save(root / f"images/{unicodedata.normalize(image, 'forêt')}.jpg", np.full((*SIZE, 3), 90))
    save(root / f"masks/{unicodedata.normalize(mask, 'forêt')}.png", np.full(SIZE, 1))
    pairs = opened(root)
    assert (len(pairs.images), pairs.without_mask) == (4, ())
    at = pairs.images.names.index(unicodedata.normalize(image, "forêt"))
    assert pairs.images.mask(at).tolist() == np.full(SIZE, 1).tolist()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_one_folder_for_both_is_read_as_a_datasets_folder(tmp_path, kind):
    LAYOUTS[kind](tmp_path)
    images = open_pairs(tmp_path, tmp_path, ("back", "leaf"), COLORS[:2]).images
    found = {name.rpartition("/")[2]: index for index, name in enumerate(images.names)}
    assert sorted(found) == sorted(TREES)
    assert all((images.mask(found[name]) == own_mask(seed)).all() for seed, name in enumerate(TREES))


def test_one_folder_without_masks_is_refused(root):
    with pytest.raises(ValueError, match=r"The folder must hold images/NAME\.jpg .*masks/NAME\.png"):
        open_pairs(root / "images", root / "images", CLASSES, COLORS)
    for name in NAMES:
        (root / f"masks/{name}.png").unlink()
    with pytest.raises(ValueError, match=r"no picture in .* has a mask there\. It must hold images/NAME\.jpg with"):
        open_pairs(root, root, CLASSES, COLORS)


def test_what_is_left_out_of_one_folder_is_told(tmp_path, caplog):
    LAYOUTS["images/train"](tmp_path)
    (tmp_path / "masks/val/oak.png").unlink()
    assert len(open_pairs(tmp_path, tmp_path, ("back", "leaf"), COLORS[:2]).images) == len(TREES) - 1
    assert "such as val/oak, and are left out" in caplog.text


# Links to nothing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["images/b.jpg", "masks/b.png", "masks/in/c.png", "masks/other.tif"])
def test_a_link_to_nothing_is_refused_with_its_name(root, file):
    (root / file).unlink(missing_ok=True)
    (root / file).symlink_to("nowhere.png")
    words = re.escape(f"{root / file} is no file, but a link to nothing or the like. Restore or remove it")
    fails(root, words)
    with pytest.raises(ValueError, match=words):
        open_dataset(DataOptions(root=root))
    found = semiseg.check(root)
    assert found.exit_code == 2
    assert str(root / file) in found.findings[0].words


@pytest.mark.parametrize("kind", LAYOUTS)
def test_in_every_layout_a_mask_that_is_a_link_to_nothing_is_told(tmp_path, kind):
    LAYOUTS[kind](tmp_path)
    lost = next(iter(semiseg.check(tmp_path).masks.values()))
    lost.unlink()
    lost.symlink_to("nowhere.png")
    found = semiseg.check(tmp_path)
    assert found.exit_code == 2
    assert any(str(lost) in finding.words for finding in found.findings if finding.level == "error")
    if found.findings[0].kind == "unreadable":
        assert lost in open_pairs(tmp_path, tmp_path, ("back", "leaf"), COLORS[:2]).failed
    else:
        with pytest.raises(ValueError, match=re.escape(str(lost))):
            open_pairs(tmp_path, tmp_path, ("back", "leaf"), COLORS[:2])


def test_a_link_to_nothing_elsewhere_is_no_matter(root):
    (root / "masks/notes.txt").symlink_to("nowhere.txt")
    (root / "more").mkdir()
    (root / "more/b.png").symlink_to("nowhere.png")
    assert len(opened(root).images) == 3
    assert find_layout(root).masked == ["a", "b", "in/c"]
