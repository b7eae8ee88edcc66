"""Which images are labelled: published splits by name and sha256, list files, or an order made from a seed.

A published split is a pair of lists in somebody's public repository; `published_splits.json` names their addresses,
hashes (of the file's bytes) and lengths. The lists themselves are read from a folder of copies, or fetched once.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import NoReturn

import numpy as np

from semiseg.config.checks import shown
from semiseg.config.options import DataOptions
from semiseg.data.dataset import LIST_NAMES
from semiseg.data.files import IN_SHARDS, NamedList
from semiseg.data.listing import find_list, read_lines
from semiseg.runtime.files import user_cache

_NOT_OF_THE_ID = ("", ".", "JPEGImages", "leftImg8bit")
_FETCH_SECONDS = 30


@dataclass(frozen=True)
class PublishedList:
    """One list file as its authors published it."""

    file: str  # its path in a folder of copies
    url: str
    sha256: str  # hex, of the file's bytes
    count: int  # images


@dataclass(frozen=True)
class PublishedSplit:
    """A labelled list, its unlabelled list and the validation list they are scored on.

    Where `unlabeled` is None, all images of `universe` without a label are unlabelled. UniMatch's VOC splits
    are of this kind here: their universe is the 10,582 images of U2PL's two 1464 lists (VOC train and SBD).
    """

    dataset: str  # "voc" or "cityscapes"
    labeled: PublishedList
    val: PublishedList
    unlabeled: PublishedList | None = None
    universe: tuple[PublishedList, ...] = ()


def _published() -> dict[str, PublishedSplit]:
    table = json.loads(files("semiseg.data").joinpath("published_splits.json").read_text(encoding="utf-8"))
    lists = {file: PublishedList(file, **facts) for file, facts in table["lists"].items()}
    splits: dict[str, PublishedSplit] = {}
    for name, split in table["splits"].items():
        universe = tuple(lists[file] for file in split.pop("universe", ()))
        parts = {key: lists[file] for key, file in split.items() if key != "dataset"}
        splits[name] = PublishedSplit(split["dataset"], universe=universe, **parts)
    return splits


PUBLISHED: dict[str, PublishedSplit] = _published()
"""Every published split by name, such as `u2pl/pascal/92`."""


def find_split(name: str, dataset: str) -> PublishedSplit:
    """The published split `name` of `dataset`. Raises ValueError, with the valid names, if there is none."""
    valid = [known for known, split in PUBLISHED.items() if split.dataset == dataset]
    if name in valid:
        return PUBLISHED[name]
    names = f"its splits are {', '.join(valid)}" if valid else "only voc and cityscapes have published splits"
    raise ValueError(f"data.split is {name!r}, which is no published split of the dataset {dataset!r}: {names}")


def published_lists(name: str, dataset: str, folder: Path | None) -> dict[str, NamedList]:
    """The labelled, unlabelled and validation ids of the published split `name`, verified.

    Read from `folder`, which holds copies (`u2pl/pascal/92/labeled.txt`, ...); without one, from a cache that is filled
    from the source. Raises ValueError for a list that is missing, altered, or shares images with another.
    """
    split = find_split(name, dataset)
    parts = {"labeled": split.labeled, "val": split.val} | ({"unlabeled": split.unlabeled} if split.unlabeled else {})
    lists = {key: NamedList(_read_published(part, folder), name, part.url, part.sha256) for key, part in parts.items()}
    if split.unlabeled is None:
        universe = [id_ for part in split.universe for id_ in _read_published(part, folder)]
        rest = without(universe, [lists["labeled"]])
        source = ", ".join(part.url for part in split.universe)
        lists["unlabeled"] = NamedList(rest, f"{name}: the images not labelled", source)
    check_disjoint({key: named.ids for key, named in lists.items()})
    return lists


def given_lists(options: DataOptions, is_image: Callable[[str], bool]) -> dict[str, NamedList]:
    """The lists that the options name, by published split or by file; a list that is not named is left out.

    `is_image` tells of an id whether its image exists: then a line that begins with # is no comment.
    """
    lists: dict[str, NamedList] = {}
    if options.split is not None:
        lists = published_lists(options.split, options.dataset, options.split_folder)
    for key in LIST_NAMES:
        option: str | None = getattr(options, key)
        if option is not None:
            lists[key] = NamedList(listed_images(find_list(option, options.root), is_image), option)
    return lists if options.unlabeled_shards is None else lists | {"unlabeled": IN_SHARDS}


def without(ids: Iterable[str], lists: Iterable[NamedList]) -> tuple[str, ...]:
    """The `ids` that are in none of the `lists`, in order."""
    taken = {id_ for named in lists for id_ in named.ids}
    return tuple(id_ for id_ in ids if id_ not in taken)


def listed_images(path: Path, is_image: Callable[[str], bool] = lambda _: False) -> tuple[str, ...]:
    """The ids in a benchmark's list; `is_image` as in `given_lists`. Raises ValueError for another image's mask."""
    return tuple(_own_mask(line, path) for line in read_lines(path, lambda line: is_image(image_id(line))))


def image_id(line: str) -> str:
    """The id in a benchmark's list line: what is left of its first path without image folder and file ending.

    `2007_000032` and `JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png` are both `2007_000032`;
    `leftImg8bit/train/ulm/ulm_000061_000019_leftImg8bit.png` is `train/ulm/ulm_000061_000019`.
    """
    return _id_of_path(line.split()[0])


def _id_of_path(path: str) -> str:
    parts = posixpath.splitext(path.replace("\\", "/"))[0].split("/")
    name = "/".join(part for part in parts if part not in _NOT_OF_THE_ID)
    return re.sub(r"_(leftImg8bit|gtFine_labelIds|gtFine_labelTrainIds|gtFine_color)$", "", name)


def _own_mask(line: str, path: Path) -> str:
    """The id in a line. Raises ValueError where the line names more than an image and its own mask."""
    first, *others = (_id_of_path(part).rpartition("/")[2] for part in line.split())
    if others not in ([], [first]):
        raise ValueError(
            f"{path} names {shown(line)}; expected an image, or an image and its own mask. Masks are found by the "
            "images' names: take the other words out"
        )
    return image_id(line)


def check_disjoint(lists: Mapping[str, Sequence[str]], origins: Mapping[str, str] | None = None) -> None:
    """Refuse lists (name -> ids) that share an image or name one twice. A test list may be the validation list.

    `origins` says of each list where it comes from, for the message.
    """
    titles = {key: f"the {key} list" + (f" ({origins[key]})" if origins else "") for key in lists}
    sets = {key: set(ids) for key, ids in lists.items()}
    for key, ids in lists.items():
        if len(sets[key]) < len(ids):
            _refuse(next(id_ for id_, count in Counter(ids).items() if count > 1), f"twice in {titles[key]}")
    for one, two in combinations(lists, 2):
        if {one, two} != {"val", "test"} and not sets[one].isdisjoint(sets[two]):
            _refuse(min(sets[one] & sets[two]), f"in {titles[one]} and in {titles[two]}")


def _refuse(id_: str, place: str) -> NoReturn:
    raise ValueError(f"image {id_!r} is {place}. An image belongs to one list, once: take it out of one")


def covering_order(present: Mapping[str, frozenset[int]], seed: int) -> list[str]:
    """The ids in an order from `seed` whose beginning shows every class as soon as a greedy choice can.

    `present` holds the classes in each image's mask. The first images are chosen one by one, each the one with most
    classes not yet shown; the others follow at random. So a longer beginning contains a shorter one.
    """
    names = sorted(present)
    order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    missing: frozenset[int] = frozenset().union(*present.values())
    first: dict[str, None] = {}
    while missing:
        best = max(order, key=lambda name: len(present[name] & missing))  # the first of equals, and `order` is random
        first[best] = None
        missing -= present[best]
    return list(first | dict.fromkeys(order))


def cached_list(part: PublishedList, folder: Path | None) -> Path:
    """Where a list is, or would be: in `folder` of copies, or in the cache."""
    return (user_cache() / "splits" if folder is None else folder) / part.file


def _read_published(part: PublishedList, folder: Path | None) -> tuple[str, ...]:
    path = cached_list(part, folder)
    if folder is None and not path.is_file():
        _fetch(part, path)
    if not path.is_file():
        raise ValueError(f"no list {path}. Put a copy of {part.url} there, or leave data.split_folder out to fetch it")
    _check_published(path.read_bytes(), part, str(path))
    return listed_images(path)


def _check_published(content: bytes, part: PublishedList, where: str) -> None:
    count, sha256 = sum(1 for line in content.splitlines() if line.strip()), hashlib.sha256(content).hexdigest()
    if (count, sha256) != (part.count, part.sha256):
        raise ValueError(
            f"{where} is not the published list: {count} images, sha256 {sha256}; expected {part.count} images, sha256 "
            f"{part.sha256}. Delete it and take a fresh copy of {part.url}"
        )


def _fetch(part: PublishedList, path: Path) -> None:
    try:
        with urllib.request.urlopen(part.url, timeout=_FETCH_SECONDS) as answer:
            content = answer.read()
    except OSError as error:
        raise ValueError(
            f"cannot fetch {part.url} ({error}). Put a copy at {path}, or in a folder of copies (as {part.file}) that "
            "data.split_folder names"
        ) from error
    _check_published(content, part, f"what {part.url} sends")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved: a run that is stopped here leaves no half list, and several may fetch at once.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
