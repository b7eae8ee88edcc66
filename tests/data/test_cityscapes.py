"""Cityscapes in its official layout, in miniature."""

import numpy as np
import pytest
from PIL import Image

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.sets.cityscapes import CITYSCAPES_CLASSES, CITYSCAPES_COLORS, TRAIN_IDS, CityscapesMasks
from semiseg.data.shards.write import write_shards

TRAIN = [f"train/{city}/{city}_00000{index}_000019" for city in ("aachen", "ulm") for index in range(3)]
VAL = ["val/lindau/lindau_000000_000019"]


def save(root, id_, kind, values):
    path = root / f"gtFine/{id_}_gtFine_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8).reshape(2, 4)).save(path)


@pytest.fixture
def root(tmp_path):
    for id_ in TRAIN + VAL:
        image = tmp_path / f"leftImg8bit/{id_}_leftImg8bit.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 2)).save(image)
        save(tmp_path, id_, "labelIds", [7, 8, 0, 6, 33, 23, 255, 29])
    write_list(tmp_path / "few.txt", TRAIN[:2])
    return tmp_path


def write_list(path, ids, line="leftImg8bit/{0}_leftImg8bit.png"):
    path.write_text("\n".join(line.format(id_) for id_ in ids))


def opened(root, **options):
    return open_dataset(DataOptions(dataset="cityscapes", root=root, **options))


def test_lists_that_are_not_named_come_from_the_folders(root):
    dataset = opened(root, labeled="few.txt")
    assert list(dataset.labeled.names) == TRAIN[:2]
    assert list(dataset.unlabeled.names) == TRAIN[2:]
    assert list(dataset.val.names) == VAL


@pytest.mark.parametrize(
    "line", ["leftImg8bit/{0}_leftImg8bit.png gtFine/{0}_gtFine_labelTrainIds.png", "{0}_leftImg8bit.png", "{0}"]
)
def test_other_formats_of_a_line(root, line):
    write_list(root / "other.txt", TRAIN[:2], line)
    assert list(opened(root, labeled="other.txt").labeled.names) == TRAIN[:2]


def test_both_kinds_of_mask_are_read(root):
    expected = [0, 1, 255, 255, 18, 10, 255, 255]
    assert opened(root, labeled="few.txt").labeled.mask(0).ravel().tolist() == expected
    # 7 is road as a labelId and traffic sign as a trainId: the file's name decides
    save(root, TRAIN[0], "labelTrainIds", [7, 7, 7, 7, 18, 0, 255, 255])
    labeled = opened(root, labeled="few.txt").labeled
    assert labeled.mask(0).ravel().tolist() == [7, 7, 7, 7, 18, 0, 255, 255]
    assert labeled.mask(1).ravel().tolist() == expected


def test_a_train_id_that_is_no_class_is_named(root):
    save(root, TRAIN[1], "labelTrainIds", [19] * 8)
    with pytest.raises(
        ValueError, match=r"aachen_000001_000019_gtFine_labelTrainIds\.png holds 19 at 8 pixels; expected 0\.\.18"
    ):
        opened(root, labeled="few.txt")


def test_the_table_is_the_official_one():
    assert len(CITYSCAPES_CLASSES) == len(set(CITYSCAPES_COLORS)) == 19
    # cityscapesScripts, labels.py: the 19 labelIds with a trainId, in trainId order
    assert [int(np.flatnonzero(train_id == TRAIN_IDS).item()) for train_id in range(19)] == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33
    ]  # fmt: skip
    assert (TRAIN_IDS == 255).sum() == 256 - 19
    named = dict(zip(CITYSCAPES_CLASSES, CITYSCAPES_COLORS, strict=True))
    assert (named["road"], named["person"], named["bicycle"]) == ((128, 64, 128), (220, 20, 60), (119, 11, 32))


def fails(root, pattern, **options):
    with pytest.raises(ValueError, match=pattern):
        opened(root, **options)


def test_what_is_missing_is_named(root):
    fails(root, r"no Cityscapes images are labelled: set data\.labeled .*u2pl/cityscapes/186")
    fails(root / "leftImg8bit", r"no folder .*leftImg8bit\. data\.root must hold", labeled="few.txt")
    (root / f"gtFine/{TRAIN[1]}_gtFine_labelIds.png").unlink()
    fails(root, r"1 of the 2 labeled masks .*missing.*aachen_000001_000019_gtFine_labelIds\.png", labeled="few.txt")
    (root / f"leftImg8bit/{TRAIN[1]}_leftImg8bit.png").unlink()
    fails(root, r"1 of the 2 labeled images .*missing.*aachen_000001_000019_leftImg8bit\.png", labeled="few.txt")


def test_a_published_list_of_absent_images_says_so(root, tmp_path):
    fails(root, r"no list .*u2pl/cityscapes/186/labeled\.txt\. Put a copy of https://raw", split="u2pl/cityscapes/186",
          split_folder=tmp_path / "copies")  # fmt: skip


def test_unlabelled_images_from_shards(root, tmp_path):
    """Shards of the whole image folder: files are called ID_leftImg8bit there, and those of other lists stay out."""
    shards = tmp_path / "shards"
    assert len(write_shards(root / "leftImg8bit", shards)) == len(TRAIN + VAL)
    for id_ in TRAIN[2:]:
        (root / f"leftImg8bit/{id_}_leftImg8bit.png").unlink()
    unlabeled = opened(root, labeled="few.txt", unlabeled_shards=shards).unlabeled
    assert list(unlabeled.names) == [f"{id_}_leftImg8bit" for id_ in TRAIN[2:]]
    assert unlabeled.image(0).shape == (2, 4, 3)


@pytest.mark.parametrize(("values", "dtype"), [([7, 200], np.uint8), ([7, 34], np.uint8), ([7, 300], np.uint16)])
def test_a_number_that_is_no_label_id_is_refused(tmp_path, values, dtype):
    path = tmp_path / "a_gtFine_labelIds.png"
    Image.fromarray(np.array([values], dtype=dtype)).save(path)
    reader = CityscapesMasks(CITYSCAPES_CLASSES)
    with pytest.raises(
        ValueError, match=rf"labelIds\.png holds {values[1]} at 1 pixels; expected labelIds, 0 to 33, or 255"
    ):
        reader.to_classes(reader.values(path), path)
