"""Cross-validation over masks: every mask validates once, and the classes are spread over the folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Ids of the images whose masks train, and of the images whose masks validate."""

    labeled: tuple[str, ...]
    val: tuple[str, ...]


def make_folds(present: Mapping[str, frozenset[int]], count: int, seed: int) -> tuple[Fold, ...]:
    """`count` folds of the masks `present` (id -> its classes), from `seed`.

    The rarest classes are dealt out first, each mask to the fold that has fewest of its class, so that a class of two
    masks or more is never in one fold alone where that can be had. Sizes differ by one at most. Raises ValueError where
    there are fewer masks than folds, or fewer than two of either.
    """
    if not 2 <= count <= len(present):
        raise ValueError(f"{len(present)} masks cannot make {count} folds: expected 2 folds or more, a mask in each")
    ids = sorted(present)
    order = [ids[place] for place in np.random.default_rng(seed).permutation(len(ids))]
    room = [len(ids) // count + (place < len(ids) % count) for place in range(count)]
    folds: list[list[str]] = [[] for _ in range(count)]
    left = dict.fromkeys(order)
    while left:
        shown: dict[int, list[str]] = {}
        for id_ in left:
            for label in sorted(present[id_]) or [-1]:  # -1: a mask without a labelled pixel
                shown.setdefault(label, []).append(id_)
        rarest = min(shown, key=lambda label: (len(shown[label]), label))
        for id_ in shown[rarest]:
            open_ = [place for place in range(count) if len(folds[place]) < room[place]]
            place = min(open_, key=lambda p: (_showing(folds[p], rarest, present), len(folds[p]) - room[p], p))
            folds[place].append(id_)
            del left[id_]
    return tuple(
        Fold(tuple(id_ for id_ in ids if id_ not in fold), tuple(id_ for id_ in ids if id_ in fold)) for fold in folds
    )


def _showing(ids: Sequence[str], label: int, present: Mapping[str, frozenset[int]]) -> int:
    return sum(label in present[id_] for id_ in ids)
