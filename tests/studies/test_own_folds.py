"""Folds: every mask validates once, classes are spread, and the seed decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg.studies.own.folds import make_folds

PRESENT = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4), st.frozensets(st.integers(0, 5)), min_size=3, max_size=30
)


@given(PRESENT, st.integers(2, 5), st.integers(0, 99))
def test_every_mask_validates_once_and_trains_in_all_other_folds(present, count, seed):
    count = min(count, len(present))
    folds = make_folds(present, count, seed)
    assert len(folds) == count
    assert sorted(id_ for fold in folds for id_ in fold.val) == sorted(present)
    for fold in folds:
        assert not {*fold.val} & {*fold.labeled}
        assert {*fold.val} | {*fold.labeled} == {*present}
    sizes = [len(fold.val) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert folds == make_folds(dict(reversed(present.items())), count, seed)


@given(PRESENT, st.integers(0, 99))
def test_the_rarest_class_of_two_masks_or_more_can_always_be_learnt(present, seed):
    """Dealt out first, it is never in one fold alone: each fold that shows it has learnt it from another."""
    shown = {}
    for id_, labels in present.items():
        for label in labels:
            shown.setdefault(label, []).append(id_)
    several = {label: ids for label, ids in shown.items() if len(ids) >= 2}
    rarest = min(shown, key=lambda label: (len(shown[label]), label), default=None)
    if rarest not in several:
        return
    for fold in make_folds(present, 3, seed):
        if {*fold.val} & {*several[rarest]}:
            assert {*fold.labeled} & {*several[rarest]}


def test_a_class_in_as_many_masks_as_there_are_folds_is_in_each():
    present = {f"m{n}": frozenset({0, 1} if n < 3 else {0}) for n in range(12)}
    for seed in range(20):
        for fold in make_folds(present, 3, seed):
            assert sum(1 in present[id_] for id_ in fold.val) == 1


def test_another_seed_gives_other_folds():
    present = {f"m{n:02d}": frozenset({0, n % 3}) for n in range(15)}
    assert len({make_folds(present, 3, seed) for seed in range(10)}) > 1


@pytest.mark.parametrize(("masks", "count"), [(1, 2), (3, 4), (5, 1)])
def test_folds_that_cannot_be_are_refused(masks, count):
    with pytest.raises(ValueError, match=f"{masks} masks cannot make {count} folds"):
        make_folds({str(n): frozenset({0}) for n in range(masks)}, count, 0)
