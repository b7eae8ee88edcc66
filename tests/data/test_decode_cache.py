"""Decoded pictures that are kept are the decoded pictures, whatever happens to their files."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg.config.options import AugmentOptions, DataOptions, TrainOptions
from semiseg.costs.bench.pictures import write_pictures
from semiseg.data import cache_choice, damage, decode_cache, open_dataset
from semiseg.data.decode_cache import DecodeCache, cache_folder
from semiseg.data.loading import training_batches
from semiseg.data.prepared import Prepared

rng = np.random.default_rng(5)
PICTURE = rng.integers(0, 256, (40, 50, 3), np.uint8)
FILE = 64 + PICTURE.nbytes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache(tmp_path):
    return DecodeCache(tmp_path / "decoded", 1e9)


def never() -> np.ndarray:
    raise AssertionError("decoded again")


def files(cache: DecodeCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


# One file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50), (1, 1), (1, 1, 3), (3, 1000, 3)])
def test_a_picture_is_decoded_once_and_comes_back(cache, shape):
    picture = rng.integers(0, 256, shape, np.uint8)
    assert cache.pixels("a", lambda: picture) is picture
    for reader in (cache, DecodeCache(cache.folder, 1e9), pickle.loads(pickle.dumps(cache))):
        found = reader.pixels("a", never)
        assert found.dtype == np.uint8
        assert np.array_equal(found, picture)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_another_key_is_another_picture(cache):
    cache.pixels("a", lambda: PICTURE)
    assert np.array_equal(cache.pixels("b", lambda: 255 - PICTURE), 255 - PICTURE)
    assert np.array_equal(cache.pixels("a", never), PICTURE)


def cut(content: bytes) -> bytes:
    return content[:-7]


def longer(content: bytes) -> bytes:
    return content + b"x"


def flipped(place: int):
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[place] ^= 1
        return bytes(changed)

    return change


DAMAGE = {
    "empty": lambda content: b"", "cut in the header": lambda content: content[:50], "cut": cut, "longer": longer,
    "another program's": lambda content: bytes(FILE), "magic": flipped(3), "key": flipped(20), "height": flipped(32),
    "sum": flipped(44), "first pixel": flipped(64), "last pixel": flipped(-1),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_said_and_decoded_anew(cache, caplog, kind):
    cache.pixels("a", lambda: PICTURE)
    (path,) = files(cache)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    again = DecodeCache(cache.folder, 1e9)
    assert again.pixels("a", lambda: PICTURE) is PICTURE
    assert f"{path} of the decode cache is damaged: its picture is decoded anew" in caplog.text
    assert path.read_bytes() == whole


def test_a_file_under_another_name_is_not_taken(cache):
    cache.pixels("a", lambda: PICTURE)
    cache.pixels("b", lambda: 255 - PICTURE)
    first, second = files(cache)
    first.write_bytes(second.read_bytes())
    again = DecodeCache(cache.folder, 1e9)
    assert all(np.array_equal(again.pixels(key, lambda p=p: p), p) for key, p in (("a", PICTURE), ("b", 255 - PICTURE)))


def test_what_decoding_raises_is_not_kept(cache):
    def damaged():
        raise ValueError("cut short")

    for _ in range(2):
        with pytest.raises(ValueError, match="cut short"):
            cache.pixels("a", damaged)
    assert files(cache) == []


def test_a_full_disk_costs_time_only(cache, monkeypatch, caplog):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decode_cache, "write_atomically", full)
    for _ in range(3):
        assert cache.pixels("a", lambda: PICTURE) is PICTURE
    assert caplog.text.count("decoded pictures are no longer kept: [Errno 28] No space left") == 1


# Its bound -----------------------------------------------------------------------------------------------------------


def kept(cache: DecodeCache) -> int:
    return sum(path.stat().st_size for path in files(cache))


def filled(folder: Path, keys: str, most: float = 1e9, age: float = 0) -> DecodeCache:
    cache = DecodeCache(folder, most)
    for key in keys:
        before = set(files(cache))
        cache.pixels(key, lambda: PICTURE)
        for path in set(files(cache)) - before:
            os.utime(path, (cache.began - age, cache.began - age))
            age -= 1
    return cache


def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path):
    filled(tmp_path, "abcdefgh", age=100)
    cache = DecodeCache(tmp_path, 10 * FILE)
    cache.pixels("a", never)  # now the latest that was used
    for key in "ijkl":
        cache.pixels(key, lambda: PICTURE)
        assert kept(cache) <= 10 * FILE
    for key in "aijkl":
        cache.pixels(key, never)
    decoded = []
    DecodeCache(tmp_path, 1e9).pixels("b", lambda: decoded.append("b") or PICTURE)
    assert decoded == ["b"]


def test_what_this_run_uses_stays_and_the_rest_is_decoded_each_time(tmp_path):
    cache = DecodeCache(tmp_path, 4 * FILE)
    for _ in range(2):
        for key in "abcdefgh":
            assert np.array_equal(cache.pixels(key, lambda: PICTURE), PICTURE)
    assert kept(cache) <= 4 * FILE
    assert len(files(cache)) == 3
    for key in "abc":
        cache.pixels(key, never)


def test_a_picture_that_is_larger_than_the_cache_moves_nothing(tmp_path):
    filled(tmp_path, "ab", age=100)
    cache = DecodeCache(tmp_path, 3 * FILE)
    cache.pixels("large", lambda: np.zeros((100, 120, 3), np.uint8))
    assert len(files(cache)) == 2


def test_half_of_the_disk_stays_free(tmp_path, monkeypatch):
    filled(tmp_path, "ab")
    monkeypatch.setattr(decode_cache.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 4 * FILE}))
    assert DecodeCache(tmp_path, 1e9).most == 3 * FILE


# Several at once, and killed -----------------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from pathlib import Path
from semiseg.data.decode_cache import DecodeCache
cache = DecodeCache(Path(sys.argv[1]), 1e9)
print("ready", flush=True)
while True:
    for key in range(40):
        cache._known.clear()
        found = cache.pixels(str(key), lambda: np.full((200, 300, 3), key, np.uint8))
        assert (found == key).all(), key
        if "forget" in sys.argv:
            for path in cache.folder.rglob("*"):
                path.is_file() and not path.name.startswith(".") and path.unlink(missing_ok=True)
"""


def test_killed_writers_leave_nothing_wrong(tmp_path, caplog):
    folder = tmp_path / "decoded"
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [subprocess.Popen([*command, *more], stdout=subprocess.PIPE) for more in ([], ["forget"])]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    cache = DecodeCache(folder, 1e9)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        for key in range(40):
            cache._known.clear()
            assert (cache.pixels(str(key), lambda key=key: np.full((200, 300, 3), key, np.uint8)) == key).all()
    for writer in writers:
        assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert "damaged" not in caplog.text
    left = folder / "00" / ".semiseg-0123.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    DecodeCache(folder, 1e9)
    assert left.exists()  # a living writer's, for all one knows
    os.utime(left, (0, 0))
    DecodeCache(folder, 1e9)
    assert not left.exists()


def test_threads_may_share_one(cache):
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda n: cache.pixels(str(n % 5), lambda: PICTURE + np.uint8(n % 5)), range(200)):
            assert (found - PICTURE).max() < 5
    assert len(files(cache)) == 5


# Datasets ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    write_pictures(tmp_path / "data", 6, 4, (90, 120))
    return tmp_path / "data"


def opened(root: Path, **options: object):
    return open_dataset(DataOptions(root=root, **options))


def batches(root: Path, train: TrainOptions, start: int = 0, **options: object) -> list[torch.Tensor]:
    data = DataOptions(root=root, **options)
    augment = AugmentOptions(crop_height=32, crop_width=40)
    plan = {"seed": 3, "start": start, "use_unlabeled": True, "device": torch.device("cpu")}
    steps = training_batches(open_dataset(data), data, augment, train, **plan)
    return [part for labeled, unlabeled in steps for part in (*labeled[:3], *unlabeled[:3])]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_cache_gives_the_same_batches_and_resumes_exactly(root, workers, scale):
    train = TrainOptions(steps=6, batch_labeled=2, batch_unlabeled=2, workers=workers)
    wanted = batches(root, train, scale=scale, cache="off")
    ways = ["memory", "disk", "disk", "auto"]  # written, then read
    for cache in ways:
        found = batches(root, train, scale=scale, cache=cache)
        assert len(found) == len(wanted) == 36
        assert all(map(torch.equal, found, wanted)), cache
    resumed = batches(root, train, start=4, scale=scale, cache="disk")
    assert all(map(torch.equal, resumed, wanted[24:]))
    assert len(list(cache_folder().rglob("*"))) > 8


def test_a_changed_picture_or_mask_is_read_anew(root, cache):
    images = Prepared(opened(root, cache="off").labeled.source, disk=cache)
    image, mask = images.image(0).copy(), images.mask(0).copy()
    Image.fromarray(255 - image).save(images.source.images[0])
    assert np.abs(images.image(0).astype(int) - image).max() > 100
    assert np.array_equal(images.mask(0), mask)
    Image.fromarray(mask // 2).save(images.source.masks[0])
    assert np.array_equal(images.mask(0), mask // 2)


def test_another_reading_of_the_masks_is_another_entry(root):
    source = opened(root, cache="off").labeled.source
    key = source.files_key(0, "mask")
    source.reader = type(source.reader)(source.reader.classes, ignore_color=(1, 2, 3))
    assert source.files_key(0, "mask") != key
    assert source.files_key(0, "image") == opened(root).labeled.source.files_key(0, "image")


def test_the_check_before_the_first_step_fills_the_cache(root, monkeypatch):
    dataset = opened(root, cache="disk")
    damage.require_whole(dataset)
    monkeypatch.setattr("semiseg.data.files.read_image", lambda *_, **__: never())
    for images in dataset.image_sets.values():
        assert [images.image(place).shape[2] for place in range(len(images))]
    assert np.array_equal(dataset.val.mask(0), dataset.val.source.mask(0))


def test_without_its_file_a_picture_is_missed_as_ever(root):
    dataset = opened(root, cache="disk")
    dataset.labeled.image(0)
    dataset.labeled.source.images[0].unlink()
    with pytest.raises(ValueError, match="does not exist"):
        dataset.labeled.image(0)


# What is chosen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cheap", "at_once", "kind", "words"),
    [
        (1.0, 1.0, "off", "decoded pictures are not kept: decoding takes "),
        (0.0, 60.0, "memory", "decoded pictures are kept in memory, "),
        (0.0, 0.0, "disk", "decoded pictures are kept in "),
    ],
)
def test_auto_measures_and_says_what_it_chose(root, monkeypatch, cheap, at_once, kind, words):
    monkeypatch.setattr(cache_choice, "CHEAP", cheap)
    monkeypatch.setattr(cache_choice, "AT_ONCE", at_once)
    dataset = opened(root)
    assert dataset.cached.startswith(words)
    assert "ms a picture" in dataset.cached
    assert isinstance(dataset.labeled, Prepared)
    assert {"memory": dataset.labeled.in_memory, "disk": dataset.labeled.disk is not None}.get(kind, True)
    assert dataset.labeled.in_memory == (kind == "memory")
    assert isinstance(dataset.val, Prepared) == (kind != "off")


def test_memory_is_left_to_others(root, monkeypatch):
    monkeypatch.setattr(cache_choice, "CHEAP", 0.0)
    monkeypatch.setattr(cache_choice, "MEMORY", (1e9, 1e-12))
    assert opened(root).labeled.disk is not None


def test_what_does_not_fit_is_said(root):
    assert "Only 0.001 MB may be there" in opened(root, cache="disk", cache_gb=1e-6).cached


def test_a_folder_that_cannot_be_written_is_said(root, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "file"))
    dataset = opened(root, cache="disk")
    assert "decoded pictures are not kept, though decoding takes" in dataset.cached
    assert dataset.labeled.image(0).shape[2] == 3


def test_drawn_scenes_have_no_files_to_keep():
    dataset = open_dataset(DataOptions(dataset="scenes", cache="disk"))
    assert dataset.cached == "no picture is kept on disk: they do not come from files"
    assert open_dataset(DataOptions(dataset="scenes")).cached == ""


@pytest.mark.parametrize(("old", "now"), [(True, "memory"), (False, "off")])
def test_what_older_configs_say_still_holds(old, now):
    assert DataOptions(cache=old).cache == now


# Draft ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_has_the_size_and_about_the_colours_of_the_whole(root, orientation):
    smooth = np.stack([*np.meshgrid(np.arange(243), np.arange(181)), np.full((181, 243), 90)], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    path = opened(root, cache="off").unlabeled.source.images[0]
    Image.fromarray(smooth).save(path, quality=92, exif=exif)
    for scale in (0.5, 0.3, 0.125, 0.9):
        sets = [opened(root, cache="off", scale=scale, draft=draft).unlabeled for draft in (False, True)]
        whole, draft = (images.image(list(images.names).index(path.stem)) for images in sets)
        assert whole.shape == draft.shape
        assert np.abs(whole.astype(int) - draft).mean() < 3
        assert np.array_equal(whole, draft) == (scale > 0.5)


def test_a_draft_is_kept_apart(root):
    for draft in (True, False):
        opened(root, cache="disk", scale=0.5, draft=draft).labeled.image(0)
    assert len([path for path in cache_folder().rglob("*") if path.is_file()]) == 2
