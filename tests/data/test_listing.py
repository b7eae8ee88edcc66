"""Folders and lists of very many pictures: what is found, in which order, and what it takes to hold it."""

import gc
import os
import pickle
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.folders import filled, opened

from semiseg.data.dataset import ids_sha256
from semiseg.data.files import FileSet, ImageFiles
from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.listing import are_there, file_names, files_below, listed_ids, picture_endings
from semiseg.data.names import Names
from semiseg.data.shards.write import unlabeled_files
from semiseg.data.splits import image_id
from semiseg.evaluation.pictures import find_images

TREE = [
    "b.jpg", "a.JPG", "a-b/x.png", "a/x.png", "a/y/z.tiff", "a.b/x.webp", "a/b.c.jpeg", "Z.bmp", "ä.tif",
    "a/.hidden.png", ".hidden/x.png", "notes.txt", "a/jpg", "empty/", "folder.png/x.png",
]  # fmt: skip


def plant(root, files):
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()


def twin_endings(folder):
    """The pictures by asking pathlib about each."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    paths = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return [(path.with_suffix("").as_posix(), path.suffix) for path in paths]


def test_pictures_are_found_in_the_order_of_their_paths(tmp_path):
    plant(tmp_path, TREE)
    found = list(picture_endings(tmp_path).items())
    assert found == twin_endings(tmp_path)
    assert ("a/y/z", ".tiff") in found
    assert len(found) == 10


HIDDEN = [".ipynb_checkpoints", ".thumbnails", ".Trash", "__MACOSX", "@eaDir"]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", ["images", "images/a/b", "masks"])
def test_hidden_folders_are_passed_over_everywhere(tmp_path, caplog, hidden, place):
    filled(tmp_path)
    plant(tmp_path, [f"{place}/{hidden}/{name}" for name in ("m0.jpg", "deep/m1-checkpoint.png", "m2.gif", "m3")])
    dataset = opened(tmp_path)
    assert sum(map(len, dataset.image_sets.values())) == 15
    assert sorted(find_images(tmp_path / "images")) == sorted(id_ for id_ in picture_endings(tmp_path / "images"))
    assert unlabeled_files(tmp_path)[1] == [f"u{number}.png" for number in range(5)]
    assert caplog.text == ""


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path):
    filled(tmp_path / ".data")
    assert len(opened(tmp_path / ".data").labeled) == 8
    assert len(find_images(tmp_path / ".data/images")) == 15


OTHERS = [
    "a.gif",
    "a.HEIC",
    "b.heif",
    "b.jfif",
    "b.jp2",
    "b.dng",
    "b.cr2",
    "b.nef",
    "b.psd",
    "b.avif",
    "DSC0001",
    "b.png ",
]
SIDECARS = [
    *(
        "readme.txt",
        "README",
        "LICENSE",
        ".DS_Store",
        "Thumbs.db",
        "m0.json",
        "m0.xml",
        "m0.xmp",
        "m0.jpg.aux",
        "m0.tfw",
    ),
    *("data.csv", "desktop.ini", "notes.md", ".hidden", "list.txt"),
]
FINDERS = {"images": picture_endings, "predict": find_images, "shard": unlabeled_files}


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
@pytest.mark.parametrize("other", OTHERS)
def test_pictures_of_other_formats_are_counted_and_named(tmp_path, caplog, find, other):
    plant(tmp_path, ["a.png", "in/b.jpg", f"in/{other}", f"x{other}", *SIDECARS])
    find(tmp_path)
    (record,) = caplog.records
    assert record.message.startswith(f"2 file(s) in {tmp_path} are left out")
    assert repr(other) in record.message


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
def test_what_is_no_picture_needs_no_word(tmp_path, caplog, find):
    plant(tmp_path, ["a.png", *SIDECARS])
    find(tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
def test_a_folder_of_other_pictures_alone_says_which(tmp_path, find):
    plant(tmp_path, ["a.heic", "b.heic"])
    with pytest.raises(
        ValueError, match=r"\.webp\. 2 file\(s\) in .* 'a\.heic', 'b\.heic'\. If they are pictures, save"
    ):
        find(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.sets(st.text("ab-.", min_size=1, max_size=3).filter(lambda name: name.strip(".")), min_size=1, max_size=6))
def test_every_order_of_names_is_that_of_pathlib(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("tree")
    for name in {*names, "c"}:
        plant(folder, [f"{name}/{name}.png", f"{name}x.jpg"])
    assert list(picture_endings(folder).items()) == twin_endings(folder)


def test_links_are_the_files_and_folders_they_lead_to(tmp_path):
    plant(tmp_path, ["elsewhere/x.png", "far/deep/y.png", "images/a.png"])
    (tmp_path / "images/b.png").symlink_to(tmp_path / "elsewhere/x.png")
    (tmp_path / "images/aa").symlink_to(tmp_path / "far")
    assert list(picture_endings(tmp_path / "images")) == ["a", "aa/deep/y", "b"]
    (tmp_path / "elsewhere/x.png").unlink()
    with pytest.raises(ValueError, match=r"images/b\.png is no file, but a link to nothing"):
        picture_endings(tmp_path / "images")


def test_listing_asks_about_no_file(tmp_path, monkeypatch):
    """Neither stat nor Path for each file: what made a million take minutes."""
    root = filled(tmp_path)
    counts = []
    for more in (0, 60):
        plant(root, [f"images/more{number}.png" for number in range(more)])
        asked = []
        with monkeypatch.context() as patch:
            for name in ("stat", "lstat"):
                patch.setattr(os, name, partial(count, asked, getattr(os, name)))
            patch.setattr(Path, "__new__", partial(count, asked, Path.__new__))
            assert len(opened(root).unlabeled) == 5 + more
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0


def count(calls, function, *arguments, **options):
    calls.append(arguments)
    return function(*arguments, **options)


@given(st.lists(st.sampled_from(["a.png", "b/a.png", "b/c.png", "gone/x", "b", "link.png", "b/to/x", ""]), max_size=8))
def test_are_there_agrees_with_asking(tree, files):
    assert list(are_there(tree, files)) == [(tree / file).is_file() for file in files]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("there")
    plant(folder, ["a.png", "b/a.png", "b/d.png", "far/x"])
    (folder / "link.png").symlink_to("b/d.png")
    (folder / "b/to").symlink_to(folder / "far")
    return folder


IDS = ["a", "b", "a.jpg", "deep/a", "deep/b", "deep/er/c", "other/c", "x.y"]
LINES = [*IDS, "a.png", "b.jpg", "b.png", "c", "c.jpg", "deep/a.jpg", "a.jpg.png", "y", "images/b", "./b", "deep\\b"]


@given(
    st.dictionaries(st.sampled_from(IDS), st.sampled_from([".jpg", ".png"]), min_size=1),
    st.lists(st.sampled_from(LINES), min_size=1, max_size=4),
)
def test_a_line_means_what_a_table_of_all_names_says(lists, endings, lines):
    path = lists / "list.txt"
    path.write_text("\n".join(lines))
    expected = [twin_found(line, endings) for line in lines]
    if all(len(found) == 1 for found in expected):
        assert listed_ids(path, Path("pictures"), endings) == tuple(found[0] for found in expected)
    else:
        wrong = next(line for line, found in zip(lines, expected, strict=True) if len(found) != 1)
        with pytest.raises(ValueError, match=r"which may be|has no such image") as caught:
            listed_ids(path, Path("pictures"), endings)
        assert f"list.txt names {wrong!r}" in str(caught.value)


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return tmp_path_factory.mktemp("lists")


def twin_found(line, endings):
    """The ids that a line may name, from all four names of every picture."""
    name = line.replace("\\", "/").removeprefix("./").removeprefix("images/")
    found = []
    for id_, ending in endings.items():
        file = PurePosixPath(id_ + ending)
        if name in (id_, str(file), file.stem, file.name):
            found.append(id_)
    whole = [id_ for id_ in found if name in (id_, id_ + endings[id_])]
    return whole or found


@given(
    st.lists(st.sampled_from(["a", "b.c", "JPEGImages", "leftImg8bit", "", "."])),
    st.sampled_from(["x", "x.jpg", "x.y.png", "x_leftImg8bit.png"]),
)
def test_image_id_is_what_pathlib_makes_of_a_line(folders, name):
    line = "/".join([*folders, name])
    parts = PurePosixPath(line).with_suffix("").parts
    expected = "/".join(part for part in parts if part.strip("/") not in ("", "JPEGImages", "leftImg8bit"))
    assert image_id(f"{line} mask.png") == expected.removesuffix("_leftImg8bit")


# Names


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_names_are_the_strings_they_were_made_of(strings):
    names = Names.pack(strings)
    for each in (names, pickle.loads(pickle.dumps(names))):
        assert len(each) == len(strings)
        assert list(each) == [each[place] for place in range(len(strings))] == each[:] == strings
        assert each[-3:] == strings[-3:]
    assert ids_sha256(names) == ids_sha256(strings)
    with pytest.raises(IndexError):
        names[len(strings)]


def test_names_are_iterated_in_pieces(monkeypatch):
    monkeypatch.setattr("semiseg.data.names._AT_ONCE", 3)
    strings = [f"n{number}" for number in range(10)]
    assert list(Names.pack(strings)) == strings


def test_a_name_that_is_no_text_survives(tmp_path):
    strings = [os.fsdecode(b"caf\xe9"), "x"]
    assert list(Names.pack(strings)) == strings


def test_image_files_are_their_paths():
    ids, endings = ["a", "b/c", "d.e"], [".png", ".JPG", ".png"]
    files = ImageFiles(Path("root"), Names.pack(ids), endings)
    assert list(files) == [Path("root/a.png"), Path("root/b/c.JPG"), Path("root/d.e.png")]
    assert files.inside() == ["a.png", "b/c.JPG", "d.e.png"]
    assert list(pickle.loads(pickle.dumps(files))) == list(files)


def large(count):
    ids = [f"image-{number:06d}" for number in range(count)]
    names = Names.pack(ids)
    return FileSet("unlabeled", names, ImageFiles(Path("root"), names, [".jpg"] * count))


def reachable(thing):
    """How many Python objects a worker could write a reference count into."""
    seen, waiting = {}, [thing]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen[id(each)] = each
            waiting += gc.get_referents(each)
    return len(seen)


def test_what_a_worker_holds_does_not_grow_with_the_number_of_images():
    few, many = large(10), large(10_000)
    assert reachable(few) == reachable(many) < 300
    assert len(pickle.dumps(many)) - len(pickle.dumps(few)) < 20 * 10_000
    assert reachable([str(number) for number in range(10_000)]) > 10_000  # the count would see them


def test_a_dataset_is_held_that_way(tmp_path):
    unlabeled = opened(filled(tmp_path)).unlabeled.source
    assert isinstance(unlabeled.names, Names)
    assert isinstance(unlabeled.images, ImageFiles)
    assert unlabeled.images.names is unlabeled.names
    np.testing.assert_array_equal(unlabeled.image(2), np.full((6, 8, 3), 90))


def test_hidden_files_of_masks_and_names_of_folders_are_passed_over(tmp_path):
    plant(tmp_path, ["a.png", "b.png/c.txt", "d/e.png"])
    assert files_below(tmp_path, lambda entry: entry.is_file()) == ["a.png", "b.png/c.txt", "d/e.png"]
    assert file_names(tmp_path) == {"a.png"}
    assert file_names(tmp_path / "gone") == file_names(tmp_path / "a.png") == set()
