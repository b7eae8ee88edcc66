"""Which mask belongs to which image, by names alone: every way in which one folder can be read. No file is opened.

`data.layouts` chooses one of them for a dataset; `data.sets.two_folders` pairs the files of two folders.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.listing import Entry, files_below, is_picture
from semiseg.data.passed_over import is_hidden
from semiseg.data.texts import explained

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt")
ENDINGS = tuple(f"{joint}{word}" for word in ("mask", "label", "gt", "masks", "labels") for joint in ("_", "-"))
"""What stands behind the image's name in a mask's."""
_LOSSLESS = (".png", ".tif", ".tiff", ".bmp")  # of masks
_OURS = {"runs"}  # the folder that `semiseg train` makes beside anyone's data


@dataclass(frozen=True)
class Candidate:
    """One way to read a folder: its images and their masks, with paths inside the folder."""

    words: str  # where images and masks are, for messages
    images: dict[str, str]  # id -> path
    masks: dict[str, str]  # id -> path
    place: tuple[str, str]  # what stands around an id in the path of its mask
    orphans: tuple[str, ...] = ()  # masks that belong to no image


def folders_of(folder: Path) -> dict[str, str]:
    """The folders in `folder`, which need not be there: name in small letters -> name."""
    with suppress(FileNotFoundError, NotADirectoryError), explained(folder), os.scandir(folder) as entries:
        return {entry.name.lower(): entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)}
    return {}


def candidates(folder: Path, aside: Collection[str] = ()) -> list[Candidate]:
    """Every way to read `folder` in which some image has a mask; folders called as in `aside` are passed over."""
    folders = folders_of(folder)
    images = [folders[name] for name in IMAGE_FOLDERS if name in folders]
    masks = [folders[name] for name in MASK_FOLDERS if name in folders]
    found: list[Candidate] = []
    for name in images or [""]:
        pictures = pictures_in(folder / name, is_picture if name else _may_be_lost)  # links elsewhere are no matter
        if not name:
            passed = {*aside, *_OURS}
            pictures = [path for path in pictures if "/" not in path or path.partition("/")[0].lower() not in passed]
        loose = pictures if name else [path for path in pictures if "/" not in path]
        across = [_across(name, loose, mask, pictures_in(folder / mask)) for mask in masks]
        across = [pairs for pairs in across if pairs.masks]
        found += across
        if name or not across:
            found += [_by_ending(name, pictures), _side_by_side(name, pictures)]
    return [pairs for pairs in found if pairs.masks]


def pictures_in(folder: Path, wanted: Callable[[Entry], bool] = is_picture) -> list[str]:
    """The paths of all pictures inside `folder`, which need not be there. Raises ValueError for a link to nothing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return files_below(folder, wanted)
    return []


def _may_be_lost(entry: Entry) -> bool:
    """A picture, or a link to one that is not there, which is told of when it is opened."""
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and (entry.is_file() or entry.is_symlink())


def _split(path: str) -> tuple[str, str]:
    """What stands before the ending, and the ending."""
    stem, dot, ending = path.rpartition(".")
    return stem, dot + ending


def _by_id(paths: Iterable[str], inside: str) -> dict[str, str]:
    """Id -> path; raises ValueError for two pictures of one name."""
    found: dict[str, str] = {}
    for path in paths:
        id_ = _split(path)[0]
        if id_ in found:
            raise ValueError(
                f"{found[id_]} and {inside}{path} have the same name, so one mask for both. Rename or remove one"
            )
        found[id_] = inside + path
    return found


def _named_as_mask(stem: str) -> str | None:
    """The image's name in a mask's, where that ends as masks' names do."""
    return next((stem[: -len(end)] for end in ENDINGS if stem.lower().endswith(end) and len(stem) > len(end)), None)


def _across(images: str, pictures: Sequence[str], masks: str, files: Sequence[str]) -> Candidate:
    """Images in one folder, masks in another: MASKS/NAME.png, or MASKS/NAME_mask.png."""
    stems, long = _by_name(files)
    inside = f"{images}/" if images else ""
    paths = _paths_without_doubles(pictures, inside, {*stems, *long})
    exact = {id_: f"{masks}/{stems[id_]}" for id_ in paths if id_ in stems}
    found = {id_: f"{masks}/{long[id_]}" for id_ in paths if id_ in long} | exact
    taken = set(found.values())
    example = next((id_ for id_ in found if id_ not in exact), None)
    ending = ".png" if exact or example is None else found[example].removeprefix(f"{masks}/{example}")
    first = f"{inside or 'images'}" if inside else "NAME.jpg"
    words = f"{first} and {masks}/" if exact or example is None else f"{first} and {masks}/NAME{ending}"
    orphans = tuple(path for path in (f"{masks}/{file}" for file in stems.values()) if path not in taken)
    return Candidate(words, paths, found, (f"{masks}/", ending), orphans)


def masks_for(ids: Collection[str], files: Iterable[str]) -> dict[str, str]:
    """Id -> its mask among `files`, the paths inside a folder of masks: NAME.png, else NAME_mask.png."""
    stems, long = _by_name(files)
    named = long | stems
    return {id_: named[id_] for id_ in ids if id_ in named}


def _by_name(files: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """NAME -> path of every NAME.png, else of another lossless format; and NAME -> path of every NAME_mask.png."""
    stems: dict[str, str] = {}
    for path in files:
        stem, ending = _split(path)
        if ending.lower() in _LOSSLESS and (stem not in stems or ending == ".png"):
            stems[stem] = path
    return stems, {name: path for stem, path in stems.items() if (name := _named_as_mask(stem)) is not None}


def _paths_without_doubles(pictures: Sequence[str], inside: str, masked: set[str]) -> dict[str, str]:
    """Id -> path; where no mask is there at all, two pictures of one name are no matter."""
    names = [_split(path)[0] for path in pictures]
    return _by_id(pictures, inside) if not masked.isdisjoint(names) else dict(zip(names, pictures, strict=True))


def _by_ending(inside: str, pictures: Sequence[str]) -> Candidate:
    """NAME.jpg and NAME_mask.png, in one folder or, where only one image has the name, in another."""
    before = f"{inside}/" if inside else ""
    lossless = [path for path in pictures if _split(path)[1].lower() in _LOSSLESS]
    masks = {path: name for path in lossless if (name := _named_as_mask(_split(path)[0])) is not None}
    images = [path for path in pictures if path not in masks]
    names: dict[str, list[str]] = defaultdict(list)
    for path in images:
        names[_split(path)[0].rpartition("/")[2]].append(_split(path)[0])
    there = {_split(path)[0] for path in images}
    found: dict[str, str] = {}
    for path, name in masks.items():
        deeper = names[name.rpartition("/")[2]]
        id_ = name if name in there else deeper[0] if len(deeper) == 1 else None
        if id_ is not None:
            found.setdefault(id_, before + path)
    taken = {*found.values()}
    orphans = tuple(before + path for path in masks if before + path not in taken) if found else ()
    ids = _by_id(images, before) if found else {}
    ending = _split(next(iter(found.values())))[0] if found else ""
    shown = next((end for end in ENDINGS if ending.lower().endswith(end)), "_mask")
    return Candidate(f"{before}NAME.jpg and NAME{shown}.png", ids, found, (before, f"{shown}.png"), orphans)


def _side_by_side(inside: str, pictures: Sequence[str]) -> Candidate:
    """NAME.jpg and NAME.png: of two files with one name the PNG is the mask."""
    before = f"{inside}/" if inside else ""
    endings: Mapping[str, list[str]] = defaultdict(list)
    for path in pictures:
        stem, ending = _split(path)
        endings[stem].append(ending)
    pngs = {stem: next((end for end in several if end.lower() == ".png"), None) for stem, several in endings.items()}
    pairs = {stem for stem, several in endings.items() if len(several) == 2 and pngs[stem] and len({*several}) == 2}
    masks = {stem: f"{before}{stem}{pngs[stem]}" for stem in endings if stem in pairs}
    taken = {*masks.values()}
    rest = [path for path in pictures if before + path not in taken]
    # Where every photograph has another format, a PNG alone has lost its photograph.
    lone = [path for path in rest if pairs and path.lower().endswith(".png")]
    ids = _by_id([path for path in rest if path not in set(lone)], before) if pairs else {}
    words = f"{before}NAME.jpg and NAME.png side by side"
    return Candidate(words, ids, masks, (before, ".png"), tuple(before + path for path in lone))
