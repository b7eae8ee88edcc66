"""What the values of the masks say: 0 and 255, colours, palettes, grey levels, classes counted from 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from semiseg.data.doctor.colors import Found, colors, palettes
from semiseg.data.doctor.examination import Finding
from semiseg.data.doctor.levels import Levels
from semiseg.data.doctor.looks import MaskLook
from semiseg.data.doctor.repairs import values_repair
from semiseg.data.doctor.seen import Seen, holding, total_of
from semiseg.data.masks import MAX_CLASSES, check_one_meaning, looks_binary
from semiseg.data.numbering import check_derived, numbering_mistake
from semiseg.types import IGNORE


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
                f"{len(colored)} mask(s) are colour pictures and {len(plain)} hold indices; expected one kind. The "
                f"fewer: "
                f"{seen.named(files)}. Export all of them alike",
                files,
            ),
            None,
        )
        return
    if colored:
        yield from colors(colored, seen)
    elif seen.reader.values_to is not None:
        yield from _unmapped(plain, seen)
    elif not seen.reader.palette_colors:
        differ = palettes(plain, seen)
        yield from ((finding, None) for finding in differ)
        for finding, repair in _indices(plain, seen):
            yield (replace(finding, fix=None), None) if differ else (finding, repair)  # who knows what an index means


def _unmapped(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    known = dict(seen.reader.values_to or ())
    foreign = set(total_of(looks)) - set(known)
    if foreign:
        files = seen.masks_of(holding(looks, foreign))
        words = (
            f"{len(files)} mask(s) hold {_listed(sorted(foreign))}, which `values` in data.yaml does not name "
            f"({seen.named(files)}). Add the class of each there, or `ignore`"
        )
        yield Finding("unknown-values", "error", words, files), None


def _indices(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    total, reader = total_of(looks), seen.reader
    shown, files = sorted(set(total) - {IGNORE}), seen.masks_of(looks)
    folder = seen.tree.layout.mask_folder
    yield from _nothing_drawn(looks, seen)
    maybe = len(reader.classes) in (0, 2) and reader.ignore_color is None and not reader.binary
    if reader.binary or not shown:
        return
    if maybe and looks_binary(frozenset(look.values) for look in looks.values()):
        repair = values_repair(seen.root, reader.classes or ("class_0", "class_1"), {0: 0, IGNORE: 1})
        words = (
            f"the masks in {folder} hold only 0 and 255 ({seen.named(files)}); expected 0 and 1. 255 is read as class "
            f"1, "
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
    if empty and any(set(look.values) - {0, 1, IGNORE} for look in looks.values()):  # else `_two_meanings` tells
        files = seen.masks_of(empty)
        words = (
            f"{len(files)} mask(s) hold nothing but {IGNORE}, which is ignored ({seen.named(files)}); expected "
            f"classes. "
            "Draw them, or take the masks away: their images are then unlabelled"
        )
        yield Finding("nothing-drawn", "warning", words, files), None


def _against_classes(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    total, classes = total_of(looks), seen.reader.classes
    foreign = {value for value in total if not (0 <= value < len(classes) or value == IGNORE)}
    if not foreign:
        return
    files = seen.masks_of(holding(looks, foreign))
    shown = sorted(set(total) - {IGNORE})
    mistake = numbering_mistake(set(total), classes, seen.tree.layout.mask_folder)
    repair, kind = None, "unknown-values"
    if mistake is not None:
        from_one = shown[0] == 1 and shown[-1] == len(classes)
        kind = "masks-count-from-1" if from_one else "smoothed-masks" if "smoothed" in mistake else "grey-level-masks"
        if from_one:
            repair = values_repair(seen.root, classes, {value: value - 1 for value in shown})
        elif kind == "grey-level-masks":
            levels = Levels.of(looks, seen.root, classes)
            repair, mistake = levels.repair, f"{mistake}. {levels.words}".rstrip(". ")
    words = mistake or (
        f"{len(files)} mask(s) hold {_listed(sorted(foreign))}, and classes.txt names {len(classes)} classes, 0 to "
        f"{len(classes) - 1}. Name the missing classes there, or write `values` into data.yaml"
    )
    fix = None if repair is None else repair.words
    yield Finding(kind, "error", f"{words} ({seen.named(files)})", files, fix), repair


def _derived(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """Values without a classes.txt, from which the classes are made."""
    total = total_of(looks)
    shown, files = sorted(set(total) - {IGNORE}), seen.masks_of(looks)
    names = tuple(f"class_{index}" for index in range(len(shown)))
    numbered = values_repair(seen.root, names, {value: index for index, value in enumerate(shown)})
    shares = [{value: count / look.pixels for value, count in look.values.items()} for look in looks.values()]
    levels = Levels.of(looks, seen.root)
    if not 0 <= shown[0] <= shown[-1] < MAX_CLASSES:
        words = (
            f"{len(files)} mask(s) hold {_listed(shown)}; expected indices from 0 to {MAX_CLASSES - 1} "
            f"({seen.named(files)}). Write `values` into data.yaml. {levels.words}"
        )
        repair = levels.repair if len(shown) >= 2 and shown[0] >= 0 else None
        fix = None if repair is None else repair.words
        yield Finding("unknown-values", "error", words.rstrip(), files, fix), repair
        return
    try:
        check_derived(shares, seen.root)
    except ValueError as error:
        smooth = "smoothed" in str(error)
        repair = None if smooth else levels.repair
        fix = None if repair is None else repair.words
        kind = "smoothed-masks" if smooth else "grey-level-masks"
        more = f". {levels.words}" if levels.words and not smooth else ""
        yield Finding(kind, "error", f"{error} ({seen.named(files)}){more}", files, fix), repair
        return
    if shown == list(range(1, len(shown) + 1)) and len(shown) > 1:
        words = (
            f"the masks hold {_listed(shown)} and no 0 ({seen.named(files)}). If they count from 1, say so in "
            f"data.yaml; if "
            "0 is a background that happens to be in none, name the classes in classes.txt"
        )
        yield Finding("masks-count-from-1", "warning", words, files, numbered.words), numbered
    elif len(shown) < shown[-1] + 1:
        absent = sorted({*range(shown[-1] + 1)} - {*shown})
        words = (
            f"the masks hold {_listed(shown)}, so that {len(absent)} class(es) between ({_listed(absent)}) are in none "
            f"({seen.named(files)}). Name all classes in classes.txt, or number those that are there in data.yaml"
        )
        yield Finding("gaps", "warning", words, files, numbered.words), numbered


def _two_meanings(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """255 as class 1 in some masks, and ignored in others."""
    reader = seen.reader
    shown = set(total_of(looks)) - {IGNORE}
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
