"""Unlabelled images in tar shards: the same as from files, and every way they can be wrong."""

import gc
import multiprocessing
import os
import pickle
import shutil
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import tiny_run
from support.folders import fails, opened
from support.shard_files import QUIET, awkward, png, save_noise, write_tar

from semiseg.config.options import AugmentOptions, DataOptions, TrainOptions
from semiseg.data.loading import Stream, ViewKey, Views, training_batches
from semiseg.data.shards import read as shards
from semiseg.data.shards.index import index_shards
from semiseg.data.shards.read import INDEX, ShardKeys, Shards, shard_key
from semiseg.data.shards.write import write_shards
from semiseg.training.experiment import train

AUGMENT = AugmentOptions(crop_height=32, crop_width=32)


@pytest.fixture
def root(tmp_path):
    return awkward(tmp_path / "data")


@pytest.fixture
def out(root, tmp_path):
    write_shards(root, tmp_path / "shards", images=3, console=QUIET)
    return tmp_path / "shards"


def batches(dataset, start=0, on_error="stop", **train):
    options = TrainOptions(**({"steps": 7, "batch_labeled": 2, "batch_unlabeled": 3, "workers": 0} | train))
    data = DataOptions(dataset="scenes", on_error=on_error)
    keys = {"seed": 1, "start": start, "use_unlabeled": True, "device": torch.device("cpu")}
    return list(training_batches(dataset, data, AUGMENT, options, **keys))


def assert_same(one, two):
    assert len(one) == len(two) > 0
    for ours, theirs in zip(one, two, strict=True):
        for a, b in zip((*ours[0][:3], *ours[1][:3]), (*theirs[0][:3], *theirs[1][:3]), strict=True):
            assert torch.equal(a, b)


# The same as from files


def test_images_and_names_are_those_of_the_files(root, out):
    files, tars = opened(root).unlabeled, opened(root, unlabeled_shards=out).unlabeled
    assert list(tars.names) == list(files.names)
    assert len(tars) == 8
    for number in range(8):
        np.testing.assert_array_equal(tars.image(number), files.image(number))
    assert tars.image(list(tars.names).index("rome/turned")).shape == (50, 30, 3)
    with pytest.raises(ValueError, match="no masks"):
        tars.mask(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_files_wherever_they_begin(root, out, workers):
    expected = batches(opened(root))
    dataset = opened(root, unlabeled_shards=out)
    assert_same(batches(dataset, workers=workers), expected)
    assert_same(batches(dataset, start=4, workers=workers), expected[4:])


def save_samples(views, keys, path):
    np.save(path, [views.sample(key).image.numpy() for key in keys])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_for_themselves(root, out, tmp_path, method):
    views = Views(opened(root, unlabeled_shards=out), AUGMENT, 255, 0)
    keys = [ViewKey(Stream.UNLABELED_VIEW, 0, 0, number) for number in range(8)]
    save_samples(views, keys, tmp_path / "here.npy")  # the tars are open before the fork
    context = multiprocessing.get_context(method)
    paths = [tmp_path / f"{number}.npy" for number in range(2)]
    children = [context.Process(target=save_samples, args=(views, keys, path)) for path in paths]
    for child in children:
        child.start()
    for child, path in zip(children, paths, strict=True):
        child.join()
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "here.npy"))


def test_what_a_worker_receives_does_not_grow_with_the_number_of_images(tmp_path):
    sizes = []
    for count in (5, 500):
        write_tar(tmp_path / f"{count}/a.tar", {f"{number:05d}.png": b"x" for number in range(count)})
        keys = ShardKeys(index_shards(tmp_path / str(count), QUIET))
        assert keys[count - 1] == f"{count - 1:05d}"
        sizes.append(len(pickle.dumps(keys)))
        assert not [each for each in gc.get_referents(keys.shards.__dict__) if isinstance(each, list) and len(each) > 1]
    assert sizes[1] - sizes[0] < 10


def test_few_tars_are_open_at_once(tmp_path, monkeypatch):
    for number in range(shards.OPEN_TARS + 30):
        write_tar(tmp_path / f"{number:03d}.tar", {f"{number}.png": b"%d" % number})
    found = index_shards(tmp_path, QUIET)
    before = len(os.listdir("/proc/self/fd"))
    shards._opened.cache_clear()
    assert [found.read(place) for place in range(len(found))] == [b"%d" % number for number in range(len(found))]
    assert len(os.listdir("/proc/self/fd")) - before <= shards.OPEN_TARS
    shards._opened.cache_clear()
    assert len(os.listdir("/proc/self/fd")) <= before


# What became wrong later


def test_an_index_that_is_missing_or_damaged(root, out):
    content = (out / INDEX).read_bytes()
    for damaged in (b"", content[:100], content[:-1], b"\xff" * 200):
        (out / INDEX).write_bytes(damaged)
        fails(
            root, r"index\.safetensors is damaged .*make it anew by `semiseg data index .*shards`", unlabeled_shards=out
        )
    (out / INDEX).unlink()
    fails(root, r"no .*index\.safetensors: `semiseg data index .*shards` makes it", unlabeled_shards=out)


def test_a_stale_index_is_refused_until_it_is_made_anew(root, out, tmp_path):
    first = out / "shard-000000.tar"

    def stale(what):
        fails(root, rf"{what} since index\.safetensors was made\..*run `semiseg data index", unlabeled_shards=out)

    os.utime(first, ns=(1, 1))
    stale(r"shard-000000\.tar was changed")
    index_shards(out, QUIET)
    expected = opened(root, unlabeled_shards=out).split["unlabeled"]
    facts = first.stat()
    with first.open("ab") as file:
        file.write(bytes(512))
    os.utime(first, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    stale(r"shard-000000\.tar was changed")
    index_shards(out, QUIET)
    assert opened(root, unlabeled_shards=out).split["unlabeled"] == expected
    shutil.copy(first, out / "x.tar")
    stale(r"x\.tar was added")
    (out / "x.tar").unlink()
    first.rename(tmp_path / "away.tar")
    stale(r"shard-000000\.tar is gone")


def test_a_tar_that_changes_while_it_is_read(root, out, tmp_path):
    found = Shards(out)
    path = out / "shard-000000.tar"
    os.truncate(path, 600)
    with pytest.raises(ValueError, match=r"shard-000000\.tar:.* is cut short since the tar was indexed"):
        found.image(2)
    shards._opened.cache_clear()
    path.unlink()
    with pytest.raises(ValueError, match=r"shard-000000\.tar:.* cannot be read \(No such file"):
        found.image(2)


def test_tars_made_anew_are_read_anew(root, out):
    before = Shards(out).read(7)
    for path in out.iterdir():
        path.unlink()
    save_noise(root / "images/u4.png", 70)
    after = write_shards(root, out, images=3, console=QUIET).read(7)
    assert after == (root / "images/u4.png").read_bytes() != before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named_by_shard_and_key(root, tmp_path, workers):
    write_tar(tmp_path / "t/1.tar", {"deep/a.png": png(0)[:200]})
    index_shards(tmp_path / "t", QUIET)
    dataset = opened(root, unlabeled_shards=tmp_path / "t")
    with pytest.raises(ValueError, match=r"^\S+/t/1\.tar:deep/a cannot be read as a picture \(.*restore it"):
        batches(dataset, workers=workers)
    pixels = BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(pixels, "PNG")
    write_tar(tmp_path / "t/1.tar", {"a.png": pixels.getvalue()})
    with pytest.raises(ValueError, match=r"^image \S+/t/1\.tar:a has 'I;16' pixels"):
        index_shards(tmp_path / "t", QUIET).image(0)


# Beside the other lists


def test_images_of_other_lists_are_left_out(root, tmp_path):
    write_shards(root / "images", tmp_path / "all", images=4, console=QUIET)
    (root / "val.txt").write_text("m3\nm7\n")
    files = opened(root)
    dataset = opened(root, unlabeled_shards=tmp_path / "all")
    assert list(dataset.unlabeled.names) == list(files.unlabeled.names)
    for number in range(len(files.unlabeled)):
        np.testing.assert_array_equal(dataset.unlabeled.image(number), files.unlabeled.image(number))
    record = dataset.split["unlabeled"]
    assert (record["count"], record["name"]) == (8, f"shards {tmp_path / 'all'}, less 10 in other lists")
    (root / "test.txt").write_text("m3\n")
    (root / "l.txt").write_text("m0\nm1\n")
    other = opened(root, unlabeled_shards=tmp_path / "all", labeled="l.txt").split["unlabeled"]
    assert other["count"] == 14
    assert len({record["sha256"], other["sha256"], Shards(tmp_path / "all").sha256}) == 3


def test_a_key_with_dots_is_found_among_the_labelled(root, tmp_path):
    shutil.copy(root / "images/m0.jpg", root / "images/m.2021.x.jpg")
    shutil.copy(root / "masks/m0.png", root / "masks/m.2021.x.png")
    assert "m_2021_x" in list(write_shards(root / "images", tmp_path / "all", console=QUIET).keys)
    assert "m_2021_x" not in list(opened(root, unlabeled_shards=tmp_path / "all").unlabeled.names)


@given(st.integers(1, 30), st.sets(st.integers(0, 29)))
def test_places_are_those_that_are_not_left_out(count, left_out):
    left_out = sorted(place for place in left_out if place < count)
    keys = ShardKeys(range(count), left_out)
    kept = [place for place in range(count) if place not in left_out]
    assert [keys.place(number) for number in range(len(keys))] == kept


def test_the_record_names_the_shards_and_holds_their_hash(root, out, tmp_path):
    record = opened(root, unlabeled_shards=out).split["unlabeled"]
    assert record == {
        "name": f"shards {out}", "sha256": Shards(out).sha256, "count": 8, "source": None, "file_sha256": None
    }  # fmt: skip
    moved = shutil.copytree(out, tmp_path / "moved", copy_function=shutil.copy)  # other times
    index_shards(moved, QUIET)
    write_shards(root, tmp_path / "larger", console=QUIET)  # cut otherwise
    for folder in (moved, tmp_path / "larger"):
        assert opened(root, unlabeled_shards=folder).split["unlabeled"] == record | {"name": f"shards {folder}"}
    save_noise(root / "images/u2.png", 99, (20, 20))
    write_shards(root, tmp_path / "other", console=QUIET)
    assert Shards(tmp_path / "other").sha256 != record["sha256"]


def test_a_run_goes_on_with_shards_that_were_moved_but_not_with_others(root, out, tmp_path):
    def config(folder):
        data = DataOptions(root=root, unlabeled_shards=folder)
        return tiny_run.tiny_config(tmp_path / "run", "cutmix", data=data)

    train(config(out), console=QUIET)
    shards._opened.cache_clear()
    moved = out.rename(tmp_path / "moved")
    assert train(config(moved), resume=True, console=QUIET) == tmp_path / "run"
    save_noise(root / "images/u2.png", 99, (40, 40))
    write_shards(root, tmp_path / "other", console=QUIET)
    with pytest.raises(ValueError, match="the unlabeled images are not the images of the run"):
        train(config(tmp_path / "other"), resume=True, console=QUIET)


def test_options_that_exclude_each_other(root, out):
    fails(root, "leave data.unlabeled out", unlabeled_shards=out, unlabeled="u.txt")
    fails(root, "another data.dataset than `scenes`", unlabeled_shards=out, dataset="scenes")


def test_images_without_masks_stay_out_beside_shards(root, tmp_path):
    write_tar(tmp_path / "t/1.tar", {"a.png": png(0)})
    index_shards(tmp_path / "t", QUIET)
    dataset = opened(root, unlabeled_shards=tmp_path / "t", labeled_count=2)
    assert [list(dataset.unlabeled.names), len(dataset.labeled)] == [["a"], 2]


def test_a_key_is_a_path_without_dots_in_its_name():
    assert [shard_key(name) for name in ("a", "x.y/a.b", "a.b.c")] == ["a", "x.y/a_b", "a_b_c"]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_picture_takes_the_place_of_a_damaged_one_where_that_is_asked(root, out, monkeypatch, workers):
    """Every batch has the images of the whole shards but for the damaged one, wherever the run begins."""
    dataset, image, damaged = opened(root, unlabeled_shards=out), Shards.image, 2
    expected = [each.index.tolist() for _, each in batches(dataset)]
    assert any(damaged in indices for indices in expected)

    def spoiled(self, place):
        if place == damaged:
            raise ValueError("shard-000000.tar: c.png cannot be read as a picture")
        return image(self, place)

    monkeypatch.setattr(Shards, "image", spoiled)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        batches(dataset, workers=workers)
    for start in (0, 3):
        found = [each.index.tolist() for _, each in batches(dataset, start, on_error="skip", workers=workers)]
        replaced = [[damaged + 1 if place == damaged else place for place in indices] for indices in expected]
        assert found == replaced[start:]


def test_shards_full_of_damage_stop_all_the_same(root, out, monkeypatch):
    def gone(self, place):
        raise ValueError(f"{place} cannot be read")

    monkeypatch.setattr(Shards, "image", gone)
    with pytest.raises(ValueError, match="cannot be read"):
        batches(opened(root, unlabeled_shards=out), on_error="skip")
