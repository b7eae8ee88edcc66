"""The order of the images: permutation after permutation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semiseg.data.order import Order, Stream


def twin_order(count, seed, stream, stop):
    """The first `stop` entries of the endless list, as it was defined before there were large sets."""
    entries, epoch = [], 0
    while len(entries) < stop:
        entries += np.random.default_rng([seed, stream, epoch]).permutation(count).tolist()
        epoch += 1
    return entries[:stop]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 3), st.sampled_from(Stream))
def test_small_sets_keep_the_order_they_had(count, size, seed, stream):
    ours = Order(count, seed, stream)
    steps = range(7)
    assert [ours.batch(step, size) for step in steps] == [
        twin_order(count, seed, stream, (step + 1) * size)[step * size :] for step in steps
    ]


def test_steps_may_come_in_any_order():
    ours = Order(7, 0, Stream.LABELED_ORDER)
    assert [ours.batch(step, 4) for step in (9, 0, 4, 0)] == [
        Order(7, 0, Stream.LABELED_ORDER).batch(step, 4) for step in (9, 0, 4, 0)
    ]


@given(st.integers(1, 12), st.integers(1, 30))
def test_every_pass_has_each_index_once(count, size):
    ours = Order(count, 1, Stream.UNLABELED_ORDER)
    entries = [index for step in range(3 * count) for index in ours.batch(step, size)]
    passes = np.array(entries).reshape(-1, count)
    assert len(passes) == 3 * size
    assert (np.sort(passes, 1) == np.arange(count)).all()


def test_passes_seeds_and_streams_are_shuffled_differently():
    orders = [
        tuple(Order(50, seed, stream).permutation(epoch))
        for seed in (0, 1, 11)
        for stream in (Stream.LABELED_ORDER, Stream.UNLABELED_ORDER)
        for epoch in (0, 1, 10)
    ]
    assert len(set(orders)) == len(orders) == 18


def test_a_million_images_take_four_bytes_each():
    ours = Order(2**20 + 1, 0, Stream.UNLABELED_ORDER)
    assert ours.permutation(0).nbytes == 4 * (2**20 + 1)
    assert np.array_equal(np.sort(ours.permutation(3)), np.arange(2**20 + 1))
    assert ours.batch(0, 2) == twin_order(2**20 + 1, 0, Stream.UNLABELED_ORDER, 2)


def test_a_drawn_pass_is_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(Order, "permutation", lambda self, epoch: drawn.append(epoch) or list(range(self.count)))
    ours = Order(10, 0, Stream.LABELED_ORDER)
    for step in range(8):
        ours.batch(step, 4)
    assert drawn == [0, 1, 2, 3]
