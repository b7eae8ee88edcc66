"""The order of the images: permutations, drawn whole or computed entry by entry."""

import hashlib
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg.data import order
from semiseg.data.order import DRAWN, Order, Shuffled, Stream


def twin_order(count, seed, stream, stop):
    """The first `stop` entries of the endless list, as it was defined before there were large sets."""
    entries, epoch = [], 0
    while len(entries) < stop:
        entries += np.random.default_rng([seed, stream, epoch]).permutation(count).tolist()
        epoch += 1
    return entries[:stop]


def twin_shuffled(count, key):
    """The permutation as a table of the whole square, followed from each number until it is back inside."""
    side = math.ceil(math.sqrt(count))
    square = {}
    for row in range(side):
        for column in range(side):
            left, right = row, column
            for number in range(6):
                digest = hashlib.blake2b(bytes(f"{key} {number} {right}", "ascii"), digest_size=8).digest()
                shift = sum(byte << (8 * place) for place, byte in enumerate(digest))
                left, right = right, (left + shift) % side
            square[row * side + column] = left * side + right
    found = []
    for number in range(count):
        image = square[number]
        while image not in range(count):
            image = square[image]
        found.append(image)
    return found


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


@given(st.integers(1, 600), st.text("0123 ", max_size=9))
def test_shuffled_is_a_permutation_and_its_twin(count, key):
    found = list(Shuffled(count, key))
    assert sorted(found) == list(range(count))
    assert found == twin_shuffled(count, key)


def test_shuffled_is_pinned():
    """Resumed runs need the same order in every version."""
    assert Shuffled(10**8, "3 1 7")[:4] == [32435117, 42601765, 10547640, 66383310]
    assert Shuffled(10**8, "3 1 7")[10**8 - 1] == 93348520


def test_above_the_bound_an_order_is_shuffled_and_below_it_is_drawn():
    assert isinstance(Order(DRAWN, 0, Stream.UNLABELED_ORDER).permutation(0), list)
    large = Order(DRAWN + 1, 5, Stream.UNLABELED_ORDER)
    assert large.permutation(2)[:9] == Shuffled(DRAWN + 1, "5 1 2")[:9]
    last = large.batch(DRAWN, 3)  # entries 3 * DRAWN, ... of passes of DRAWN + 1: epoch 2
    assert last == large.permutation(2)[DRAWN - 2 : DRAWN + 1]


@given(st.integers(1, 12), st.integers(1, 30))
def test_every_pass_has_each_index_once_also_when_shuffled(count, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "DRAWN", 0)
        ours = Order(count, 1, Stream.UNLABELED_ORDER)
        entries = [index for step in range(3 * count) for index in ours.batch(step, size)]
    passes = np.array(entries).reshape(-1, count)
    assert len(passes) == 3 * size
    assert (np.sort(passes, 1) == np.arange(count)).all()


def test_passes_seeds_and_streams_are_shuffled_differently(monkeypatch):
    monkeypatch.setattr(order, "DRAWN", 0)
    orders = [
        tuple(Order(50, seed, stream).permutation(epoch))
        for seed in (0, 1, 11)
        for stream in (Stream.LABELED_ORDER, Stream.UNLABELED_ORDER)
        for epoch in (0, 1, 10)
    ]
    assert len(set(orders)) == len(orders) == 18


def test_two_passes_know_nothing_of_each_other():
    """Of two independent permutations the number of equal entries is Poisson(1), and their correlation is 1/sqrt(n)."""
    count = 2000
    passes = [np.array(Shuffled(count, f"0 1 {epoch}")) for epoch in range(12)]
    pairs = [(one, two) for place, one in enumerate(passes) for two in passes[:place]]
    equal = sum(int((one == two).sum()) for one, two in pairs)
    assert 66 - 5 * 66**0.5 < equal < 66 + 5 * 66**0.5
    assert max(abs(np.corrcoef(one, two)[0, 1]) for one, two in pairs) < 4.5 / count**0.5
    for one in passes:
        assert abs(np.corrcoef(one, np.arange(count))[0, 1]) < 4.5 / count**0.5
        assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 4.5 / count**0.5


def test_where_an_entry_goes_is_uniform():
    """Chi-square over 10 x 10 cells of (place, image), for many keys: no place prefers an image."""
    count, keys = 30, 400
    table = np.zeros((10, 10))
    for key in range(keys):
        np.add.at(table, (np.arange(count) // 3, np.array(Shuffled(count, f"k{key}")) // 3), 1)
    expected = count * keys / 100
    assert ((table - expected) ** 2 / expected).sum() < 81 + 5 * (2 * 81) ** 0.5  # 81 degrees of freedom


def test_a_large_order_holds_nothing_and_costs_as_much_as_its_batch(monkeypatch):
    calls = []
    monkeypatch.setattr(order, "blake2b", lambda *args, **options: calls.append(1) or hashlib.blake2b(*args, **options))
    ours = Order(10**12, 0, Stream.UNLABELED_ORDER)
    for step in (0, 10**9):
        assert len(set(ours.batch(step, 8))) == 8
    assert len(calls) < 3 * 6 * 16
    assert len(pickle.dumps(ours)) < 400


def test_a_drawn_pass_is_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(Order, "permutation", lambda self, epoch: drawn.append(epoch) or list(range(self.count)))
    ours = Order(10, 0, Stream.LABELED_ORDER)
    for step in range(8):
        ours.batch(step, 4)
    assert drawn == [0, 1, 2, 3]
