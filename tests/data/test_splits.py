"""Published splits: the table, and what happens to a list that is missing, altered or overlapping."""

import hashlib
import io
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg.data.splits import (
    PUBLISHED,
    PublishedList,
    PublishedSplit,
    check_disjoint,
    image_id,
    listed_images,
    published_lists,
)

TEXTS = {
    "tiny/labeled.txt": "2007_000001\n2007_000002",
    "tiny/unlabeled.txt": "2007_000003\n2007_000004\n2007_000005\n",
    "tiny/val.txt": "2007_000009",
    "other/labeled.txt": "JPEGImages/2007_000004.jpg SegmentationClass/2007_000004.png\n",
}


def published_list(file, text):
    lines = len(text.split())
    return PublishedList(file, f"https://lists.example/{file}", hashlib.sha256(text.encode()).hexdigest(), lines)


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """Two small published splits, and a cache folder of their own. Their lists by file."""
    lists = {file: published_list(file, text) for file, text in TEXTS.items() if not file.startswith("other")}
    other = replace(published_list("other/labeled.txt", TEXTS["other/labeled.txt"]), count=1)
    labeled, unlabeled, val = lists.values()
    monkeypatch.setitem(PUBLISHED, "tiny", PublishedSplit("voc", labeled, val, unlabeled))
    monkeypatch.setitem(PUBLISHED, "rest", PublishedSplit("voc", other, val, None, (labeled, unlabeled)))
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "cache/semiseg"))
    return lists | {other.file: other}


@pytest.fixture
def copies(tmp_path):
    for file, text in TEXTS.items():
        path = tmp_path / "copies" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "copies"


@pytest.fixture
def web(monkeypatch):
    """Serves TEXTS; the list of addresses asked for."""
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(TEXTS[url.removeprefix("https://lists.example/")].encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def test_a_split_is_read_from_a_folder_of_copies(parts, copies):
    lists = published_lists("tiny", "voc", copies)
    assert {name: list(named.ids) for name, named in lists.items()} == {
        "labeled": ["2007_000001", "2007_000002"],
        "val": ["2007_000009"],
        "unlabeled": ["2007_000003", "2007_000004", "2007_000005"],
    }
    assert lists["labeled"].name == "tiny"
    assert lists["labeled"].source == "https://lists.example/tiny/labeled.txt"


def test_without_a_list_of_its_own_the_rest_of_the_universe_is_unlabelled(parts, copies):
    lists = published_lists("rest", "voc", copies)
    assert list(lists["labeled"].ids) == ["2007_000004"]
    assert list(lists["unlabeled"].ids) == ["2007_000001", "2007_000002", "2007_000003", "2007_000005"]


def test_a_list_is_fetched_once(parts, web, tmp_path):
    first = published_lists("tiny", "voc", None)
    assert len(web) == 3
    assert published_lists("tiny", "voc", None) == first
    assert len(web) == 3
    cached = tmp_path / "cache/semiseg/splits"
    assert sorted(path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file()) == [
        "tiny/labeled.txt", "tiny/unlabeled.txt", "tiny/val.txt"
    ]  # fmt: skip
    assert (cached / "tiny/labeled.txt").read_text() == TEXTS["tiny/labeled.txt"]


def test_offline_without_a_cache_says_what_to_put_where(parts, monkeypatch, tmp_path):
    def offline(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(ValueError, match=r"cannot fetch https://lists\.example/tiny/labeled\.txt .*no route") as caught:
        published_lists("tiny", "voc", None)
    assert str(tmp_path / "cache/semiseg/splits/tiny/labeled.txt") in str(caught.value)
    assert "data.split_folder" in str(caught.value)


def test_a_missing_copy_is_not_fetched(parts, copies, web):
    (copies / "tiny/val.txt").unlink()
    with pytest.raises(ValueError, match=r"no list .*copies.tiny/val\.txt\. Put a copy of https://lists\.example/tiny"):
        published_lists("tiny", "voc", copies)
    assert not web


def test_an_altered_list_is_refused(parts, copies):
    (copies / "tiny/labeled.txt").write_text("2007_000002\n2007_000001")
    with pytest.raises(ValueError, match=r"labeled\.txt is not the published list: 2 images, sha256 .*; expected 2"):
        published_lists("tiny", "voc", copies)


def test_an_altered_answer_is_not_kept(parts, web, monkeypatch, tmp_path):
    monkeypatch.setitem(TEXTS, "tiny/labeled.txt", "<html>moved</html>")
    with pytest.raises(ValueError, match=r"what https://lists\.example/tiny/labeled\.txt sends is not the published"):
        published_lists("tiny", "voc", None)
    assert not (tmp_path / "cache").exists()


def test_a_list_of_another_length_is_refused(parts, copies, monkeypatch):
    split = PUBLISHED["tiny"]
    monkeypatch.setitem(PUBLISHED, "tiny", replace(split, labeled=replace(split.labeled, count=3)))
    with pytest.raises(ValueError, match=r"2 images, .*; expected 3 images"):
        published_lists("tiny", "voc", copies)


@pytest.mark.parametrize(("file", "other"), [("tiny/unlabeled.txt", "unlabeled"), ("tiny/val.txt", "val")])
def test_lists_that_share_an_image_are_refused(parts, copies, monkeypatch, file, other):
    (copies / file).write_text("2007_000002")
    shared = published_list(file, "2007_000002")
    monkeypatch.setitem(PUBLISHED, "tiny", replace(PUBLISHED["tiny"], **{other: shared}))
    with pytest.raises(ValueError, match=f"'2007_000002' is in the labeled list and in the {other} list"):
        published_lists("tiny", "voc", copies)


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=3, max_size=3))
def test_check_disjoint_agrees_with_counting(lists):
    together = [id_ for ids in lists for id_ in ids]
    named = dict(zip(("labeled", "unlabeled", "val"), lists, strict=True))
    if len(together) == len(set(together)):
        check_disjoint(named)
    else:
        with pytest.raises(ValueError, match="An image belongs to one list, once"):
            check_disjoint(named)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2007_000032", "2007_000032"),
        ("JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png", "2007_000032"),
        ("leftImg8bit/train/ulm/ulm_000061_000019_leftImg8bit.png", "train/ulm/ulm_000061_000019"),
        ("leftImg8bit\\val\\ulm\\ulm_000061_000019_leftImg8bit.png", "val/ulm/ulm_000061_000019"),
    ],
)
def test_image_id(line, expected):
    assert image_id(line) == expected


def test_the_table_says_what_the_papers_say():
    counts = {name: split.labeled.count for name, split in PUBLISHED.items()}
    assert [name for name in counts if name.startswith("unimatch")] == [
        f"unimatch/pascal/1_{part}" for part in (16, 4, 8)
    ]
    assert [counts[f"unimatch/pascal/1_{part}"] for part in (16, 8, 4)] == [662, 1323, 2646]
    for name, split in PUBLISHED.items():
        universe = {"voc": 10_582, "cityscapes": 2_975}[split.dataset]
        assert split.val.count == {"voc": 1_449, "cityscapes": 500}[split.dataset]
        if split.unlabeled is None:
            assert sum(part.count for part in split.universe) == universe
        else:
            assert counts[name] == int(name.rsplit("/")[-1])
            assert counts[name] + split.unlabeled.count == universe


def test_every_address_is_pinned_to_a_commit():
    for split in PUBLISHED.values():
        parts = [split.labeled, split.val, *split.universe, *([split.unlabeled] if split.unlabeled else [])]
        for part in parts:
            assert len(part.url.split("/")[5]) == 40
            assert len(part.sha256) == 64


def test_the_table_holds_for_the_lists_themselves():
    folder = next((path for p in Path(__file__).parents if (path := p / "shared/data/splits").is_dir()), None)
    if folder is None:
        pytest.skip("no folder shared/data/splits beside the checkout")
    for name, split in PUBLISHED.items():
        lists = published_lists(name, split.dataset, folder)  # hash, count and disjointness are checked in there
        universe = {"voc": 10_582, "cityscapes": 2_975}[split.dataset]
        assert len(lists["labeled"].ids) + len(lists["unlabeled"].ids) == universe


@pytest.mark.parametrize("line", ["JPEGImages/a.jpg SegmentationClass/b.png", "a -1", "a a.png b.png"])
def test_a_line_with_another_images_mask_is_refused(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"b\n{line}\n")
    with pytest.raises(ValueError, match=r"list\.txt names .*; expected an image, or an image and its own mask"):
        listed_images(path)
    path.write_text(
        "JPEGImages/a.jpg SegmentationClass/a.png\nleftImg8bit/u/c_leftImg8bit.png gtFine/u/c_gtFine_labelIds.png\n"
    )
    assert listed_images(path) == ("a", "u/c")
