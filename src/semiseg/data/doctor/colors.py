"""What the colours of masks say: which class a colour is, and palettes that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from semiseg.data.doctor.examination import Finding
from semiseg.data.doctor.looks import MaskLook, colors_of
from semiseg.data.doctor.repairs import Repair, colors_repair, more_colors_repair
from semiseg.data.doctor.seen import Seen, holding, total_of
from semiseg.types import IGNORE

Found = tuple[Finding, Repair | None]

MOST_COLORS = 40
"""Beyond, colours, or levels, are no classes but smoothing."""
_SEEN = 0.0005  # share of all pixels below which a colour is smoothing's


def colors(looks: Mapping[str, MaskLook], seen: Seen) -> Iterator[Found]:
    """Masks that are colour pictures, whose colours no class has."""
    total, files = total_of(looks), seen.masks_of(looks)
    pixels, distinct = sum(total.values()), max(look.distinct for look in looks.values())
    rare = sum(count for code, count in total.items() if count < _SEEN * pixels)
    smooth = len(total) > MOST_COLORS or distinct > MOST_COLORS
    known = seen.reader.colors
    if known is None:
        codes = sorted(total)  # black, which is mostly background, becomes class 0
        what = (
            f"{len(looks)} mask(s) are colour pictures, and nothing says which class a colour is ({seen.named(files)})"
        )
        if smooth:
            words = (
                f"{what}. They hold {max(len(total), distinct):,} colours, {rare / pixels:.1%} of the pixels in rare "
                f"ones: "
                "JPEG or resizing has smoothed them. Export them anew as PNG without smoothing"
            )
            yield Finding("smoothed-colour-masks", "error", words, files), None
        elif len(codes) < 2:
            words = f"{what}, and all are of one colour {_shown(codes)}. Draw the other classes"
            yield Finding("one-class", "error", words, files), None
        else:
            yield _named(codes, what, files, seen)
        return
    expected = {
        (red << 16) + (green << 8) + blue for red, green, blue in (*known, seen.reader.ignore_color or known[0])
    }
    foreign = sorted(set(total) - expected)
    if foreign:
        files = seen.masks_of(holding(looks, set(foreign)))
        path = seen.root / "classes.txt"
        repair = None
        in_it = path.is_file() and not (seen.root / "data.yaml").is_file()  # the colours that are known
        if not smooth and len(foreign) <= MOST_COLORS and in_it:
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


def _named(codes: Sequence[int], what: str, files: tuple[Path, ...], seen: Seen) -> Found:
    """Colours that are to become classes; names that are known are kept where there are as many."""
    names = seen.reader.classes
    words = f"{what}. They hold {len(codes)} colours: {_shown(codes)}. "
    if names and len(names) != len(codes):
        words += (
            f"{len(names)} classes are named ({', '.join(names[:8])}{', ...' * (len(names) > 8)}), so --fix does "
            "nothing: give each class its colour in classes.txt, as in `road 128 64 128`, and a colour that is to be "
            "left out as in `ignore 255 255 255`"
        )
        return Finding("colour-masks", "error", words, files), None
    repair = colors_repair(names or tuple(f"class_{index}" for index in range(len(codes))), colors_of(codes))
    if names:
        words += (
            "As many classes are named. Write the colour of each behind its name in classes.txt, as in "
            "`road 128 64 128`. --fix keeps the names and gives them the colours in order, the darkest first: which "
            "belongs to which is a guess, so look at the contact sheet, and swap names where they are wrong"
        )
    else:
        words += "Name them in classes.txt, `road 128 64 128`"
    return Finding("colour-masks", "error", words, files, repair.words), repair


def palettes(looks: Mapping[str, MaskLook], seen: Seen) -> list[Finding]:
    """Palette masks whose indices mean one colour here and another there."""
    meanings: dict[int, set[int]] = {}
    for look in looks.values():
        for index, code in (look.palette or {}).items():
            meanings.setdefault(index, set()).add(code)
    several = {index for index, codes in meanings.items() if len(codes) > 1 and index != IGNORE}
    if not several:
        return []
    files = seen.masks_of(id_ for id_, look in looks.items() if look.palette is not None)
    index = min(several)
    words = (
        f"the palettes of {len(files)} masks differ: index {index} is shown as {_shown(sorted(meanings[index]))}, and "
        f"is read as one class ({seen.named(files)}). Only you know which is meant, so --fix does nothing here: masks "
        "that are right as they are would be read otherwise. If the colours are meant, say `palette: colors` in "
        "data.yaml and give each class its colour there, as in `colors: {leaf: [0, 128, 0]}`; if the indices are, save "
        "all masks with one palette"
    )
    return [Finding("palettes-differ", "warning", words, files)]
