"""Names that look alike: spelt by other code points, or in other letters' case."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping


def composed(name: str) -> str:
    """The name in Unicode's normal form C: an é is one code point, where some systems write an e and an accent."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def by_normal_form(names: Iterable[str]) -> dict[str, list[str]]:
    """Normal form -> the names that have it."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(composed(name), []).append(name)
    return found


def same_but_for_spelling(names: Iterable[str]) -> bool:
    """Whether the names differ in Unicode normalisation alone."""
    return len({*map(composed, names)}) == 1


def namesake(name: str, endings: Mapping[str, str]) -> str | None:
    """The file that `name` probably means: it differs in case, in its ending, or in the folders before it.

    `endings`: id -> file ending. None where no file, or more than one, is so near.
    """
    wanted = {name, name.rpartition(".")[0]} - {""}
    last = {each.rpartition("/")[2] for each in wanted}
    near = _alike(wanted, {id_: id_ for id_ in endings}) or _alike(
        last, {id_: id_.rpartition("/")[2] for id_ in endings}
    )
    return near[0] + endings[near[0]] if len(near) == 1 else None


def _alike(names: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """The keys of `known` whose values are like one of the `names`."""
    wanted = {*map(folded, names)}
    return [key for key, value in known.items() if folded(value) in wanted]


def folded(name: str) -> str:
    """What names that differ in case or normalisation alone have in common."""
    return composed(name).casefold()
