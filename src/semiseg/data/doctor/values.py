"""What the values of the masks say: 0 and 255, colours, palettes, grey levels, classes counted from 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from semiseg.data.doctor.examination import Finding
from semiseg.data.doctor.looks import MaskLook, colors_of
from semiseg.data.doctor.repairs import (
    Repair,
    colors_repair,
    more_colors_repair,
    palette_repair,
    values_repair,
)
from semiseg.data.doctor.seen import Seen
from semiseg.data.masks import MAX_CLASSES, check_one_meaning, looks_binary
from semiseg.data.numbering import check_derived, numbering_mistake
from semiseg.types import IGNORE

Found = tuple[Finding, Repair | None]

_MOST_COLORS = 40  # beyond, colours are no classes but smoothing
_SEEN = 0.0005  # share of all pixels below which a colour is smoothing's


def values(seen: Seen) -> Iterator[Found]:
    """Findings about the values, each with its repair where there is one."""
    looks = {id_: look for id_, look in seen.masks.items() if look.error is None}
    if not looks:
        return
    colored = {id_: look for id_, look in looks.items() if look.colored}
    plain = {id_: look for id_, look in looks.items() if not look.colored}
    if colored and plain and seen.reader.colors is None:
        files = seen.masks_of(min(colored, plain, key=len))
        yield (
            Finding(
                "mixed-masks",
                "error",
                f"{len(colored)} mask(s) are colour pictures and {len(plain)} hold indices; expected one kind. The fewer: "
                f"{seen.named(files)}. Export all of them alike",
                files,
            ),
            None,
        )
        return
    if colored:
        yield from _colors(colored, seen)
    elif seen.reader.values_to is not None:
        yield from _unmapped(plain, seen)
    elif not seen.reader.palette_colors:
        yield from _palettes(plain, seen)
        yield from _indices(plain, seen)


def _total(looks: Mapping[str, MaskLook]) -> Counter[int]:
    """Value -> pixels, of all masks."""
    total: Counter[int] = Counter()
    for look in looks.values():
        total.update(look.values)
    return total


def _holding(looks: Mapping[str, MaskLook], wanted: set[int]) -> list[str]:
    return [id_ for id_, look in looks.items() if not wanted.isdisjoint(look.values)]


def _colors(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    total, files = _total(looks), seen.masks_of(looks)
    pixels, distinct = sum(total.values()), max(look.distinct for look in looks.values())
    rare = sum(count for code, count in total.items() if count < _SEEN * pixels)
    smooth = len(total) > _MOST_COLORS or distinct > _MOST_COLORS
    known = seen.reader.colors
    if known is None:
        codes = sorted(total)  # black, which is mostly background, becomes class 0
        what = (
            f"{len(looks)} mask(s) are colour pictures, and nothing says which class a colour is ({seen.named(files)})"
        )
        if smooth:
            words = (
                f"{what}. They hold {max(len(total), distinct):,} colours, {rare / pixels:.1%} of the pixels in rare ones: "
                "JPEG or resizing has smoothed them. Export them anew as PNG without smoothing"
            )
            yield Finding("smoothed-colour-masks", "error", words, files), None
        elif len(codes) < 2:
            words = f"{what}, and all are of one colour {_shown(codes)}. Draw the other classes"
            yield Finding("one-class", "error", words, files), None
        else:
            repair = colors_repair(colors_of(codes))
            words = (
                f"{what}. They hold {len(codes)} colours: {_shown(codes)}. Name them in classes.txt, `road 128 64 128`"
            )
            yield Finding("colour-masks", "error", words, files, repair.words), repair
        return
    expected = {
        (red << 16) + (green << 8) + blue for red, green, blue in (*known, seen.reader.ignore_color or known[0])
    }
    foreign = sorted(set(total) - expected)
    if foreign:
        files = seen.masks_of(_holding(looks, set(foreign)))
        path = seen.root / "classes.txt"
        repair = None
        if not smooth and len(foreign) <= _MOST_COLORS and path.is_file():
            repair = more_colors_repair(path, colors_of(foreign), len(known))
        words = (
            f"{len(files)} mask(s) hold {len(foreign)} colour(s) that no class has: {_shown(foreign)} "
            f"({seen.named(files)}). Add them to classes.txt, or export the masks without smoothing"
        )
        yield Finding("unknown-colours", "error", words, files, None if repair is None else repair.words), repair


def _shown(codes: Sequence[int]) -> str:
    return ", ".join(f"({red} {green} {blue})" for red, green, blue in colors_of(codes[:6])) + ", ..." * (
        len(codes) > 6
    )


def _unmapped(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    known = dict(seen.reader.values_to or ())
    foreign = set(_total(looks)) - set(known)
    if foreign:
        files = seen.masks_of(_holding(looks, foreign))
        words = (
            f"{len(files)} mask(s) hold {_listed(sorted(foreign))}, which `values` in data.yaml does not name "
            f"({seen.named(files)}). Add the class of each there, or `ignore`"
        )
        yield Finding("unknown-values", "error", words, files), None


def _palettes(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """Palette masks whose indices mean one colour here and another there."""
    meanings: dict[int, set[int]] = {}
    for look in looks.values():
        for index, code in (look.palette or {}).items():
            meanings.setdefault(index, set()).add(code)
    several = {index for index, codes in meanings.items() if len(codes) > 1 and index != IGNORE}
    if not several:
        return
    files = seen.masks_of(id_ for id_, look in looks.items() if look.palette is not None)
    codes = sorted({code for group in meanings.values() for code in group})
    index = min(several)
    repair = None
    classes = seen.reader.classes or tuple(f"class_{place}" for place in range(len(codes)))
    if 2 <= len(codes) <= _MOST_COLORS and len(classes) == len(codes) and len(files) == len(looks):
        repair = palette_repair(classes, colors_of(codes), bool(seen.reader.classes))
    words = (
        f"the palettes of {len(files)} masks differ: index {index} is shown as {_shown(sorted(meanings[index]))}, and is "
        f"read as one class ({seen.named(files)}). If the colours are meant, say `palette: colors` in data.yaml and give "
        "each class its colour there; if the indices are, save all masks with one palette"
    )
    yield Finding("palettes-differ", "warning", words, files, None if repair is None else repair.words), repair


def _indices(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    total, reader = _total(looks), seen.reader
    shown, files = sorted(set(total) - {IGNORE}), seen.masks_of(looks)
    folder = seen.tree.layout.mask_folder
    yield from _nothing_drawn(looks, seen)
    maybe = len(reader.classes) in (0, 2) and reader.ignore_color is None and not reader.binary
    if reader.binary or not shown:
        return
    if maybe and looks_binary(frozenset(look.values) for look in looks.values()):
        repair = values_repair(reader.classes or ("class_0", "class_1"), {0: 0, IGNORE: 1}, bool(reader.classes))
        words = (
            f"the masks in {folder} hold only 0 and 255 ({seen.named(files)}); expected 0 and 1. 255 is read as class 1, "
            "not as ignored. Say so in data.yaml, and the warning goes"
        )
        yield Finding("binary-masks", "warning", words, files, repair.words), repair
        return
    if len(total) < 2:
        words = f"all masks hold {shown[0]} alone. Draw the other classes, or name other images"
        yield Finding("one-class", "error", words, files), None
        return
    yield from _against_classes(looks, seen) if reader.classes else _derived(looks, seen)
    yield from _two_meanings(looks, seen)


def _nothing_drawn(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """Masks of 255 alone, where others are not."""
    empty = [id_ for id_, look in looks.items() if set(look.values) == {IGNORE}]
    if empty and any(set(look.values) - {0, IGNORE} for look in looks.values()):
        files = seen.masks_of(empty)
        words = (
            f"{len(files)} mask(s) hold nothing but {IGNORE}, which is ignored ({seen.named(files)}); expected classes. "
            "Draw them, or take the masks away: their images are then unlabelled"
        )
        yield Finding("nothing-drawn", "warning", words, files), None


def _against_classes(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    total, classes = _total(looks), seen.reader.classes
    foreign = {value for value in total if not (0 <= value < len(classes) or value == IGNORE)}
    if not foreign:
        return
    files = seen.masks_of(_holding(looks, foreign))
    shown = sorted(set(total) - {IGNORE})
    mistake = numbering_mistake(set(total), classes, seen.tree.layout.mask_folder)
    repair, kind = None, "unknown-values"
    if mistake is not None:
        from_one = shown[0] == 1 and shown[-1] == len(classes)
        kind = "masks-count-from-1" if from_one else "smoothed-masks" if "smoothed" in mistake else "grey-level-masks"
        levels = {value: index for index, value in enumerate(shown)}
        if kind != "smoothed-masks" and (from_one or len(shown) == len(classes)):
            levels = {value: value - 1 for value in shown} if from_one else levels
            repair = values_repair(classes, levels, named=True)
    words = mistake or (
        f"{len(files)} mask(s) hold {_listed(sorted(foreign))}, and classes.txt names {len(classes)} classes, 0 to "
        f"{len(classes) - 1}. Name the missing classes there, or write `values` into data.yaml"
    )
    fix = None if repair is None else repair.words
    yield Finding(kind, "error", f"{words} ({seen.named(files)})", files, fix), repair


def _derived(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """Values without a classes.txt, from which the classes are made."""
    total = _total(looks)
    shown, files = sorted(set(total) - {IGNORE}), seen.masks_of(looks)
    names = tuple(f"class_{index}" for index in range(len(shown)))
    levels = values_repair(names, {value: index for index, value in enumerate(shown)}, named=False)
    shares = [{value: count / look.pixels for value, count in look.values.items()} for look in looks.values()]
    if not 0 <= shown[0] <= shown[-1] < MAX_CLASSES:
        words = (
            f"{len(files)} mask(s) hold {_listed(shown)}; expected indices from 0 to {MAX_CLASSES - 1} "
            f"({seen.named(files)}). Write `values` into data.yaml"
        )
        repair = levels if 2 <= len(shown) <= _MOST_COLORS and shown[0] >= 0 else None
        fix = None if repair is None else repair.words
        yield Finding("unknown-values", "error", words, files, fix), repair
        return
    try:
        check_derived(shares, seen.root)
    except ValueError as error:
        smooth = "smoothed" in str(error)
        repair = None if smooth or len(shown) > _MOST_COLORS else _with_ignored(shown, total)
        fix = None if repair is None else repair.words
        kind = "smoothed-masks" if smooth else "grey-level-masks"
        yield Finding(kind, "error", f"{error} ({seen.named(files)})", files, fix), repair
        return
    if shown == list(range(1, len(shown) + 1)) and len(shown) > 1:
        words = (
            f"the masks hold {_listed(shown)} and no 0 ({seen.named(files)}). If they count from 1, say so in data.yaml; if "
            "0 is a background that happens to be in none, name the classes in classes.txt"
        )
        yield Finding("masks-count-from-1", "warning", words, files, levels.words), levels
    elif len(shown) < shown[-1] + 1:
        absent = sorted({*range(shown[-1] + 1)} - {*shown})
        words = (
            f"the masks hold {_listed(shown)}, so that {len(absent)} class(es) between ({_listed(absent)}) are in none "
            f"({seen.named(files)}). Name all classes in classes.txt, or number those that are there in data.yaml"
        )
        yield Finding("gaps", "warning", words, files, levels.words), levels


def _with_ignored(shown: Sequence[int], total: Counter[int]) -> Repair:
    """Grey levels to be seen use 255 for a class: with it, each level is one."""
    every = [*shown, *([IGNORE] if IGNORE in total else [])]
    names = tuple(f"class_{index}" for index in range(len(every)))
    return values_repair(names, {value: index for index, value in enumerate(every)}, named=False)


def _two_meanings(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """255 as class 1 in some masks, and ignored in others."""
    reader = seen.reader
    shown = set(_total(looks)) - {IGNORE}
    if reader.ignore_color is not None or not shown <= {0, 1} or len(reader.classes) not in (0, 2):
        return
    shares = {
        str(seen.tree.layout.mask(id_)): {value: count / look.pixels for value, count in look.values.items()}
        for id_, look in looks.items()
    }
    files = tuple(Path(path) for path, share in shares.items() if 1 not in share and share.get(IGNORE, 0) >= 0.01)
    try:
        doubt = check_one_meaning(shares)
    except ValueError as error:
        yield Finding("two-meanings", "error", str(error), files), None
        return
    if doubt is not None:
        yield Finding("two-meanings", "warning", doubt, files), None


def _listed(found: Sequence[int]) -> str:
    return ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
