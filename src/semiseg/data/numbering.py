"""What the values of masks say of how their classes were numbered: from 1, as grey levels, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import gcd
from pathlib import Path

from semiseg.types import IGNORE

FEW = 32
"""Up to so many derived classes, the masks must show at least half."""
_FEWEST = 5  # so many classes are derived from any masks
_VISIBLE = 0.005  # share of some mask's pixels; smoothing spreads a border's over many values
_LEAST = 1 / 5  # of the derived classes that must be visible; a genuine set's few labelled masks show more


def check_derived(masks: Collection[Mapping[int, float]], root: Path) -> None:
    """Raise ValueError where most classes that the values of the masks would make hardly appear in them, or never.

    Each mask is given as value -> share of its pixels. JPEG and smooth resizing leave such masks, and so do grey levels
    that stand for a few classes; of a genuine set, the classes cover something somewhere. Up to `FEW` classes, more
    may not be lacking than are shown; beyond, a fifth must be visible, and the values must not be equally spaced.
    """
    largest: dict[int, float] = {}
    for shares in masks:
        for value, share in shares.items():
            largest[value] = max(share, largest.get(value, 0))
    ignored = {IGNORE} & {*largest}
    largest.pop(IGNORE, None)
    count = max(largest) + 1
    visible = [value for value, share in sorted(largest.items()) if share >= _VISIBLE]
    if count <= FEW:
        taken, spaced = count < _FEWEST or 2 * len(largest) >= count, True
    else:
        spaced = gcd(*largest) > 1
        taken = len(visible) >= _LEAST * count and not spaced
    if taken:
        return
    smoothed = not spaced and (len(largest) > 2 * len(visible) or len(largest) >= _LEAST * count)
    raise ValueError(
        f"there is no {root / 'classes.txt'}, and the masks' values, up to {count - 1}, would make {count} classes, of "
        f"which {count - len(visible)} hardly appear or never. "
        + (_smoothed(visible) if smoothed else _grey_levels(sorted({*largest, *ignored})))
        + f". If there are {count} classes, name them in classes.txt, one per line"
    )


def numbering_mistake(values: Collection[int], classes: Sequence[str], masks: Path) -> str | None:
    """What is wrong with masks in the folder `masks` that hold `values` and belong to `classes`, and the repair.

    None where it is no plain mistake. `values` are of all masks together, and some are no class's.
    """
    count, found = len(classes), sorted({*values} - {IGNORE})
    if not found or found[-1] < count:
        return None
    what = f"the masks in {masks} hold {_listed(found)}, and classes.txt names {count} classes, 0 to {count - 1}. "
    if found[0] == 1 and found[-1] == count:
        return what + (
            "They count from 1: no mask holds 0. Subtract 1 from every mask, or, if 0 would be a background, put a "
            "background class first in classes.txt"
        )
    if len(found) > max(2 * count, FEW):
        return what + _smoothed(())
    if len(found) <= count and found[-1] >= 2 * count and found[-1] > FEW:
        # A class that has no value below 255 may have that one.
        return what + _grey_levels(sorted({*found, *({IGNORE} & {*values})}) if len(found) < count else found)
    return None


def one_class(values: Collection[int], classes: Sequence[str], masks: str = "labelled and validation masks") -> str:
    """What to do about `masks` that show a single class, one of `classes`."""
    value = min(values)
    only = f"all {masks} show a single class, {value} ({classes[value]})"
    if IGNORE in values:
        return f"{only}, and {IGNORE}, which is ignored. If {IGNORE} is a class, write that class's index instead"
    return f"{only}: nothing can be learnt from them. Draw the other classes, or name other images"


def counted_from_one(absent: Sequence[int]) -> str:
    """A question to add where no mask shows the classes `absent`."""
    return " Do they count from 1? Class 0 is the first" if 0 in absent else ""


def _smoothed(visible: Sequence[int]) -> str:
    few = f" ({_listed(visible)})" if 0 < len(visible) <= 8 else ""
    return (
        "They look smoothed, by JPEG or by resizing: most values are only at borders. Export the masks anew as PNG "
        f"without smoothing, or set every pixel to the nearest true value{few}, and number the classes from 0"
    )


def _grey_levels(found: Sequence[int]) -> str:
    levels = ", ".join(f"{value} -> {index}" for index, value in enumerate(found[:6])) + ", ..." * (len(found) > 6)
    last = (
        f"{IGNORE} may be a class here: give it its index, {len(found) - 1}, too. Left as it is, it is ignored"
        if IGNORE in found
        else f"{IGNORE} is ignored"
    )
    return (
        "They look like grey levels to be seen, not like indices. Write the classes' indices instead "
        f"({levels}); {last}"
    )


def _listed(values: Sequence[int]) -> str:
    if len(values) > 2 and values[-1] - values[0] + 1 == len(values):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values[:8])) + ", ..." * (len(values) > 8)
