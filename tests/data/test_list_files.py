"""Everything that is given as a list, a class file or a folder, and what is said of it."""

import os
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.folders import fails, filled, lists_of, opened, save_image, save_mask
from support.forbidden import forbid
from support.shard_files import QUIET

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.listing import MAX_DEPTH, files_below, picture_endings
from semiseg.data.sets.classes import read_classes
from semiseg.data.shards.index import index_shards
from semiseg.data.shards.write import write_shards
from semiseg.data.splits import listed_images
from semiseg.data.texts import text_lines

COMPOSED, APART = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    return filled(tmp_path)


# What is no list ------------------------------------------------------------------------------------------------------

CONTENTS = {
    "UTF-16": ("m0\nm1\n".encode("utf-16"), "it begins as UTF-16"),
    "UTF-16, big end first": (b"\xfe\xff\0m\0000", "it begins as UTF-16"),
    "UTF-16 without its mark": ("m0\nm1\n".encode("utf-16-le"), "it holds NUL bytes"),
    "UTF-32": (b"\0\0\xfe\xff\0\0\0m", "it begins as UTF-32"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it holds NUL bytes"),
    "Latin-1": ("m0\ncafé\n".encode("latin-1"), "byte 0xe9 in line 2 is none of UTF-8"),
    "NUL": (b"m0\0\nm1\n", "it holds NUL bytes"),
}


def plant(path, kind, monkeypatch):
    """Something that is no list; a pattern of what is said."""
    if kind in CONTENTS:
        path.write_bytes(CONTENTS[kind][0])
        return rf"{path.name} is not a text file in UTF-8: {CONTENTS[kind][1]}.*Save it as plain text in UTF-8"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a link to nothing":
        path.symlink_to(path.with_name("gone"))
    else:
        path.write_text("m0\nm1\n")
        forbid(monkeypatch, path)
    return {
        "a folder": rf"{path.name} is a folder; expected a text file",
        "a pipe": rf"{path.name} is no file, but a pipe, a device or the like",
        "a link to nothing": rf"{path.name} is a link to nothing",
        "without permission": rf"{path.name} may not be read: you have no permission .*chmod",
    }[kind]


KINDS = [*CONTENTS, "a folder", "a pipe", "a link to nothing", "without permission"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["labeled", "unlabeled", "val", "test"])
def test_what_is_no_list_is_refused_wherever_a_list_is_named(root, monkeypatch, kind, key):
    fails(root, plant(root / "l.txt", kind, monkeypatch), **{key: "l.txt"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["val.txt", "test.txt", "classes.txt"])
def test_nor_are_the_usual_files_of_a_folder_passed_over(root, monkeypatch, kind, name):
    fails(root, plant(root / name, kind, monkeypatch))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["train", "val", "trainaug"])
def test_nor_official_lists_of_voc(tmp_path, monkeypatch, kind, name):
    (tmp_path / "JPEGImages").mkdir()
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for other in {"train", "val", "trainaug"} - {name}:
        (lists / f"{other}.txt").write_text("m0\n")
    pattern = plant(lists / f"{name}.txt", kind, monkeypatch)
    with pytest.raises(ValueError, match=pattern):
        open_dataset(DataOptions(dataset="voc", root=tmp_path))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a folder"])
def test_nor_a_list_of_pictures_for_shards(root, tmp_path, monkeypatch, kind):
    pattern = plant(root / "l.txt", kind, monkeypatch)
    with pytest.raises(ValueError, match=pattern):
        write_shards(root / "l.txt", tmp_path / "shards", root=root, console=QUIET)


def test_a_list_that_nobody_has_is_missing_and_not_forbidden(root):
    for option in ("gone.txt", "classes.txt/l.txt"):
        fails(root, f"no list file {re.escape(repr(option))}: neither", labeled=option)
    with pytest.raises(ValueError, match=r"data\.labeled is 'm\\x00\.txt'; expected text"):
        DataOptions(labeled="m\0.txt")
    fails(root, "cannot be read: File name too long", labeled="x" * 5000)


# How a list may be written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"m0\nm1\n", b"m0\r\nm1", b"m0\rm1\r", b"\xef\xbb\xbfm0\n\xef\xbb\xbfm1", b"  m0 \t\n\n \t \nm1\t",
        b"#c\nm0\n # m1\nm1",
        b"images/m0.jpg\n./m1\n", b"m0\n# \xc3\xa9\nm1",
    ],
)  # fmt: skip
def test_editors_and_systems_write_the_same_list(root, content):
    (root / "l.txt").write_bytes(content)
    assert lists_of(opened(root, labeled="l.txt"))["labeled"] == {"m0", "m1"}


@pytest.mark.parametrize(
    "id_", ["#1", "# 2", "#", "deep/#3", "a b", " a", "a ", "a\t", "a\x85b", "a\u2028b", "a\\b", "#é"]
)
def test_any_name_of_a_picture_can_be_listed(root, id_):
    save_image(root / f"images/{id_}.png")
    for line in (id_, f"{id_}.png"):
        (root / "u.txt").write_text(f"# a comment\n{line}\n#2\n#m0\n", encoding="utf-8")
        assert lists_of(opened(root, unlabeled="u.txt"))["unlabeled"] == {id_}


@pytest.mark.parametrize("dataset", ["voc", "cityscapes"])
def test_a_number_sign_begins_a_name_in_benchmarks_too(tmp_path, dataset):
    ids = ["#1", "2"] if dataset == "voc" else ["#1/a/1", "train/b/2"]
    folders = ("JPEGImages", "SegmentationClass") if dataset == "voc" else ("leftImg8bit", "gtFine")
    image, mask = (".jpg", ".png") if dataset == "voc" else ("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
    for id_ in (*ids, f"{ids[1]}v", f"{ids[1]}u"):
        for folder, ending in zip(folders, (image, mask), strict=True):
            path = tmp_path / folder / f"{id_}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB" if folder == folders[0] else "L", (4, 2)).save(path)
    (tmp_path / "l.txt").write_text(f"#2\n{ids[0]}\n# comment\n{ids[1]}\n")
    (tmp_path / "v.txt").write_text(f"{ids[1]}v\n")
    (tmp_path / "u.txt").write_text(f"{ids[1]}u\n")
    lists = {"labeled": "l.txt", "val": "v.txt", "unlabeled": "u.txt"}
    found = open_dataset(DataOptions(dataset=dataset, root=tmp_path, **lists))
    assert list(found.labeled.names) == ids


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0\ufeff", exclude_categories=["Cs"]))))
def test_lines_are_what_lies_between_line_ends(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(end.join(lines).encode())
        assert text_lines(path) == (lines or [""])


@given(st.binary(max_size=40))
def test_whatever_the_bytes_a_list_is_read_or_refused_by_its_name(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.txt"
    path.write_bytes(content)
    for read in (listed_images, read_classes):
        message = message_of(read, path)
        assert message == "" or str(path) in message


def message_of(function, *arguments):
    """What a function says where it refuses; empty where it does not."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return ""


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("listed", "file"), [(COMPOSED, APART), (APART, COMPOSED), (COMPOSED, COMPOSED)])
@pytest.mark.parametrize("line", ["{}", "{}.png", "deep/{}", "images/deep/{}.png"])
def test_a_name_is_matched_however_its_accents_are_spelt(root, listed, file, line):
    save_image(root / f"images/deep/{file}.png")
    (root / "u.txt").write_text(line.format(listed), encoding="utf-8")
    assert lists_of(opened(root, unlabeled="u.txt"))["unlabeled"] == {f"deep/{file}"}


def test_two_files_that_differ_in_their_spelling_are_not_confused(root):
    for name in (COMPOSED, APART):
        save_image(root / f"images/{name}.png")
    if len(list((root / "images").glob("*.png"))) == 6:
        pytest.skip("this file system takes both for one")
    for name in (COMPOSED, APART):
        (root / "u.txt").write_text(name, encoding="utf-8")
        assert lists_of(opened(root, unlabeled="u.txt"))["unlabeled"] == {name}
    other = "o\u0302\u0323"  # in no normal form
    for form in ("NFC", "NFD"):
        save_image(root / f"images/{unicodedata.normalize(form, other)}.png")
    (root / "u.txt").write_text(other, encoding="utf-8")
    fails(root, r"which may be '.*\\u.*' or '.*' in .*: they differ in Unicode normalisation alone", unlabeled="u.txt")


@pytest.mark.parametrize(("image", "mask"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_a_mask_belongs_to_its_image_however_both_are_spelt(tmp_path, image, mask, caplog):
    filled(tmp_path)
    save_image(tmp_path / f"images/x/{image}.jpg")
    save_mask(tmp_path / f"masks/x/{mask}.png", [0, 1])
    (tmp_path / "l.txt").write_text(f"x/{mask}", encoding="utf-8")
    dataset = opened(tmp_path, labeled="l.txt")
    assert lists_of(dataset)["labeled"] == {f"x/{image}"}
    assert dataset.labeled.mask(0).max() == 1
    assert caplog.text == ""


def test_the_same_image_in_two_spellings_is_twice_in_a_list(root):
    save_image(root / f"images/{APART}.png")
    (root / "u.txt").write_text(f"{APART}\n{COMPOSED}", encoding="utf-8")
    fails(root, "is twice in the unlabeled list", unlabeled="u.txt")


@pytest.mark.parametrize(
    "line", ["M0", "m0.JPG", "M0.jpg", "m0.png", "images/M0", "/far/away/m0.jpg", "data/images/m0"]
)
def test_a_name_that_is_nearly_a_files_is_asked_about(root, line):
    (root / "l.txt").write_text(line)
    fails(root, r"l\.txt names '.*', but .*images has no such image; did you mean 'm0\.jpg'\? Add", labeled="l.txt")


def test_a_mask_in_other_letters_is_asked_about(root, caplog):
    (root / "masks/m3.png").rename(root / "masks/M3.png")
    opened(root)
    assert "such as M3.png (did you mean m3.png? Capitals matter)" in caplog.text


def test_a_benchmarks_file_in_other_letters_is_named(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages/A.jpg").touch()
    for name in ("l", "v"):
        (tmp_path / f"{name}.txt").write_text("a")
    with pytest.raises(ValueError, match=r"the first is .*a\.jpg \('A\.jpg' is there, which is spelt otherwise\)"):
        open_dataset(DataOptions(dataset="voc", root=tmp_path, labeled="l.txt", val="v.txt", unlabeled="v.txt"))


@pytest.mark.parametrize("place", ["images/{}.png", "images/{}/x.png"])
def test_names_that_are_no_text_are_refused_in_signs_that_can_be_printed(root, place):
    save_image(root / place.format(os.fsdecode(b"caf\xe9")))
    with pytest.raises(ValueError, match=r"'caf\\udce9.*has a name that is not in UTF-8.*Rename") as caught:
        opened(root)
    str(caught.value).encode()


# Folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [True, False])
def test_linked_folders_are_followed_and_loops_refused(tmp_path, once):
    def below():
        return files_below(tmp_path / "in", lambda _: True, once=once)

    for file in ("in/a.png", "far/b.png", "far/deep/c.png"):
        save_image(tmp_path / file)
    (tmp_path / "in/link").symlink_to(tmp_path / "far")
    assert below() == ["a.png", "link/b.png", "link/deep/c.png"]
    for there, target in (("in/loop", "in"), ("far/deep/back", "far"), ("far/deep/up", "in"), ("in/out", ".")):
        (tmp_path / there).symlink_to(tmp_path / target)
        with pytest.raises(
            ValueError, match=r"(is a link back to .*, in which it lies|are one folder).*Remove the link"
        ):
            below()
        (tmp_path / there).unlink()
    (tmp_path / "in/self").symlink_to("self")
    with pytest.raises(ValueError, match="in/self"):
        below()


def test_linked_masks_are_found(tmp_path, caplog):
    filled(tmp_path / "data")
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).rename(tmp_path / folder)
        (tmp_path / "data" / folder).mkdir()
        (tmp_path / "data" / folder / "linked").symlink_to(tmp_path / folder)
    lists = lists_of(opened(tmp_path / "data"))
    assert lists["labeled"] | lists["val"] == {f"linked/m{index}" for index in range(10)}
    (tmp_path / "data/masks/back").symlink_to(tmp_path / "data/masks")
    fails(tmp_path / "data", "masks/back is a link back to")


def test_a_folder_under_two_names_is_refused(root):
    (root / "images/one").mkdir()
    save_image(root / "images/one/x.png")
    (root / "images/two").symlink_to(root / "images/one")
    fails(root, r"images/one and .*images/two are one folder, by a link")


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """1,200 folders inside each other, made and removed step by step: few programs take paths so long."""
    folder, here = tmp_path_factory.mktemp("endless"), os.getcwd()
    os.chdir(folder)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    deepest = os.open(".", os.O_RDONLY)
    os.chdir(here)
    yield folder
    os.chdir(deepest)
    for _ in range(1200):
        os.chdir("..")
        os.rmdir("d")
    os.chdir(here)


def test_folders_without_end_are_refused_at_once(endless):
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"folders inside folders more than {MAX_DEPTH} deep"):
        picture_endings(endless)
    assert time.monotonic() - started < 5


def test_folders_as_deep_as_is_allowed_are_read(tmp_path):
    folder = tmp_path
    for _ in range(MAX_DEPTH):
        folder = folder / "d"
    save_image(folder / "x.png")
    assert len(files_below(tmp_path, lambda _: True)) == 1


@pytest.mark.parametrize("what", ["images", "images/deep", "masks"])
def test_a_folder_without_permission_is_not_called_missing(root, monkeypatch, what):
    save_image(root / "images/deep/x.png")
    forbid(monkeypatch, root / what)
    fails(root, rf"{what}\S* may not be read: you have no permission")


@pytest.mark.parametrize("what", ["shards", "shards/index.safetensors"])
def test_nor_are_shards(root, tmp_path, monkeypatch, what):
    write_shards(root, tmp_path / "shards", console=QUIET)
    forbid(monkeypatch, tmp_path / what)
    fails(root, rf"{what}.* may not be read: you have no permission", unlabeled_shards=tmp_path / "shards")
    if what == "shards":
        with pytest.raises(ValueError, match="shards may not be read"):
            index_shards(tmp_path / "shards", QUIET)


@pytest.mark.parametrize(("dataset", "what"), [("voc", "JPEGImages"), ("cityscapes", "leftImg8bit"), ("voc", "masks")])
def test_nor_are_benchmarks(tmp_path, monkeypatch, dataset, what):
    for folder in ("JPEGImages", "leftImg8bit", "SegmentationClass"):
        save_image(tmp_path / f"{folder}/a.jpg")
    (tmp_path / "l.txt").write_text("a")
    folder = "SegmentationClass" if what == "masks" else what
    forbid(monkeypatch, tmp_path / folder)
    with pytest.raises(ValueError, match=rf"{folder}.* may not be read"):
        open_dataset(DataOptions(dataset=dataset, root=tmp_path, labeled="l.txt", val="l.txt", unlabeled="l.txt"))


# Classes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\xef\xbb\xbfroad\r\nthe sky\r\n", ("road", "the sky")),
        (b"  road \t\n\n# sky\nsea", ("road", "sea")),
        (b"road\t1\t2\t3\nsea 4  5 6", ("road", "sea")),
        ("c\u2028d\ne".encode(), ("c\u2028d", "e")),
    ],
)
def test_a_class_file_may_be_written_by_any_editor(tmp_path, content, names):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_classes(tmp_path / "classes.txt").classes == names


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("#1\n#2\n", r"names 0 classes; expected 2 to 255, one per line \(a line that begins with # is a comment\)"),
        ("", "names 0 classes"),
        (
            f"a{COMPOSED}\na{APART}\n",
            re.escape(f"has {', '.join(sorted(map(ascii, (f'a{COMPOSED}', f'a{APART}'))))} more"),
        ),
        (f"{COMPOSED}\n{COMPOSED}\n", f"has {COMPOSED} more than once"),
        ("a 1 1 1\nb 2 2 2\nignore 3 3 3\nignore 4 4 4\n", "has ignore more than once"),
        ("a 1 1 1\nb 1 1 " + "9" * 5000, "has a colour beyond 255"),
        ("a 1 1 1\nb 1 1 4294967297", "has a colour beyond 255"),
        ("\n".join(map(str, range(256))), "names 256 classes"),
    ],
)
def test_a_class_file_that_cannot_be_meant(tmp_path, text, pattern):
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"classes\.txt:? .*{pattern}"):
        read_classes(tmp_path / "classes.txt")


NAMES = (
    st.text("abcé1 ", min_size=1, max_size=4).map(str.strip).filter(lambda n: n and not n.isdigit() and n != "ignore")
)


@given(st.lists(NAMES, min_size=2, max_size=5, unique=True), st.booleans())
def test_classes_are_read_as_they_were_written(tmp_path_factory, names, colored):
    path = tmp_path_factory.getbasetemp() / "written.txt"
    colors = tuple((index, 255, 7) for index in range(len(names)))
    lines = [f"{name} {red} {green} {blue}" for name, (red, green, blue) in zip(names, colors, strict=True)]
    path.write_text("\n".join(lines if colored else names), encoding="utf-8")
    reader = read_classes(path)
    assert (reader.classes, reader.colors) == ((*names,), colors if colored else None)
