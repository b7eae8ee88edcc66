"""Files that cannot be read are found before the first step, or left out and counted."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.folders import SIZE, filled, lists_of, opened, save_image, save_mask
from support.shard_files import QUIET, save_noise

from semiseg.config.options import DataOptions
from semiseg.data import damage, open_dataset, remembered, split_in_words
from semiseg.data.damage import find_damage, require_whole
from semiseg.data.dataset import Dataset, check_same_lists
from semiseg.data.files import FileSet
from semiseg.data.shards.read import INDEX, Shards
from semiseg.data.shards.write import write_shards
from semiseg.runtime import distributed

LISTS = {"labeled": range(6), "val": (6, 7), "test": (8, 9)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/semiseg/good-files.bin"


@pytest.fixture
def root(tmp_path):
    root = filled(tmp_path / "data")
    for key, numbers in LISTS.items():
        (root / f"{key}.txt").write_text("".join(f"m{number}\n" for number in numbers))
    return root


def looked_at(root, **options):
    dataset = opened(root, labeled="labeled.txt", **options)
    require_whole(dataset, QUIET)
    return dataset


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


PLACES = {"labeled": "m2.jpg", "unlabeled": "u3.png", "val": "m7.jpg", "test": "m9.jpg"}


@pytest.mark.parametrize("name", PLACES)
def test_a_damaged_image_in_any_list_is_named_before_the_first_step(root, name):
    looked_at(root)
    path = root / "images" / PLACES[name]
    save_noise(path, 1, SIZE, quality=100)
    cut(path, 0.8)  # the head is whole
    with pytest.raises(
        ValueError, match=rf"1 of the images cannot be used .*in the {name} list.*{PLACES[name]}"
    ) as error:
        looked_at(root)
    assert ("--data.on_error skip" in str(error.value)) == (name in ("labeled", "unlabeled"))


@pytest.mark.parametrize("how", ["cut", "empty", "text", "gone", "a folder", "a pipe"])
def test_whatever_the_damage(root, how):
    looked_at(root)
    path = root / "images/u1.png"
    dataset = opened(root, labeled="labeled.txt")
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "cut":
        save_noise(path, 1)
        cut(path)
    elif how in ("empty", "text"):
        path.write_text("no picture" * (how == "text"))
    elif how == "a pipe":
        os.mkfifo(path)
    with pytest.raises(ValueError, match=r"1 of the images cannot be used \('u1'.*u1\.png"):
        require_whole(dataset, QUIET)


def test_masks_of_test_images_are_looked_at_too(root):
    (root / "classes.txt").write_text("a\nb\n")
    save_mask(root / "masks/m8.png", [0, 7])
    with pytest.raises(ValueError, match=r"'m8', in the test list.*m8\.png holds 7"):
        looked_at(root)


def test_many_are_counted_and_a_few_named(root):
    for number in range(20):
        save_image(root / f"images/x{number:02d}.png")
        cut(root / f"images/x{number:02d}.png")
    with pytest.raises(ValueError, match=r"20 of the images .*\('x00', 'x01', 'x02', 'x03', 'x04', \.\.\., in the unl"):
        looked_at(root)


def test_images_that_nothing_learns_from_are_not_looked_at(root):
    cut(root / "images/u0.png")
    require_whole(opened(root, labeled="labeled.txt"), QUIET, use_unlabeled=False)


def test_benchmarks_are_looked_at_whole(tmp_path):
    for folder, ending in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        (tmp_path / folder).mkdir()
        for number in range(9):
            picture = Image.new("RGB", (4, 2)) if ending == ".jpg" else Image.fromarray(np.zeros((2, 4), np.uint8))
            picture.save(tmp_path / folder / f"{number}{ending}")
    for name, ids in {"l": "01234", "v": "56", "u": "78"}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(ids))
    options = DataOptions(dataset="voc", root=tmp_path, labeled="l.txt", val="v.txt", unlabeled="u.txt")
    require_whole(open_dataset(options), QUIET)
    Image.fromarray(np.full((2, 4), 77, np.uint8)).save(tmp_path / "SegmentationClass/4.png")
    with pytest.raises(ValueError, match=r"4\.png holds 77"):
        require_whole(open_dataset(options), QUIET)


def test_each_of_several_processes_looks_at_its_share_and_hears_of_all(root, monkeypatch, decoded, cache):
    cut(root / "images/u1.png")
    cut(root / "images/u2.png")
    dataset, told, counts = opened(root, labeled="labeled.txt"), [], []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (1, 0):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "gathered", lambda value: [*reversed(told), told.append(value) or value][::-1])
        found = find_damage(dataset, ["labeled", "unlabeled"], QUIET)
        counts.append(len(decoded))
        assert cache.exists() == (rank == 0)
    assert {name: list(places) for name, places in found.items()} == {"unlabeled": [1, 2]}
    assert counts == [5, 11]


# What is remembered ---------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded."""
    read, calls = FileSet.image, []
    monkeypatch.setattr(FileSet, "image", lambda self, index: calls.append(index) or read(self, index))
    return calls


def test_good_files_are_looked_at_once_until_they_change(root, decoded, cache):
    looked_at(root)
    assert len(decoded) == 15
    assert cache.stat().st_size == 16 + 15 * 8
    looked_at(root)
    assert len(decoded) == 15
    save_image(root / "images/u0.png")
    save_mask(root / "masks/m0.png", [1, 0, 1])
    os.utime(root / "images/u1.png", (1, 1))
    looked_at(root)
    assert len(decoded) == 18
    assert [path for path in root.rglob("*") if "good" in path.name] == []


def test_masks_are_looked_at_anew_under_other_classes(root, decoded):
    looked_at(root)
    (root / "classes.txt").write_text("a\nb\nc\n")
    looked_at(root)
    assert len(decoded) == 15 + 10


def test_damaged_files_are_not_remembered(root, decoded):
    cut(root / "images/u0.png")
    for _ in range(2):
        with pytest.raises(ValueError, match="u0"):
            looked_at(root)
    assert len(decoded) == 16


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 40, b"\0" * 24])
def test_a_damaged_cache_is_as_none(root, decoded, cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    looked_at(root)
    looked_at(root)
    assert len(decoded) == 15


@pytest.mark.parametrize("position", [0, 16, 50, -1])
def test_so_is_one_with_a_flipped_bit(root, decoded, cache, position):
    looked_at(root)
    content = bytearray(cache.read_bytes())
    content[position] ^= 4
    cache.write_bytes(content)
    looked_at(root)
    assert len(decoded) == 30


def test_a_cache_that_cannot_be_written_costs_time_only(root, decoded, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.touch()  # where its folder should be
    looked_at(root)
    looked_at(root)
    assert len(decoded) == 30


def test_the_cache_stays_small(root, monkeypatch, cache):
    monkeypatch.setattr(remembered, "MOST", 20)
    looked_at(root)
    shutil.copytree(root, root.with_name("other"))
    looked_at(root.with_name("other"))
    assert cache.stat().st_size == 16 + 20 * 8


def test_many_images_have_a_progress_line(root, monkeypatch, capsys):
    monkeypatch.setattr(damage, "_QUIET", 10)
    require_whole(opened(root, labeled="labeled.txt"), Console())
    assert "look at images step 15/15" in capsys.readouterr().out


# Left out -------------------------------------------------------------------------------------------------------------


def test_damaged_images_are_left_out_counted_and_named(root, caplog):
    cut(root / "images/u3.png")
    cut(root / "images/m2.jpg")
    (root / "masks/m4.png").write_bytes(b"broken")
    dataset = looked_at(root, on_error="skip")
    assert list(dataset.labeled.names) == ["m0", "m1", "m3", "m5"]
    assert list(dataset.unlabeled.names) == list(dataset.hidden.names) == ["u0", "u1", "u2", "u4"]
    assert dataset.split["labeled"] | {"sha256": None} == {
        "name": "labeled.txt, less 2 damaged", "sha256": None, "count": 4, "source": None, "file_sha256": None,
        "skipped": ["m2", "m4"],
    }  # fmt: skip
    assert dataset.split["unlabeled"]["skipped"] == ["u3"]
    assert "skipped" not in dataset.split["val"]
    assert "2 of the 6 labeled images are left out (data.on_error: skip): 'm2', 'm4'. The first: " in caplog.text
    assert "1 of the 5 unlabeled images are left out" in caplog.text
    for images in (dataset.labeled, dataset.unlabeled):
        for index in range(len(images)):
            images.image(index)


def test_the_same_set_without_damage_is_the_same(root):
    plain, skipping = (opened(root, labeled="labeled.txt", on_error=on_error) for on_error in ("stop", "skip"))
    assert plain.split == skipping.split


def test_a_damaged_mask_in_an_automatic_split_is_left_out_and_moves_nothing_else(root):
    (root / "val.txt").unlink()
    whole = lists_of(opened(root))
    broken = min(whole["labeled"])
    (root / f"masks/{broken}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=broken):
        opened(root)
    lists = lists_of(opened(root, on_error="skip"))
    assert broken not in set().union(*lists.values())
    assert lists["unlabeled"] == whole["unlabeled"]


@pytest.mark.parametrize("name", ["val", "test"])
def test_damage_among_scored_images_is_not_left_out(root, name):
    cut(root / "images" / PLACES[name])
    with pytest.raises(ValueError, match=rf"in the {name} list"):
        opened(root, labeled="labeled.txt", on_error="skip")


def test_more_than_half_is_no_accident(root):
    for number in range(4):
        cut(root / f"images/m{number}.jpg")
    with pytest.raises(ValueError, match="more than half of the list: one cause is likely") as error:
        opened(root, labeled="labeled.txt", on_error="skip")
    assert "--data.on_error" not in str(error.value)


def test_lists_that_lost_other_images_are_other_lists(root):
    cut(root / "images/u3.png")
    before = opened(root, labeled="labeled.txt", on_error="skip").split
    check_same_lists(before, opened(root, labeled="labeled.txt", on_error="skip").split, before, root)
    cut(root / "images/u4.png")
    now = opened(root, labeled="labeled.txt", on_error="skip").split
    with pytest.raises(
        ValueError, match=r"unlabeled images .* 4 \(.*, less 1 damaged\), now there are 3 \(.*, less 2 dam"
    ):
        check_same_lists(before, now, before, root)


def test_what_is_no_file_is_not_looked_at():
    pair = (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    dataset = Dataset.from_items(["a", "b"], labeled=[pair], val=[("gone.png", None)])
    assert find_damage(dataset, ["labeled", "val"]) == {}


# Shards ---------------------------------------------------------------------------------------------------------------


def test_an_index_that_points_outside_a_tar_is_refused(root, tmp_path, monkeypatch):
    write_shards(root, tmp_path / "shards", images=3, console=QUIET)
    found = Shards(tmp_path / "shards")
    found.check_current()
    for field, place, value in (("_offset", 1, 10**12), ("_offset", 2, -1), ("_length", 4, 0), ("_shard", 3, 9)):
        with monkeypatch.context() as patch:
            changed = getattr(found, field).copy()
            changed[place] = value
            patch.setattr(found, field, changed)
            with pytest.raises(ValueError, match=rf"1 pictures are .*{INDEX}; the first has the key 'u{place}'"):
                found.check_current()


# The split in words ---------------------------------------------------------------------------------------------------


def test_the_split_is_said(root):
    line, warning = split_in_words(opened(root, labeled="labeled.txt"))
    assert line == (
        "data: 6 masks train (labeled.txt), 5 images without (every image in no other list), 2 masks validate "
        "(val.txt), 2 masks test (test.txt)"
    )
    assert "only 2 image(s) validate" in warning
    for number in range(10, 20):
        save_image(root / f"images/m{number}.jpg")
        save_mask(root / f"masks/m{number}.png", [0, 1])
    (root / "val.txt").write_text("".join(f"m{number}\n" for number in range(10, 20)))
    assert len(split_in_words(opened(root, labeled="labeled.txt"))) == 1
