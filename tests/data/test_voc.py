"""PASCAL VOC 2012 in its official layout, in miniature."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.shards.write import write_shards
from semiseg.data.splits import PUBLISHED, PublishedList, PublishedSplit

ALL = [f"2007_{index:06d}" for index in range(10)]
TRAIN, SBD, VAL = ALL[:3], ALL[3:7], ALL[7:9]  # ALL[9] is in no list, as most of VOC's images


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))  # as published: no line end after the last


@pytest.fixture
def root(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (tmp_path / folder).mkdir()
    for id_ in ALL:
        Image.new("RGB", (4, 2), (200, 100, 50)).save(tmp_path / f"JPEGImages/{id_}.jpg")
    for id_ in TRAIN + VAL:
        save_official_mask(tmp_path / f"SegmentationClass/{id_}.png", [0, 7, 20, 255])
    for id_ in SBD:
        Image.fromarray(np.resize(np.array([15, 1], np.uint8), (2, 4))).save(
            tmp_path / f"SegmentationClassAug/{id_}.png"
        )
    lists = tmp_path / "ImageSets/Segmentation"
    write_lines(lists / "train.txt", TRAIN)
    write_lines(lists / "val.txt", VAL)
    write_lines(lists / "trainaug.txt", [*TRAIN, *SBD])
    return tmp_path


def save_official_mask(path, values):
    """A palette PNG, as in the VOC archive: entry 7 of its palette is grey (128, 128, 128)."""
    picture = Image.fromarray(np.resize(np.array(values, np.uint8), (2, 4)), mode="P")
    table = np.zeros((256, 3), np.uint8)
    table[7], table[20], table[255] = (128, 128, 128), (0, 64, 128), (224, 224, 192)
    picture.putpalette(table.tobytes())
    picture.save(path)


def opened(root, **options):
    return open_dataset(DataOptions(dataset="voc", root=root, **options))


def test_official_lists_are_the_default(root):
    dataset = opened(root)
    assert list(dataset.labeled.names) == TRAIN
    assert list(dataset.unlabeled.names) == SBD
    assert list(dataset.val.names) == VAL
    assert dataset.test is None
    assert dataset.split["val"]["name"] == "VOC 2012 val"


def test_classes_and_colours_are_the_official_ones(root):
    dataset = opened(root)
    assert len(dataset.classes) == 21
    assert (dataset.classes[0], dataset.classes[15], dataset.classes[20]) == ("background", "person", "tv monitor")
    assert (dataset.colors[7], dataset.colors[15], dataset.colors[20]) == (
        (128, 128, 128), (192, 128, 128), (0, 64, 128)
    )  # fmt: skip


def test_palette_masks_give_indices_and_augmented_ones_come_first(root):
    assert opened(root).labeled.mask(0)[0].tolist() == [0, 7, 20, 255]
    Image.fromarray(np.full((2, 4), 3, np.uint8)).save(root / f"SegmentationClassAug/{TRAIN[0]}.png")
    dataset = opened(root)
    assert dataset.labeled.mask(0)[0].tolist() == [3, 3, 3, 3]
    assert dataset.labeled.mask(1)[0].tolist() == [0, 7, 20, 255]


@pytest.mark.parametrize(
    "line", ["{}", "JPEGImages/{}.jpg SegmentationClass/{}.png", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png"]
)
def test_both_formats_of_a_line(root, line):
    write_lines(root / "few.txt", [line.format(id_, id_) for id_ in (SBD[1], TRAIN[2])])
    dataset = opened(root, labeled="few.txt")
    assert list(dataset.labeled.names) == [SBD[1], TRAIN[2]]
    assert dataset.labeled.mask(0)[0].tolist() == [15, 1, 15, 1]
    assert set(dataset.unlabeled.names) == {*TRAIN, *SBD} - {SBD[1], TRAIN[2]}


def test_without_sbd_the_universe_is_train(root):
    (root / "ImageSets/Segmentation/trainaug.txt").unlink()
    write_lines(root / "few.txt", TRAIN[:1])
    assert list(opened(root, labeled="few.txt").unlabeled.names) == TRAIN[1:]


def test_unlabelled_images_need_no_mask(root):
    write_lines(root / "rest.txt", [ALL[9]])
    assert list(opened(root, unlabeled="rest.txt").unlabeled.names) == [ALL[9]]


def fails(root, pattern, **options):
    with pytest.raises(ValueError, match=pattern):
        opened(root, **options)


def test_what_is_missing_is_named(root):
    write_lines(root / "few.txt", [ALL[9], TRAIN[0]])
    fails(
        root, rf"1 of the 2 labeled masks \(few\.txt\) are missing.*SegmentationClass.{ALL[9]}\.png", labeled="few.txt"
    )
    (root / f"JPEGImages/{SBD[3]}.jpg").unlink()
    fails(root, rf"1 of the 4 unlabeled images .* are missing.*JPEGImages.{SBD[3]}\.jpg\. Put the files there")
    (root / "ImageSets/Segmentation/val.txt").unlink()
    fails(root, r"no list .*val\.txt\. Restore it from the VOC 2012 archive")
    fails(root.parent, r"no folder .*JPEGImages\. data\.root must be the folder of PASCAL VOC 2012")


def test_an_index_that_is_no_class_is_named(root):
    save_official_mask(root / f"SegmentationClass/{TRAIN[1]}.png", [0, 21])
    fails(root, rf"{TRAIN[1]}\.png holds 21 at 4 pixels; expected 0\.\.20 \(background, .*tv monitor\) or 255")


def test_a_published_split_brings_its_own_validation_list(root, monkeypatch, tmp_path):
    parts = {"labeled": TRAIN[:1], "unlabeled": SBD, "val": VAL[1:]}
    for name, ids in parts.items():
        write_lines(tmp_path / f"copies/{name}.txt", ids)
    lists = {
        name: PublishedList(f"{name}.txt", f"https://lists.example/{name}.txt", sha256_of("\n".join(ids)), len(ids))
        for name, ids in parts.items()
    }
    monkeypatch.setitem(PUBLISHED, "tiny", PublishedSplit("voc", **lists))
    dataset = opened(root, split="tiny", split_folder=tmp_path / "copies")
    assert {name: list(images.names) for name, images in dataset.image_sets.items()} == parts
    assert dataset.split["labeled"] == {
        "name": "tiny",
        "sha256": sha256_of(TRAIN[0] + "\n"),
        "count": 1,
        "source": "https://lists.example/labeled.txt",
        "file_sha256": sha256_of(TRAIN[0]),
    }
    write_lines(root / "mine.txt", VAL[:1])
    assert list(opened(root, split="tiny", split_folder=tmp_path / "copies", val="mine.txt").val.names) == VAL[:1]


def test_unlabelled_images_from_shards(root, monkeypatch, tmp_path):
    """Instead of the official rest, whose files need not be there, and instead of a published list."""
    shards = tmp_path / "shards"
    write_shards(root / "JPEGImages", shards, images=4)
    for id_ in SBD:
        (root / f"JPEGImages/{id_}.jpg").unlink()
    unlabeled = opened(root, unlabeled_shards=shards).unlabeled
    assert list(unlabeled.names) == [*SBD, ALL[9]]
    assert unlabeled.image(2).shape == (2, 4, 3)
    for name, ids in {"labeled": TRAIN, "unlabeled": ["gone"], "val": VAL}.items():
        write_lines(tmp_path / f"copies/{name}.txt", ids)
    lists = {
        name: PublishedList(f"{name}.txt", "", sha256_of("\n".join(ids)), len(ids))
        for name, ids in {"labeled": TRAIN, "unlabeled": ["gone"], "val": VAL}.items()
    }
    monkeypatch.setitem(PUBLISHED, "tiny", PublishedSplit("voc", **lists))
    dataset = opened(root, split="tiny", split_folder=tmp_path / "copies", unlabeled_shards=shards)
    assert dataset.split["labeled"]["name"] == "tiny"
    assert dataset.split["unlabeled"]["name"] == f"shards {shards}, less 5 in other lists"


def sha256_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_split_of_another_dataset_is_refused_with_the_valid_names(root):
    fails(root, r"'u2pl/cityscapes/186'.*dataset 'voc': its splits are .*u2pl/pascal/92.*", split="u2pl/cityscapes/186")
    fails(root, r"'u2pl/pascal/93'.*unimatch/pascal/1_16", split="u2pl/pascal/93")
