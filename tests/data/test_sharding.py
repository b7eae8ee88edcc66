"""Writing tar shards and indexing them, whoever made them."""

import hashlib
import multiprocessing
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.folders import fails, opened
from support.shard_files import QUIET, awkward, png, save_noise, write_tar

from semiseg.data.shards.index import index_shards, read_members
from semiseg.data.shards.read import INDEX, Shards
from semiseg.data.shards.write import cut, write_shards


@pytest.fixture
def root(tmp_path):
    return awkward(tmp_path / "data")


@pytest.fixture
def out(root, tmp_path):
    write_shards(root, tmp_path / "shards", images=3, console=QUIET)
    return tmp_path / "shards"


# What is written


def test_a_shard_holds_the_files_bytes_under_their_keys(root, out):
    assert sorted(path.name for path in out.iterdir()) == [INDEX, *(f"shard-00000{number}.tar" for number in range(3))]
    members = []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            members += [(info.name, info.mtime, info.uid, tar.extractfile(info).read()) for info in tar]
    files = sorted(path for path in (root / "images").rglob("*.*") if not path.name.startswith("m"))
    names = [path.relative_to(root / "images").as_posix() for path in files]
    names = [name.replace("JPG", "jpg") for name in names]
    assert members == [(name, 0, 0, path.read_bytes()) for name, path in zip(names, files, strict=True)]


def test_the_index_is_what_tarfile_says(out):
    found, places = Shards(out), []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            places += [(f"{path}:{info.name.rpartition('.')[0]}", tar.extractfile(info).read()) for info in tar]
    assert [(found.name(place), found.read(place)) for place in range(len(found))] == places
    keys = [name.partition(".tar:")[2] for name, _ in places]
    assert [found.find([key]) for key in keys] == [[place] for place in range(len(keys))]
    assert found.find([*keys, "no"]) == list(range(len(keys)))
    lines = "".join(f"{key} {len(content)}\n" for key, (_, content) in zip(keys, places, strict=True))
    assert found.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_equal_pictures_give_equal_tars(root, out, tmp_path):
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    write_shards(root, tmp_path / "again", images=3, console=QUIET)
    first, again = ({path.name: path.read_bytes() for path in each.glob("*.tar")} for each in (out, tmp_path / "again"))
    assert first
    assert again == first


def test_a_folder_and_a_list_are_sources_too(root, tmp_path):
    assert len(write_shards(root / "images", tmp_path / "all", console=QUIET)) == 18
    assert list(write_shards(root / "images/rome", tmp_path / "rome", console=QUIET).keys) == ["grün", "turned"]
    (root / "splits").mkdir()
    (root / "splits/few.txt").write_text("u3\nm1.jpg\nturned\nimages/u0.png\n")
    few = write_shards(root / "splits/few.txt", tmp_path / "few", root=root, console=QUIET)
    assert list(few.keys) == ["u3", "m1", "rome/turned", "u0"]


def test_sources_that_cannot_be(root, tmp_path):
    def refused(pattern, source, **options):
        with pytest.raises(ValueError, match=pattern):
            write_shards(source, tmp_path / "out", console=QUIET, **options)
        assert not (tmp_path / "out").exists()

    refused(r"data/no is no folder or list", root / "no")
    refused(r"data is no list, and --root is for the pictures of a list", root, root=root)
    refused("give --shard-size or --images, not both", root, images=2, shard_size=10)
    refused("--images is 0; expected 1 <= images", root, images=0)
    (root / "empty.txt").write_text("# nothing\n")
    refused(r"empty\.txt has no unlabelled picture: the list is empty", root / "empty.txt")
    (root / "twice.txt").write_text("u0\nu0\n")
    refused(r"u0\.png and .*u0\.png would have one key, 'u0'", root / "twice.txt")
    save_noise(root / "images/a.b.png", 0)
    save_noise(root / "images/a_b.png", 0)
    refused(r"a\.b\.png and .*a_b\.png would have one key, 'a_b', where dots become _\. Rename one", root)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.integers(1, 6000), st.integers(1, 5), st.booleans())
def test_a_cut_takes_as_much_as_fits(lengths, most_bytes, most_images, by_bytes):
    def blocks(place):
        return 512 + -(-lengths[place] // 512) * 512

    most = (most_bytes, 10**9) if by_bytes else (10**9, most_images)
    twin, rest = [], list(range(len(lengths)))
    while rest:
        take = len(rest)
        while take > 1 and (sum(map(blocks, rest[:take])) > most[0] or take > most[1]):
            take -= 1
        twin.append(rest[:take])
        rest = rest[take:]
    assert [list(part) for part in cut(lengths, *most)] == twin


def test_shards_have_about_the_size_that_was_asked_for(root, tmp_path):
    write_shards(root, tmp_path / "out", shard_size=20_000, console=QUIET)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "out").glob("*.tar"))]
    assert len(sizes) == 2
    assert max(sizes) < 20_000 + 2 * tarfile.RECORDSIZE


# Interrupted


@pytest.mark.parametrize("write", range(4))
def test_an_interrupted_sharding_goes_on(root, out, tmp_path, write):
    """Killed in its first write, second, ... with half a file on the disk: every tar is whole, none is made twice."""
    again = tmp_path / "again"
    child = multiprocessing.get_context("fork").Process(target=shard_and_die, args=(root, again, write))
    child.start()
    child.join()
    assert child.exitcode == -9
    made = {path: path.stat().st_mtime_ns for path in again.glob("*.tar")}
    assert len(made) == write
    for path in made:
        assert path.read_bytes() == (out / path.name).read_bytes()
    fails(root, r"no .*again/index\.safetensors", unlabeled_shards=again)
    write_shards(root, again, images=3, console=QUIET)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in out.iterdir())
    for path in out.glob("*.tar"):
        assert (again / path.name).read_bytes() == path.read_bytes()


def shard_and_die(root, out, write):
    fsync, writes = os.fsync, []

    def last_sync(number):
        fsync(number)
        writes.append(number)
        if len(writes) > write:
            os.truncate(number, os.fstat(number).st_size // 2)
            os.kill(os.getpid(), 9)

    os.fsync = last_sync
    write_shards(root, out, images=3, console=QUIET)


def test_another_sharding_is_not_mixed_in(root, out):
    before = {path: path.read_bytes() for path in out.iterdir()}
    for source, images in ((root, 2), (root, 4), (root / "images/rome", 1)):
        with pytest.raises(ValueError, match=r"shard-0.*tar is not the shard that .* gives now.*Choose another --out"):
            write_shards(source, out, images=images, console=QUIET)
    save_noise(root / "images/u2.png", 99, (20, 20))
    with pytest.raises(ValueError, match="is not the shard"):
        write_shards(root, out, images=3, console=QUIET)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


# Tars of others


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_others_are_indexed(root, tmp_path, caplog, form):
    one = {"./b.png": png(0), "b.json": b"{}", "deep/er/c.PNG": png(1), "notes.txt": b"", "._b.png": b"mac"}
    write_tar(tmp_path / "t/10.tar", one, format=form)
    write_tar(tmp_path / "t/2.tar", {f"{'d' * 90}/{'e' * 90}.png": png(2), "a.rgb.png": png(3)}, format=form)
    found = index_shards(tmp_path / "t", QUIET)
    assert list(found.keys) == ["b", "deep/er/c", f"{'d' * 90}/{'e' * 90}", "a"]
    assert [found.read(place) for place in range(4)] == [png(seed) for seed in range(4)]
    assert (
        f"3 files in the tars are no pictures, such as {tmp_path / 't/10.tar'}:b.json: they are passed" in caplog.text
    )
    assert opened(root, unlabeled_shards=tmp_path / "t").unlabeled.image(3).shape == (33, 35, 3)


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    whole = tmp_path / "whole.tar"
    write_tar(whole, {"a.png": b"1" * 700, "long" * 40 + ".png": b"2" * 100, "b.json": b"{}", "c.png": b"3" * 513})
    content = whole.read_bytes()
    end = content.rindex(b"3") // 512 * 512 + 512  # behind it zeros only
    assert content[end:] == bytes(len(content) - end)
    path = tmp_path / "cut/x.tar"
    path.parent.mkdir()
    for length in {*range(0, end + 512, 128), *range(1, end + 512, 509), end - 1, end, end + 511}:
        path.write_bytes(content[:length])
        with pytest.raises(
            ValueError, match=r"cut/x\.tar is not whole, or not a tar without compression \(.*Copy or write"
        ):
            index_shards(path.parent, QUIET)
    assert not (path.parent / INDEX).exists()
    path.write_bytes(content[: end + 512])
    assert len(index_shards(path.parent, QUIET)) == 3
    path.write_bytes(content[:512] + b"x" * 512 + content[1024:])  # the picture's own bytes
    assert len(read_members(path)[0]) == 3
    path.write_bytes(content[:1536] + b"x" * 512 + content[2048:])  # the next header
    with pytest.raises(ValueError, match=r"neither another member nor the mark of the end, after a\.png"):
        read_members(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_tar_is_refused(tmp_path, mode):
    write_tar(tmp_path / "a.tar", {"a.png": b"1"}, mode)
    with pytest.raises(ValueError, match=r"a\.tar is not whole, or not a tar without compression"):
        index_shards(tmp_path, QUIET)


def test_what_a_folder_of_tars_may_lack(tmp_path):
    with pytest.raises(ValueError, match=r"no \.tar files in .*; `semiseg data shard` makes some"):
        index_shards(tmp_path, QUIET)
    write_tar(tmp_path / "a.tar", {"a.json": b"1"})
    with pytest.raises(ValueError, match=r"a\.tar has no picture \(\.jpg, .*in it\. Take it out of"):
        index_shards(tmp_path, QUIET)


@pytest.mark.parametrize(
    ("one", "two"), [("a.png", "a.jpg"), ("x/a.left.png", "x/a.right.png"), ("a.png", "a.png"), ("./a.png", "a.PNG")]
)
@pytest.mark.parametrize("apart", [True, False])
def test_a_key_twice_is_refused(tmp_path, one, two, apart):
    write_tar(tmp_path / "1.tar", {"z.png": b"0", one: b"1"})
    write_tar(tmp_path / "2.tar", {"y.png": b"0", two: b"1"})
    if not apart:
        (tmp_path / "2.tar").unlink()
        with tarfile.open(tmp_path / "1.tar", "a") as tar:
            tar.addfile(tarfile.TarInfo(two))
    second = "2" if apart else "1"
    with pytest.raises(
        ValueError, match=rf"two pictures have the key '.*a', in .*1\.tar and in .*{second}\.tar\. .*leave"
    ):
        index_shards(tmp_path, QUIET)


def test_a_link_in_a_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("b.png")
        info.type, info.linkname = tarfile.LNKTYPE, "a.png"
        tar.addfile(info)
    with pytest.raises(ValueError, match=r"a\.tar:b\.png is a link or the like.*--hard-dereference"):
        index_shards(tmp_path, QUIET)
