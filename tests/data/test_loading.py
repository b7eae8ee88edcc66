"""Batch t is a pure function of (seed, t): workers, resuming and the method's wishes change nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.drawn_batches import AUGMENT, TRAIN, Plain, batches, dataset

from semiseg.config.options import DataOptions
from semiseg.data.loading import Order, Stream, ViewKey, Views, collate, labeled_images, training_batches, whole_images
from semiseg.parts.augment import denormalise, normalise, weak_view
from semiseg.runtime import distributed


def assert_same(one: list, two: list) -> None:
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        for a, b in zip(first, second, strict=True):
            assert type(a) is type(b)
            assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
def test_every_pass_of_the_order_has_each_index_once(count, size, seed):
    order = Order(count, seed, Stream.LABELED_ORDER)
    steps = 3 * count  # size * count entries are whole passes, so 3 * count batches are 3 * size passes
    entries = [index for step in range(steps) for index in order.batch(step, size)]
    passes = np.array(entries).reshape(-1, count)
    assert len(passes) == 3 * size
    assert (np.sort(passes, 1) == np.arange(count)).all()


def test_passes_seeds_and_streams_are_ordered_differently():
    orders = [
        tuple(Order(50, seed, stream).permutation(epoch))
        for seed in (0, 1)
        for stream in (Stream.LABELED_ORDER, Stream.UNLABELED_ORDER)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == len(orders)


def test_shapes_types_and_contents():
    for labeled, unlabeled in batches(dataset()):
        assert labeled.image.shape == (2, 3, 32, 40)
        assert labeled.label.shape == (2, 32, 40)
        assert unlabeled.image.shape == (3, 3, 32, 40)
        assert unlabeled.valid.shape == (3, 32, 40)
        types = [tensor.dtype for tensor in (*labeled[:3], *unlabeled[:3])]
        assert types == [torch.float32, torch.int64, torch.int64, torch.float32, torch.bool, torch.int64]
        for image, label, index in zip(*labeled[:3], strict=True):
            inside = label != 255
            assert (label[inside] == index).all(), "the label is that of the image at `index`"
            assert ((denormalise(image)[0][inside] * 255).round() == index).all()
        for image, valid, index in zip(*unlabeled[:3], strict=True):
            assert ((denormalise(image)[0][valid] * 255).round() == index).all()
            assert (image[:, ~valid] == 0).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    assert_same(batches(dataset()), batches(dataset(), replace(TRAIN, workers=workers)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_share_the_batches_of_one(monkeypatch, accumulate):
    """Micro-batch by micro-batch, the shares of two processes after one another are the batch of one."""
    train = replace(TRAIN, batch_labeled=4, batch_unlabeled=8, accumulate=accumulate)
    whole = batches(dataset(), train)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares = []
    for number in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        shares.append(batches(dataset(), train))
    for expected, *parts in zip(whole, *shares, strict=True):
        for kind in (0, 1):
            for tensors in zip(expected[kind][:3], *(part[kind][:3] for part in parts), strict=True):
                full, first, second = (tensor.chunk(accumulate) for tensor in tensors)
                assert all(torch.equal(torch.cat(pair), one) for one, *pair in zip(full, first, second, strict=True))


@pytest.mark.parametrize("start", [1, 3, 6])
def test_resuming_changes_nothing(start):
    assert_same(batches(dataset())[start:], batches(dataset(), start=start))


def test_more_steps_change_nothing_before_them():
    assert_same(batches(dataset()), batches(dataset(), replace(TRAIN, steps=8))[:6])


def test_the_labelled_part_does_not_depend_on_the_unlabelled():
    alone = batches(dataset(), use_unlabeled=False)
    paired = batches(dataset(unlabeled=4), replace(TRAIN, batch_unlabeled=1))
    assert all(unlabeled is None for _, unlabeled in alone)
    assert_same([(labeled,) for labeled, _ in alone], [(labeled,) for labeled, _ in paired])


def test_the_seed_changes_order_and_views():
    one, two = batches(dataset()), batches(dataset(), seed=2)
    assert [step[0].index.tolist() for step in one] != [step[0].index.tolist() for step in two]
    single = dataset(labeled=1)
    assert not torch.equal(batches(single)[0][0].label, batches(single, seed=2)[0][0].label)


def test_an_image_looks_different_at_every_step_and_slot():
    noise = replace(dataset(), labeled=_Noise("labeled", 1), unlabeled=_Noise("unlabeled", 1))
    views = [view for labeled, unlabeled in batches(noise) for view in (*labeled.image, *unlabeled.image)]
    assert len(views) == 6 * (2 + 3)
    assert len({view.numpy().tobytes() for view in views}) == len(views)


class _Noise(Plain):
    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (60, 60, 3), dtype=np.uint8)

    def mask(self, index: int) -> np.ndarray:
        return np.zeros((60, 60), np.uint8)


def test_a_view_is_the_documented_function_of_its_key():
    labeled, unlabeled = batches(dataset(), seed=11)[4]
    source = dataset()
    index = int(labeled.index[1])
    rng = np.random.default_rng([11, 2, 4, 1])  # seed, stream, step, slot
    image, label, _ = weak_view(source.labeled.image(index), source.labeled.mask(index), AUGMENT, 255, rng)
    assert torch.equal(labeled.image[1], normalise(image))
    assert torch.equal(labeled.label[1], label.long())
    index = int(unlabeled.index[2])
    image, _, valid = weak_view(source.unlabeled.image(index), None, AUGMENT, 255, np.random.default_rng([11, 3, 4, 2]))
    assert torch.equal(unlabeled.image[2], normalise(image).masked_fill(~valid, 0))
    assert torch.equal(unlabeled.valid[2], valid)


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_is_a_layout_and_nothing_else(channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for ours, plain in zip(
        batches(dataset(), replace(TRAIN, channels_last=channels_last)), batches(dataset()), strict=True
    ):
        for batch, other in zip(ours, plain, strict=True):
            assert batch.image.is_contiguous(memory_format=layout)
            assert torch.equal(batch.image, other.image)


def test_what_the_workers_hand_over_is_bytes():
    views = Views(dataset(), AUGMENT, 255, 0)
    keys = [ViewKey(Stream.LABELED_VIEW, 0, 0, 1), ViewKey(Stream.UNLABELED_VIEW, 0, 0, 2)]
    labeled, unlabeled = collate([views[key] for key in keys])
    sizes = [tensor.element_size() for tensor in (*labeled[:3], unlabeled.image, unlabeled.valid)]
    assert sizes == [1] * 5
    assert unlabeled.label is None


def test_each_labelled_image_comes_once_per_pass():
    indices = torch.cat([labeled.index for labeled, _ in batches(dataset(labeled=4), replace(TRAIN, steps=10))])
    assert (indices.view(-1, 4).sort(1).values == torch.arange(4)).all()


def test_pad_label_reaches_the_batches():
    options = DataOptions(dataset="scenes", pad_label=0)
    small = replace(dataset(), labeled=_Constant("labeled", 1))
    keys = {"seed": 0, "start": 0, "use_unlabeled": False, "device": torch.device("cpu")}
    stream = training_batches(small, options, AUGMENT, TRAIN, **keys)
    values = {value for labeled, _ in stream for value in labeled.label.unique().tolist()}
    assert values == {0, 7}


class _Constant(Plain):
    def mask(self, index: int) -> np.ndarray:
        return np.full((36 + index, 50), 7, np.uint8)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(dataset(), replace(TRAIN, steps=2, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_worker_receives_pickles():
    """Under spawn and forkserver the views travel by pickle."""
    views = Views(dataset(), AUGMENT, 255, 3)
    key = ViewKey(Stream.LABELED_VIEW, step=2, slot=1, position=4)
    copy, copied_key = pickle.loads(pickle.dumps((views, key)))
    assert torch.equal(copy.sample(copied_key).image, views.sample(key).image)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_reported_in_its_own_words(workers):
    with pytest.raises(ValueError, match=r"^labeled3\.png cannot be read$"):
        batches(dataset(broken=3), replace(TRAIN, workers=workers))


def test_stopping_early_is_allowed():
    options = DataOptions(dataset="scenes")
    train = replace(TRAIN, steps=1000, workers=1)
    keys = {"seed": 0, "start": 0, "use_unlabeled": True, "device": torch.device("cpu")}
    stream = training_batches(dataset(), options, AUGMENT, train, **keys)
    assert len(list(islice(stream, 2))) == 2
    stream.close()


def test_whole_images_come_in_order_at_their_own_size():
    found = list(whole_images(Plain("val", 9)))
    assert [name for name, _, _ in found] == [f"val{index}" for index in range(9)]
    for index, (_, image, label) in enumerate(found):
        assert image.shape == (1, 3, 36 + index, 50)
        assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
        assert ((denormalise(image) * 255).round() == index).all()
        assert (label == index).all()


def test_whole_images_open_no_mask_unless_asked():
    found = list(whole_images(Plain("unlabeled", 3), with_label=False))
    assert [label for _, _, label in found] == [None] * 3


def test_a_damaged_whole_image_is_reported_after_those_before_it():
    images = whole_images(Plain("labeled", 5, broken=2))
    assert [next(images)[0], next(images)[0]] == ["labeled0", "labeled1"]
    with pytest.raises(ValueError, match=r"labeled2\.png cannot be read"):
        next(images)


def test_labeled_images_can_be_iterated_again():
    images = labeled_images(Plain("labeled", 3))
    for _ in range(2):
        found = list(images)
        assert [batch.index.tolist() for batch in found] == [[0], [1], [2]]
        assert [tuple(batch.label.shape) for batch in found] == [(1, 36, 50), (1, 37, 50), (1, 38, 50)]
        assert found[2].image.shape == (1, 3, 38, 50)
