"""Files that cannot be read, found before the first step: every image and mask of a run is decoded once.

Which files were good is remembered from run to run by path, size and times, so that only new and changed ones are
looked at again. Pictures in shards are not: their index is held against the sizes of the tars.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain

import numpy as np
from rich.console import Console

from semiseg.config.checks import shown
from semiseg.data.bands import Mapped
from semiseg.data.dataset import Dataset, ImageSet, Pixels, split_record
from semiseg.data.files import FileSet
from semiseg.data.names import Names
from semiseg.data.prepared import Prepared
from semiseg.data.remembered import UNKNOWN, Remembered
from semiseg.runtime.ahead import usable_cores
from semiseg.runtime.progress import Progress

log = logging.getLogger(__name__)

Damage = dict[str, dict[int, str]]  # list -> place in it -> what is wrong

SHOWN = 5  # damaged files in a message
NAMED = 1000  # images left out whose names the split's record holds
MAX_SKIPPED = 0.5  # share of a list
_AT_ONCE = 500  # images that wait for a thread
_TOGETHER = 50  # images whose facts a thread asks for in one go: handing one over costs more than asking
_QUIET = 1000  # images that are looked at without a progress line


class Kept(ImageSet):
    """The images of another set at some places, in its order."""

    def __init__(self, source: ImageSet, places: Sequence[int]) -> None:
        self.source, self.places = source, np.array(places, np.int64)
        self.name, self.has_masks = source.name, source.has_masks
        self.bands, self.first = source.bands, source.first
        self.names = Names.pack(source.names[place] for place in places)

    def image(self, index: int) -> Pixels | Mapped:
        return self.source.image(int(self.places[index]))

    def mask(self, index: int) -> Pixels:
        return self.source.mask(int(self.places[index]))

    def reduced(self, index: int, scale: float) -> tuple[Pixels | Mapped, tuple[int, int]]:
        return self.source.reduced(int(self.places[index]), scale)

    def file(self, index: int) -> str:
        return self.source.file(int(self.places[index]))

    def files_key(self, index: int, what: str) -> str | None:
        return self.source.files_key(int(self.places[index]), what)


def require_whole(dataset: Dataset, console: Console | None = None, use_unlabeled: bool = True) -> None:
    """Raise ValueError, naming the first few, where files of `dataset` cannot be read or masks are wrong.

    Images without a label are left out where `use_unlabeled` is False, as are images in shards, in memory and of one's
    own. With several processes in each of them the same call: each looks at its share.
    """
    names = [name for name in dataset.image_sets if use_unlabeled or name != "unlabeled"]
    _refuse(find_damage(dataset, names, console), dataset)


def without_damaged(dataset: Dataset, console: Console | None = None) -> Dataset:
    """`dataset` without the labelled and unlabelled images that cannot be read, or whose masks are wrong.

    They are counted and named in a warning and in the dataset's split. With several processes in each of them the same
    call. Raises ValueError for damage in another list, and where more than half of a list is damaged.
    """
    damage = find_damage(dataset, [*dataset.image_sets], console)
    kept, split = {}, dict(dataset.split)
    for name in ("labeled", "unlabeled"):
        images, places = dataset.image_sets[name], damage.pop(name, {})
        if len(places) > MAX_SKIPPED * len(images):
            _refuse({name: places}, dataset, " They are more than half of the list: one cause is likely.")
        if not places:
            continue
        rest = [place for place in range(len(images)) if place not in places]
        skipped = [images.names[place] for place in places]
        kept[name], old = Kept(images, rest), split[name]
        words = f"{old['name']}, less {len(places)} damaged"
        split[name] = split_record(kept[name], words, old["source"], old["file_sha256"])
        split[name]["skipped"] = skipped[:NAMED]
        if name == "unlabeled" and dataset.hidden is not None:
            kept["hidden"] = Kept(dataset.hidden, rest)
        log.warning(
            "%d of the %d %s images are left out (data.on_error: skip): %s. The first: %s",
            *(len(places), len(images), name, _shown(skipped), next(iter(places.values()))),
        )
    _refuse(damage, dataset)
    return replace(dataset, split=split, **kept)


def remember_whole(dataset: Dataset) -> None:
    """Remember that every file of the labelled, unlabelled and validation images was read and is good."""
    remembered = Remembered()
    for name in ("labeled", "unlabeled", "val"):
        images = _files(dataset.image_sets[name])
        if images is not None:
            keys = _keys(images, range(len(images)))
            remembered.add(keys[~remembered.holds(keys)])


def find_damage(dataset: Dataset, names: Sequence[str], console: Console | None = None) -> Damage:
    """What is wrong with the images, and their masks, in the lists `names`; lists without damage are left out."""
    from semiseg.runtime.distributed import gathered, rank, world_size  # with torch, without which a dataset opens

    sets = {name: files for name in names if (files := _files(dataset.image_sets[name])) is not None}
    remembered, damage, good = Remembered(), Damage(), [np.array([], np.int64)]
    total = sum(len(range(rank(), len(images), world_size())) for images in sets.values())
    quiet = rank() > 0 or total <= _QUIET
    bar = Progress("look at images", total, console=Console(quiet=True) if quiet else console or Console(stderr=True))
    done = 0
    with ThreadPoolExecutor(usable_cores()) as pool, bar:
        for name, images in sets.items():
            own = range(rank(), len(images), world_size())
            for part in (own[first : first + _AT_ONCE] for first in range(0, len(own), _AT_ONCE)):
                bites = [part[first : first + _TOGETHER] for first in range(0, len(part), _TOGETHER)]
                keys = np.concatenate([*pool.map(partial(_keys, images), bites)])
                new = ~remembered.holds(keys)
                places = np.array(part)[new].tolist()
                wrong = [*pool.map(partial(_wrong, _read_by(dataset.image_sets[name])), places)]
                found = {place: words for place, words in zip(places, wrong, strict=True) if words is not None}
                damage[name] = damage.get(name, {}) | found
                good.append(keys[new][[words is None for words in wrong]])
                done += len(part)
                bar.step(done, {})
    several = gathered((damage, np.concatenate(good)))  # each process has looked at its share
    if rank() == 0:
        remembered.add(np.concatenate([keys for _, keys in several]))
    pairs = {name: [each[name].items() for each, _ in several if name in each] for name in sets}
    whole = {name: dict(sorted(chain.from_iterable(parts))) for name, parts in pairs.items()}
    return {name: places for name, places in whole.items() if places}


def _files(images: ImageSet) -> FileSet | None:
    """The files behind a set; None where there are none, or where they were decoded into memory."""
    if isinstance(images, Prepared):
        return None if images.in_memory else _files(images.source)
    return images if isinstance(images, FileSet) else None


def _read_by(images: ImageSet) -> ImageSet:
    """What is asked for the pictures: with a cache on disk the loader's set, so that each is decoded once."""
    return images if not isinstance(images, Prepared) or images.disk is not None else images.source


def _keys(images: FileSet, places: Sequence[int]) -> np.ndarray:
    return np.array([_key(images, place) for place in places], np.int64)


def _key(images: FileSet, place: int) -> int:
    """64 bits that change when the image, its mask, or the reading of masks does; UNKNOWN where a file is not there."""
    paths = [images.images[place]]
    reading = ""
    if images.masks is not None:
        paths.append(images.masks[place])
        reading = repr(images.reader)
    if images.bands is not None:
        reading += f"{images.bands}"
    digest = blake2b(reading.encode(errors="surrogateescape"), digest_size=8)
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError:
            return UNKNOWN
        digest.update(os.fsencode(path.absolute()))
        digest.update(f"\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0".encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _wrong(images: ImageSet, place: int) -> str | None:
    try:
        images.image(place)
        if images.has_masks:
            images.mask(place)
    except ValueError as error:
        return str(error)
    return None


def _refuse(damage: Mapping[str, Mapping[int, str]], dataset: Dataset, why: str = "") -> None:
    """Raise ValueError if there is damage."""
    count = sum(map(len, damage.values()))
    if not count:
        return
    first = [dataset.image_sets[name].names[place] for name, places in damage.items() for place in places]
    skip = {*damage} <= {"labeled", "unlabeled"} and not why
    raise ValueError(
        f"{count} of the images cannot be used ({_shown(first)}, in the {' and the '.join(damage)} list).{why} The "
        f"first: {next(iter(next(iter(damage.values())).values()))}"
        + (". Or leave such images out: --data.on_error skip" if skip else "")
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
