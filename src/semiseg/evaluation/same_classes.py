"""Whether classes are still what they were: an index or a colour that means another class makes every score wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.config.options import DataOptions
from semiseg.data.dataset import Color, Dataset
from semiseg.data.sets.folder import read_classes
from semiseg.data.spelling import same_but_for_spelling

_CLASSES_BACK = "Put classes.txt back as it was at the training"
_MASKS_BACK = (
    "A mask with other values than the others is likely: put the masks back as they were at the training, or write "
    "class indices into all of them"
)


def class_record(classes: Iterable[str], colors: Iterable[Color], binary: bool | None = None) -> dict[str, Any]:
    """The classes in JSON's types: {names, colors}, as models keep them, and {binary} too, as checkpoints do.

    `binary` is `Dataset.binary`, how 255 in masks is understood. None: nothing is said of it.
    """
    record: dict[str, Any] = {"names": list(classes), "colors": [list(color) for color in colors]}
    return record if binary is None else record | {"binary": binary}


def check_same_classes(saved: Mapping[str, Any] | None, dataset: Dataset, folder: Path) -> None:
    """Refuse a dataset whose classes, or whose meaning of 255 in masks, differ from the run's in `folder`.

    `saved` is a `class_record`; None in the oldest runs, which cannot be checked, and without `binary` in old ones.
    Raises ValueError that says which class differs, and how.
    """
    if saved is None:
        return
    _refuse(class_difference(saved, class_record(dataset.classes, dataset.colors)), "the classes", folder)
    before, now = saved.get("binary", dataset.binary), dataset.binary
    if type(before) is not bool:
        raise ValueError(f"the saved classes are none: binary is {before!r}; expected true or false")
    if before != now:
        known = {True: f"class 1 ({dataset.classes[1]!r}), for they held only 0 and 255", False: "ignored"}
        found = {True: f"class 1 ({dataset.classes[1]!r}), for all hold only 0 and 255", False: "ignored"}
        _refuse(f"255 in masks was {known[before]}, and is {found[now]}", "the masks", folder, _MASKS_BACK)


def check_classes_file(saved: Mapping[str, Any] | None, data: DataOptions, folder: Path) -> None:
    """The same of a classes.txt before any mask is read by it, which would fail for a reason that misleads."""
    path = data.root / "classes.txt"
    if saved is None or not _is_record(saved) or data.dataset != "folder" or not path.is_file():
        return
    reader = read_classes(path)
    if reader.classes:
        now = {"names": list(reader.classes), "colors": [*map(list, reader.colors or ())] or saved["colors"]}
        _refuse(class_difference(saved, now), f"the classes in {path}", folder)


def _refuse(difference: str | None, what: str, folder: Path, repair: str = _CLASSES_BACK) -> None:
    if difference is not None:
        raise ValueError(
            f"{what} are not those of the run in {folder}: {difference}. {repair}, or train again with another --run"
        )


def class_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """What differs first between two `class_record`s, in words; None where they are equal.

    Raises ValueError where the first, which a file held, is none.
    """
    if not _is_record(before):
        raise ValueError("the saved classes are none: expected names, and as many colours of three whole numbers")
    old, new = list(before["names"]), list(after["names"])
    if old == new:
        pairs = zip(old, before["colors"], after["colors"], strict=False)
        for number, (name, was, is_) in enumerate(pairs):
            if list(was) != list(is_):
                return f"line {number + 1}, class {number} ({name!r}), had the colour {_rgb(was)} and has {_rgb(is_)}"
        return None
    number = next((place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
    counts = f"{len(old)} classes then, {len(new)} now"
    if number is None:
        place = min(len(old), len(new))
        longer, what = (new, "was added") if len(new) > len(old) else (old, "is gone")
        return f"line {place + 1}, class {place} ({longer[place]!r}), {what} ({counts})"
    order = "; the names are the same in another order" if sorted(old) == sorted(new) else f" ({counts})"
    show = ascii if same_but_for_spelling([old[number], new[number]]) else repr  # else both would look the same
    return f"line {number + 1}, class {number}, was {show(old[number])} and is {show(new[number])}{order}"


def _is_record(value: Any) -> bool:
    names, colors = (value.get(key) if isinstance(value, Mapping) else None for key in ("names", "colors"))
    if not isinstance(names, list) or not isinstance(colors, list) or len(names) != len(colors):
        return False
    kinds = [[type(part) for part in color] if isinstance(color, list) else None for color in colors]
    return all(isinstance(name, str) for name in names) and all(each == [int] * 3 for each in kinds)


def _rgb(color: Sequence[int]) -> str:
    return " ".join(map(str, color))
