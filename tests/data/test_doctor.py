"""The check of a folder: each fault is named with its file and repair, and a clean folder gives no finding."""

import json
import logging
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter
from support.own_folders import HEIGHT, LAYOUTS, MORE, NAMES, WIDTH, mask, picture, save, write
from support.picture_files import deep_png

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.doctor import looks
from semiseg.data.doctor.examine import check_before_training, examine, repair
from semiseg.data.sets.data_file import read_meaning

FEW = "few-validate"  # two of twelve validate: a fact, no fault


def kinds(found):
    return [finding.kind for finding in found.findings if finding.kind != FEW]


def examined(root, **options):
    return examine(DataOptions(root=root, **options))


def each_mask(root, change):
    for seed, name in enumerate(NAMES):
        made = change(mask(seed))
        save(made, root / f"masks/{name}.png") if isinstance(made, np.ndarray) else made.save(
            root / f"masks/{name}.png"
        )


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_clean_folder_in_every_layout_gives_no_finding_and_is_read(tmp_path, layout, caplog):
    LAYOUTS[layout](tmp_path)
    found = examined(tmp_path)
    assert (kinds(found), found.exit_code) == ([], 0)
    assert [each.images for each in found.classes] == [12, 12]
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(found.options)
    assert caplog.messages == []
    assert {name: tuple(images.names) for name, images in dataset.image_sets.items()} == found.split
    assert len(dataset.labeled) + len(dataset.val) == 12
    assert len(dataset.unlabeled) == 6
    for images in (dataset.labeled, dataset.val):
        for place, name in enumerate(images.names):
            seed = NAMES.index(next(tree for tree in NAMES if name.endswith(tree)))
            assert np.array_equal(images.mask(place), mask(seed))
            assert np.abs(images.image(place).astype(int) - picture(seed)).mean() < 12
    if "train" in layout:
        assert {name.split("/")[-1].split(".")[0] for name in dataset.val.names} == {*NAMES[8:]}


def test_the_standard_layout_wins_and_a_second_folder_of_masks_is_named(tmp_path):
    write(tmp_path)
    save(mask(1), tmp_path / "labels/ash.png")
    assert kinds(examined(tmp_path)) == ["two-mask-folders"]


def test_no_mask_of_an_unlabelled_image_is_opened(tmp_path, monkeypatch):
    write(tmp_path)
    (tmp_path / "few.txt").write_text("\n".join(NAMES[:4]))
    (tmp_path / "val.txt").write_text("\n".join(NAMES[4:6]))
    for name in NAMES[6:]:
        (tmp_path / f"masks/{name}.png").write_bytes(b"never to be opened")
    found = examined(tmp_path, labeled="few.txt")
    assert kinds(found) == []
    assert len(found.split["unlabeled"]) == 6 + 6


# Faults


def palettes(root):
    def change(made):
        swapped = made[8, 6] == 1  # in some
        picture = Image.fromarray(1 - made if swapped else made)
        picture.putpalette([200, 0, 0, 0, 0, 0] if swapped else [0, 0, 0, 200, 0, 0])
        return picture

    each_mask(root, change)


def in_colors(made):
    return np.array([[10, 20, 30], [200, 0, 0]], np.uint8)[made]


def smoothed(made):
    blurred = Image.fromarray(255 * made).filter(ImageFilter.GaussianBlur(3))
    return np.asarray(blurred)


def turned(root, orientation, size=None):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = picture(0) if size is None else picture(0)[:size, :size]
    save(pixels, root / "images/ash.jpg", exif=exif)


def pages(root):
    several = [Image.fromarray(picture(seed)) for seed in (0, 50)]
    (root / "images/ash.jpg").unlink()
    several[0].save(root / "images/ash.tif", save_all=True, append_images=several[1:])


def rename(root, old, new):
    (root / old).rename(root / new)


def frames(root):
    for path in (*root.glob("images/*"), *root.glob("masks/*")):
        path.unlink()
    scene = np.roll(np.concatenate([picture(7)] * 2, axis=1), 0, axis=1)
    for number in range(10):
        save(np.ascontiguousarray(scene[:, number : number + WIDTH]), root / f"images/film_{number:04d}.png")
        save(mask(number), root / f"masks/film_{number:04d}.png")
    for seed, name in enumerate(MORE, 100):
        save(picture(seed), root / f"images/{name}.jpg")


def rare_class(root):
    (root / "classes.txt").write_text("soil\nleaf\npest\n")
    (root / "val.txt").write_text("ash\nelm\n")
    save(mask(2, 3), root / "masks/cedar.png")


def specks(root):
    made = np.zeros((HEIGHT, WIDTH), np.uint8)
    made[::8, ::8] = 1
    each_mask(root, lambda _: made)


def lists_of_val(root, names):
    (root / "val.txt").write_text("\n".join(names))


FAULTS = {
    # name: (what is done to a clean folder, kind, exit code, what the words name)
    "0 and 255": (lambda r: each_mask(r, lambda m: 255 * m), "binary-masks", 1, "data.yaml"),
    "0 and 255, named": (
        lambda r: ((r / "classes.txt").write_text("soil\nleaf\n"), each_mask(r, lambda m: 255 * m)),
        "binary-masks", 1, "data.yaml",
    ),
    "colours": (lambda r: each_mask(r, in_colors), "colour-masks", 2, r"\(10 20 30\)"),
    "black and white in colours": (
        lambda r: each_mask(r, lambda m: np.repeat(255 * m[..., None], 3, 2)), "colour-masks", 2, r"\(255 255 255\)",
    ),
    "a colour no class has": (
        lambda r: ((r / "classes.txt").write_text("soil 10 20 30\nleaf 9 9 9\n"), each_mask(r, in_colors)),
        "unknown-colours", 2, r"\(200 0 0\).*masks/ash\.png",
    ),
    "smoothed colours": (
        lambda r: each_mask(r, lambda m: np.repeat(smoothed(m)[..., None], 3, 2)),
        "smoothed-colour-masks", 2, "without",
    ),
    "some masks in colour": (
        lambda r: save(in_colors(mask(0)), r / "masks/ash.png"), "mixed-masks", 2, r"masks/ash\.png",
    ),
    "palettes that differ": (palettes, "palettes-differ", 1, "index 0"),
    "from 1": (lambda r: each_mask(r, lambda m: m + 1), "masks-count-from-1", 1, "no 0"),
    "from 1, named": (
        lambda r: ((r / "classes.txt").write_text("soil\nleaf\n"), each_mask(r, lambda m: m + 1)),
        "masks-count-from-1", 2, "Subtract 1",
    ),
    "grey levels": (
        lambda r: each_mask(r, lambda m: np.array([0, 127], np.uint8)[m]), "grey-level-masks", 2, "0 -> 0, 127 -> 1",
    ),
    "values with gaps": (lambda r: each_mask(r, lambda m: 3 * m), "gaps", 1, "1, 2"),
    "smoothed": (lambda r: each_mask(r, smoothed), "smoothed-masks", 2, "without smoothing"),
    "a value no class has": (
        lambda r: ((r / "classes.txt").write_text("soil\nleaf\n"), save(mask(3, 4), r / "masks/elm.png")),
        "unknown-values", 2, r"masks/elm\.png",
    ),
    "values of 16 bits": (
        lambda r: each_mask(r, lambda m: m.astype(np.uint16) * 1000), "unknown-values", 2, "data.yaml",
    ),
    "one class": (lambda r: each_mask(r, np.zeros_like), "one-class", 2, "0 alone"),
    "255 of two meanings": (
        lambda r: [save(255 * mask(seed), r / f"masks/{NAMES[seed]}.png") for seed in (1, 2)],
        "two-meanings", 1, r"birch|cedar",
    ),
    "nothing drawn": (
        lambda r: (
            write(r, classes=3), save(np.full((HEIGHT, WIDTH), 255, np.uint8), r / "masks/ash.png"),
        ),
        "nothing-drawn", 1, r"ash\.png",
    ),
    "a mask without an image": (
        lambda r: save(mask(0), r / "masks/ghost.png"), "unpaired", 1, r"masks/ghost\.png",
    ),
    "capitals": (lambda r: rename(r, "masks/ash.png", "masks/Ash.png"), "unpaired", 1, "did you mean ash.png"),
    "a JPEG mask": (
        lambda r: ((r / "masks/ash.png").unlink(), save(mask(0), r / "masks/ash.jpg")),
        "jpeg-masks", 1, r"masks/ash\.jpg",
    ),
    "no masks": (lambda r: [path.unlink() for path in r.glob("masks/*")], "no-masks", 2, r"masks/\w+\.png"),
    "one mask": (lambda r: [path.unlink() for path in sorted(r.glob("masks/*"))[1:]], "too-few-masks", 2, "2 or more"),
    "another size": (
        lambda r: save(mask(0)[:40], r / "masks/ash.png"), "sizes-differ", 2, r"masks/ash\.png is 64 x 40",
    ),
    "turned by EXIF": (lambda r: turned(r, 6), "sizes-differ", 2, r"the other way round.*EXIF"),
    "upside down by EXIF": (lambda r: turned(r, 3), "orientation", 1, r"images/ash\.jpg"),
    "cut short": (
        lambda r: (r / "images/ash.jpg").write_bytes((r / "images/ash.jpg").read_bytes()[:300]),
        "damaged", 2, r"ash\.jpg.*restore",
    ),
    "an unlabelled one damaged": (
        lambda r: (r / "images/holly.jpg").write_bytes(b"\xff\xd8\xff"), "damaged", 2, r"holly\.jpg",
    ),
    "a damaged mask": (lambda r: (r / "masks/oak.png").write_bytes(b""), "damaged", 2, r"oak\.png.*empty"),
    "several pages": (pages, "several-pages", 2, r"ash\.tif has 2 pages"),
    "alpha": (
        lambda r: save(np.dstack([picture(100), np.full((HEIGHT, WIDTH), 9, np.uint8)]), r / "images/alder2.png"),
        "alpha", 1, r"images/alder2\.png",
    ),
    "CMYK": (
        lambda r: Image.fromarray(picture(0)).convert("CMYK").save(r / "images/ash.jpg"), "cmyk", 1, r"images/ash\.jpg",
    ),
    "the same file in train and val": (
        lambda r: (
            lists_of_val(r, ["ash", "elm"]), (r / "images/copy.jpg").write_bytes((r / "images/ash.jpg").read_bytes()),
        ),
        "duplicates-across", 1, "ash = copy",
    ),
    "nearly the same in train and val": (
        lambda r: (lists_of_val(r, ["ash", "elm"]), save(picture(0)[::2, ::2], r / "images/small.jpg", quality=60)),
        "near-duplicates", 1, r"ash \(scored\) and small",
    ),
    "one film in train and val": (frames, "video-frames", 1, r"film_\*"),
    "one picture, two masks": (
        lambda r: (
            (r / "images/copy.jpg").write_bytes((r / "images/ash.jpg").read_bytes()),
            save(mask(4), r / "masks/copy.png"), lists_of_val(r, ["elm", "fir"]),
        ),
        "masks-contradict", 1, "ash = copy",
    ),
    "a class that is not validated": (rare_class, "class-not-in-val", 1, "pest"),
    "a class that is nowhere": (
        lambda r: (r / "classes.txt").write_text("soil\nleaf\nstone\n"), "absent-classes", 1, "stone",
    ),
    "specks": (specks, "tiny-objects", 1, "class_1"),
    "two layouts": (
        lambda r: (rename(r, "masks", "labels"), save(mask(0), r / "gt/ash.png")), "two-layouts", 2, "labels/ or .*gt/",
    ),
    "two pictures of one name": (lambda r: save(picture(3), r / "images/ash.png"), "same-name", 2, r"ash\.jpg and"),
    "another format": (lambda r: (r / "images/new.heic").write_bytes(b"x"), "other-formats", 1, r"new\.heic"),
    "no image without mask": (
        lambda r: [(r / f"images/{name}.jpg").unlink() for name in MORE], "no-unlabelled", 1, "supervised",
    ),
    "a foreign key in data.yaml": (
        lambda r: (r / "data.yaml").write_text("classes: [a, b]\ncolours: 3\n"), "classes-file", 2, "colours",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file_and_repair_and_by_its_kind_only(tmp_path, fault):
    write(tmp_path)
    spoil, kind, code, words = FAULTS[fault]
    spoil(tmp_path)
    found = examined(tmp_path)
    assert (kinds(found), found.exit_code) == ([kind], code)
    (finding,) = (each for each in found.findings if each.kind == kind)
    assert re.search(words, finding.words, re.DOTALL), finding.words
    assert finding.level == {1: "warning", 2: "error"}[code]
    assert json.loads(json.dumps(found.to_dict()))["findings"][0]["kind"] == kind
    if code == 2:
        with pytest.raises(ValueError, match=words):
            check_before_training(found.options)


def test_images_of_16_bits_are_facts_or_refused_in_words(tmp_path):
    write(tmp_path)
    (tmp_path / "images/ash.jpg").unlink()
    (tmp_path / "images/ash.png").write_bytes(deep_png(256 * picture(0).astype(np.uint16)))
    found = examined(tmp_path)
    assert next(image for image in found.images if image.id == "ash").dtype == "uint16"
    assert {*kinds(found)} <= {"deep-pixels", "mixed-bands"}
    assert found.exit_code > 0


# Repairs


@pytest.mark.parametrize(
    "fault",
    ["0 and 255", "0 and 255, named", "colours", "from 1", "from 1, named", "grey levels",
     "values with gaps", "values of 16 bits", "black and white in colours"],
)  # fmt: skip
def test_what_fix_writes_makes_the_masks_right_and_the_folder_clean(tmp_path, fault):
    write(tmp_path)
    FAULTS[fault][0](tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert len(repair(DataOptions(root=tmp_path))) == 1
    assert {path: path.read_bytes() for path in before} == before
    found = examined(tmp_path)
    assert kinds(found) == []
    dataset = open_dataset(found.options)
    for images in (dataset.labeled, dataset.val):
        for place, name in enumerate(images.names):
            assert np.array_equal(images.mask(place), mask(NAMES.index(name))), name


def test_fix_keeps_what_a_file_held(tmp_path):
    write(tmp_path)
    FAULTS["a colour no class has"][0](tmp_path)
    old = (tmp_path / "classes.txt").read_text()
    (done,) = repair(DataOptions(root=tmp_path))
    assert "classes.txt.before-1" in done
    assert (tmp_path / "classes.txt.before-1").read_text() == old
    assert read_meaning(tmp_path).classes == ("soil", "leaf", "class_2")


def test_0_and_255_are_read_right_without_any_edit(tmp_path):
    write(tmp_path)
    FAULTS["0 and 255"][0](tmp_path)
    dataset = open_dataset(DataOptions(root=tmp_path))
    assert {*np.unique(dataset.labeled.mask(0)).tolist()} == {0, 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("values: {0: soil, 255: leaf}", "names no classes"),
        ("classes: [soil, leaf]\nvalues: {0: soil, 255: loaf}", "'loaf'"),
        ("classes: [soil, leaf]\nvalues: {0: 0, 70000: 1}", "70000"),
        ("classes: [soil]", "1 of them"),
        ("classes: soil", "a list of names"),
        ("classes: [soil, leaf]\ncolors: {soil: [0, 0, 0]}", "leaf"),
        ("classes: [soil, leaf]\ncolors: {soil: [0, 0], leaf: [1, 1, 1]}", "red, green, blue"),
        ("classes: [soil, leaf]\npalette: yes", "indices or colors"),
        ("classes: [soil, leaf]\nignore: -1", "a whole number"),
        ("classes: [soil, leaf]\nvalues: {0: 0, 1: 1}\nignore: 1", "no class's"),
    ],
)
def test_a_wrong_data_yaml_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml.*{words}"):
        read_meaning(tmp_path)


def test_another_programs_data_yaml_is_passed_over(tmp_path):
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: [a, b]\n")
    assert read_meaning(tmp_path).classes == ()


def test_values_may_be_left_out_by_data_yaml(tmp_path):
    write(tmp_path, classes=3)
    (tmp_path / "data.yaml").write_text("classes: [soil, leaf]\nvalues: {0: soil, 1: leaf}\nignore: 2\n")
    found = examined(tmp_path)
    assert kinds(found) == []
    assert {*np.unique(open_dataset(found.options).labeled.mask(0)).tolist()} == {0, 1, 255}


# What is remembered


def test_a_second_look_opens_no_file_and_a_changed_one_is_seen(tmp_path, monkeypatch):
    write(tmp_path)
    first = examined(tmp_path)
    opened = []
    real = looks.read_image
    monkeypatch.setattr(looks, "read_image", lambda path, *more: opened.append(path.name) or real(path, *more))
    assert examined(tmp_path).findings == first.findings
    assert opened == []
    save(picture(55), tmp_path / "images/ash.jpg")
    examined(tmp_path)
    assert opened == ["ash.jpg"]


def test_a_damaged_memory_is_as_none(tmp_path):
    write(tmp_path)
    first = examined(tmp_path)
    for text in ("{", "[]", '{"version": 1, "looks": {"a": 3}}', '{"version": 1}'):
        looks.Looks(tmp_path).file.write_text(text)
        assert examined(tmp_path) == first


# Before a training


def test_damage_that_is_to_be_skipped_stops_nothing(tmp_path):
    write(tmp_path)
    FAULTS["an unlabelled one damaged"][0](tmp_path)
    check_before_training(DataOptions(root=tmp_path, on_error="skip"))
    assert examined(tmp_path, on_error="skip").exit_code == 1


def test_without_unlabelled_images_their_damage_does_not_matter(tmp_path, caplog):
    write(tmp_path)
    FAULTS["an unlabelled one damaged"][0](tmp_path)
    with caplog.at_level(logging.WARNING):
        check_before_training(DataOptions(root=tmp_path), use_unlabeled=False)
    assert caplog.messages == []
