"""Masks of grey levels that are meant to be seen: which level is which class, and whether 255 is one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semiseg.data.doctor.colors import MOST_COLORS
from semiseg.data.doctor.looks import MaskLook
from semiseg.data.doctor.measures import BORDER
from semiseg.data.doctor.repairs import Repair, values_repair
from semiseg.data.doctor.seen import total_of
from semiseg.types import IGNORE

_MOSTLY = 0.9  # share of the pixels of 255 between two others, from which they look like a border
_HARDLY = 0.5  # below which they look like a class


@dataclass(frozen=True)
class Levels:
    """The levels of some masks."""

    repair: Repair | None = None  # None where it is in doubt what belongs to what
    words: str = ""  # what 255 is taken for, and why; empty where there is none

    @classmethod
    def of(cls, looks: Mapping[str, MaskLook], root: Path, classes: Sequence[str] = ()) -> Levels:
        """The levels in `looks`, in the order of the values; `classes` where they are named.

        255 stays ignored where it looks like a border and is no step of the levels. It is a class where it is such a
        step, the levels being evenly spaced up to it, and does not look like a border, or where two classes could not
        be told without it. Anything else is in doubt, unless the number of named classes decides.
        """
        held = {id_: look for id_, look in looks.items() if set(look.values) != {IGNORE}}
        total = total_of(held)
        shown = sorted(set(total) - {IGNORE})
        every = sorted(total)
        if len(every) > MOST_COLORS:
            return cls()
        as_ignored = _mapping(root, classes, shown, every)
        if IGNORE not in total:
            return cls(as_ignored)
        as_class = _mapping(root, classes, every, every)
        between = sum(look.border for look in held.values()) / total[IGNORE]
        even = len(every) > 2 and int(np.ptp(np.diff(every))) <= 1
        seen = f"{between:.0%} of its pixels lie within {BORDER} of two others, and the levels "
        seen += "are evenly spaced up to it" if even else "are not evenly spaced up to it"
        if as_class is None or as_ignored is None:
            return _decided(cls, as_class, as_ignored, len(classes))
        if even and between < _HARDLY:
            return cls(as_class, f"255 looks like a class, not like the ignored value that it mostly is: {seen}")
        if not even and between >= _MOSTLY:
            return cls(as_ignored, f"255 looks like a border and stays ignored: {seen}")
        lines = " or ".join(f"`{repair.content.splitlines()[-1]}`" for repair in (as_ignored, as_class))
        return cls(None, f"Whether 255 is ignored or a class is in doubt: {seen}. Write into data.yaml {lines}")


def _decided(kind: type[Levels], as_class: Repair | None, as_ignored: Repair | None, named: int) -> Levels:
    """Where 255 can be read in one way at most."""
    why = f"because {named} classes are named" if named else "because the masks hold one other value alone"
    if as_class is not None:
        return kind(as_class, f"255 is taken for a class, {why}")
    return kind(as_ignored, "" if as_ignored is None else f"255 stays ignored, {why}")


def _mapping(root: Path, classes: Sequence[str], levels: Sequence[int], every: Sequence[int]) -> Repair | None:
    """A data.yaml that numbers `levels` and ignores the others of `every`; None where that makes no classes."""
    if len(levels) < 2 or (classes and len(classes) != len(levels)):
        return None
    names = classes or tuple(f"class_{index}" for index in range(len(levels)))
    numbered = {value: index for index, value in enumerate(levels)}
    return values_repair(root, names, {value: numbered.get(value, "ignore") for value in every})
