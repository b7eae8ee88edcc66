"""Masks whose values are no class indices: what is recognised, and what is left alone."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.folders import SIZE, fails, filled, opened, save_mask

from semiseg.data.numbering import FEW, check_derived


def smoothed(how, size, seed):
    """Discs of 255 on 0 as somebody's export leaves them, (H, W) uint8."""
    rng, mask = np.random.default_rng(seed), Image.new("L", (size, size))
    for _ in range(4):
        x, y = rng.integers(0, size, 2)
        radius = rng.integers(size // 8, size // 4)
        ImageDraw.Draw(mask).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    if how == "resized":
        return np.asarray(mask.resize((size * 3 // 2,) * 2, Image.Resampling.BICUBIC))
    file = BytesIO()
    mask.save(file, "JPEG", quality=how)
    return np.asarray(Image.open(file))


def shares(mask):
    values, counts = np.unique(mask, return_counts=True)
    return dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))


@pytest.mark.parametrize("count", [2, 10])
@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("how", [50, 75, 95, 100, "resized"])
def test_smoothed_masks_do_not_make_classes(tmp_path, how, size, count):
    masks = [shares(smoothed(how, size, seed)) for seed in range(count)]
    assert max(masks[0]) >= 254
    with pytest.raises(ValueError, match=r"would make 255 classes, of which \d+ hardly appear") as caught:
        check_derived(masks, tmp_path)
    assert "classes.txt" in str(caught.value)


def zipf(classes, masks, per_mask, seed=0):
    """Masks of a genuine set: blocks of a few classes each, some classes much rarer than others."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, classes + 1)
    for _ in range(masks):
        chosen = rng.choice(classes, per_mask, replace=False, p=weights / weights.sum())
        shares = rng.dirichlet(np.ones(per_mask))
        yield dict(zip(chosen.tolist(), shares.tolist(), strict=True))


@pytest.mark.parametrize(("classes", "masks", "per_mask"), [(150, 60, 9), (150, 12, 12), (64, 20, 4), (254, 400, 8)])
def test_genuine_sets_of_many_classes_are_taken(tmp_path, classes, masks, per_mask):
    for seed in range(5):
        check_derived([*zipf(classes, masks, per_mask, seed)], tmp_path)


@pytest.mark.parametrize("values", [(0, 1), (0, 3), (0, 2, 255), (1, 2, 3), (0, 2, 4), range(0, FEW, 2)])
def test_a_few_classes_are_taken_whichever_appear(tmp_path, values):
    check_derived([dict.fromkeys(values, 1 / len(values))], tmp_path)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ((0, 128), "0 -> 0, 128 -> 1"),
        ((0, 128, 255), "0 -> 0, 128 -> 1, 255 -> 2"),
        ((0, 127, 255), "0 -> 0, 127 -> 1, 255 -> 2"),
        ((0, 85, 170), "0 -> 0, 85 -> 1, 170 -> 2"),
    ],
)
def test_grey_levels_are_recognised(tmp_path, values, levels):
    filled(tmp_path)
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", values)
    fails(tmp_path, rf"no .*classes\.txt.*look like grey levels.*Write the classes' indices instead \({levels}\)")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    fails(tmp_path, rf"classes\.txt names 3 classes, 0 to 2.*grey levels.*\({levels}\)")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("values", [(0, 127, 255), (0, 64, 128, 192, 255), (40, 80, 255)])
def test_255_may_be_the_last_of_the_grey_levels(tmp_path, values, named):
    filled(tmp_path)
    if named:
        (tmp_path / "classes.txt").write_text("".join(f"class{number}\n" for number in range(len(values))))
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", values)
    last = len(values) - 1
    fails(
        tmp_path,
        rf"255 -> {last}\); 255 may be a class here: give it its index, {last}, too\. Left as it is, it is ign",
    )


def test_255_beside_a_grey_level_for_every_class_is_ignored(tmp_path):
    filled(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", (0, 127, 255))
    fails(tmp_path, r"\(0 -> 0, 127 -> 1\); 255 is ignored")


@pytest.mark.parametrize("values", [(0, 5), (0, 20), (0, 10, 20), (0, FEW - 1), (0, 5, 255), range(0, 100, 5), (2, 60)])
def test_classes_that_are_mostly_never_shown_are_not_derived(tmp_path, values):
    count = max({*values} - {255}) + 1
    levels = {value for value in values if value != 255}
    pattern = (
        rf"make {count} classes, of which {count - len(levels)} hardly .*grey levels.* If there are {count} classes"
    )
    with pytest.raises(ValueError, match=pattern):
        check_derived([dict.fromkeys(values, 1 / len(values))], tmp_path)


def test_what_is_said_of_a_smoothed_folder(tmp_path):
    filled(tmp_path)
    for index in range(10):
        mask = Image.fromarray(smoothed(75, 64, index))
        mask.save(tmp_path / f"masks/m{index}.png")
        Image.new("RGB", mask.size).save(tmp_path / f"images/m{index}.jpg")
    fails(
        tmp_path, r"They look smoothed, by JPEG or by resizing.*Export the masks anew as PNG.*If there are 255 classes"
    )
    (tmp_path / "classes.txt").write_text("a\nb\n")
    fails(tmp_path, r"classes\.txt names 2 classes, 0 to 1\. They look smoothed")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_masks_that_count_from_1_are_recognised(tmp_path, count):
    filled(tmp_path)
    names = [f"class{index}" for index in range(count)]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", range(1, count + 1))
    pattern = rf"classes\.txt names {count} classes, 0 to {count - 1}\. They count from 1: no mask holds 0\. Subtract 1"
    fails(tmp_path, pattern)
    (tmp_path / "classes.txt").write_text("\n".join(["background", *names]))
    assert opened(tmp_path).labeled.mask(0).max() == count


def test_one_mask_with_a_zero_is_another_mistake(tmp_path):
    filled(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", [1, 2, 3] if index else [0, 3])
    fails(tmp_path, r"m\d\.png holds 3 at \d+ pixels; expected 0\.\.2")


@pytest.mark.parametrize("named", [True, False])
def test_a_first_class_that_no_mask_shows_is_asked_about(tmp_path, named, caplog):
    filled(tmp_path)
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", [1, 2])
    if named:
        (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    opened(tmp_path)
    assert "1 of 3 classes are in no labelled or validation mask" in caplog.text
    assert "Do they count from 1? Class 0 is the first" in caplog.text


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ([0], r"show a single class, 0 \(a\): nothing can be learnt"),
        ([2], r"show a single class, 2 \(c\): nothing can be learnt"),
        ([0, 255], r"show a single class, 0 \(a\), and 255, which is ignored\. If 255 is a class, write"),
        ([255], "no labelled pixel"),
    ],
)
def test_masks_of_a_single_class_are_refused(tmp_path, values, pattern):
    filled(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", values)
    fails(tmp_path, pattern)


def test_classes_that_no_validation_image_shows_are_named(tmp_path, caplog):
    filled(tmp_path)
    save_mask(tmp_path / "masks/m0.png", [0, 1, 2])
    (tmp_path / "val.txt").write_text("m8\nm9\n")
    opened(tmp_path)
    assert "1 of 3 classes are in no validation mask (class_2): they cannot be scored" in caplog.text


def test_damage_hides_no_other_message(tmp_path):
    filled(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for index in range(10):
        save_mask(tmp_path / f"masks/m{index}.png", [1, 2, 3])
    (tmp_path / "masks/m4.png").write_bytes(b"broken")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "masks/m5.png")
    fails(tmp_path, r"masks/m\d\.png")
