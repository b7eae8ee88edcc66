"""Files that cannot be read, or that hold more or other than is read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from semiseg.data.doctor.examination import Finding
from semiseg.data.doctor.seen import Seen

_KINDS = (  # what the words of an error say -> kind
    ("pages or frames", "several-pages"),
    (r"\d+ bands", "many-bands"),
    (r"channels of \d+|16 or 32 bits|signed 8-bit|calls alpha|floating-point|its pixels have", "deep-pixels"),
    ("larger than pictures|does not fit into memory|carries more text", "too-large"),
    ("permission denied|could not be read|does not exist|expected a file", "unreadable"),
    ("one channel of class indices|whose 0 is white", "mask-pixels"),
)
UNREADABLE = {"damaged", *(kind for _, kind in _KINDS)}
"""Kinds of findings about files that no reader takes."""
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


def unreadable(seen: Seen, split: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Pictures and masks that no reader takes, by reason; pictures in no list do not matter."""
    groups: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    listed = {id_ for ids in split.values() for id_ in ids}
    skip = seen.options.on_error == "skip"  # then they are in no list any more
    for id_, look in seen.images.items():
        if look.error is not None and (id_ in listed or skip or not split):
            groups[_kind(look.error)].append((seen.tree.layout.image(id_), look.error))
    for id_, look in seen.masks.items():
        if look.error is not None:
            groups[_kind(look.error)].append((seen.tree.layout.mask(id_), look.error))
    for kind, group in groups.items():
        paths = tuple(path for path, _ in group)
        more = "" if len(paths) == 1 else f". The same is wrong with {len(paths) - 1} more: {seen.named(paths[1:])}"
        repair = ". They are left out (data.on_error: skip)" if skip else ""
        repair = repair or ". Or leave such images out: --data.on_error skip"
        yield Finding(kind, "error", f"{group[0][1]}{more}{repair}", paths)


def _kind(words: str) -> str:
    return next((kind for pattern, kind in _KINDS if re.search(pattern, words)), "damaged")


def left_out(seen: Seen) -> Iterator[Finding]:
    """Transparency and CMYK, of which something is lost on the way to RGB."""
    alpha = [id_ for id_, look in seen.images.items() if look.alpha]
    if alpha:
        files = seen.images_of(alpha)
        yield Finding(
            "alpha",
            "warning",
            f"{len(files)} image(s) have transparent pixels ({seen.named(files)}); expected opaque ones. Transparency "
            f"is "
            "left out, and whatever colours lie below it are read. Flatten them onto one background",
            files,
        )
    cmyk = [id_ for id_, look in seen.images.items() if look.mode == "CMYK"]
    if cmyk:
        files = seen.images_of(cmyk)
        yield Finding(
            "cmyk",
            "warning",
            f"{len(files)} image(s) are CMYK, for a printer ({seen.named(files)}); expected RGB or grey. They are "
            "converted without their colour profile, so their colours differ from what viewers show. Save them as RGB",
            files,
        )


def unlike(seen: Seen) -> Iterator[Finding]:
    """Images of one set that differ in bands or depth."""
    kinds = {id_: (look.bands, look.dtype) for id_, look in seen.images.items() if look.bands}
    counts = Counter(kinds.values())
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    odd = [id_ for id_, kind in kinds.items() if kind != usual]
    files = seen.images_of(odd)
    words = ", ".join(f"{count:,} with {bands} band(s) of {dtype}" for (bands, dtype), count in counts.most_common(5))
    harmless = all(bands in (1, 3, 4) and dtype == "uint8" for bands, dtype in counts)
    what = "grey beside colour" if harmless else "several kinds of images"
    yield Finding(
        "mixed-grey" if harmless else "mixed-bands",
        "note" if harmless else "error",
        f"there are {what}: {words}. The unusual ones: {seen.named(files)}. "
        + ("Grey is read as RGB of equal values" if harmless else "Save all of them alike, or train each kind alone"),
        files,
    )


def orientation(seen: Seen) -> Iterator[Finding]:
    """Turned photographs whose masks would fit either way."""
    doubtful = []
    for id_ in seen.masks:
        look = seen.images.get(id_)
        if look is not None and look.orientation != 1 and look.error is None:
            proven = look.orientation in _SIDEWAYS and look.height != look.width
            doubtful += [] if proven else [id_]
    if doubtful:
        files = seen.images_of(doubtful)
        yield Finding(
            "orientation",
            "warning",
            f"{len(files)} photograph(s) with a mask are turned by their EXIF orientation ({seen.named(files)}), and "
            "their masks would fit turned or not. Photographs are read as viewers show them; look at the contact sheet "
            "whether the masks lie upon them. If not, save the photographs upright, or draw the masks on them as shown",
            files,
        )
