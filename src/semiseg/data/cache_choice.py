"""Where decoded pictures are kept: what `data.cache` asks for, or what decoding and memory suggest, and its words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from semiseg.config.options import DataOptions
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.data.decode_cache import DecodeCache, cache_folder
from semiseg.data.prepared import Prepared

CHEAP = 0.004
"""Seconds a picture: where decoding takes less, none is kept."""
AT_ONCE = 1.0
"""Seconds for all pictures: where decoding takes less, they are kept in memory, if they fit."""
MEMORY = 1e9, 1 / 8
"""Most bytes in memory, and their share of the machine's memory."""
_TRIED, _TRYING = 6, 0.5  # pictures that are decoded to learn what it takes, and seconds after which no more are


class Cost(NamedTuple):
    """What keeping all pictures takes."""

    seconds: float  # to decode one
    bytes: float  # of all, decoded
    pictures: int


def prepared(dataset: Dataset, options: DataOptions) -> Dataset:
    """`dataset` as a loader should read it, by `data.scale`, `data.cache` and `data.draft`.

    Validation and test images stay at their own size.
    """
    kind, words, disk = _choice(dataset, options)
    memory, draft = kind == "memory", options.draft and options.scale < 1

    def at_scale(images: ImageSet) -> Prepared:
        return Prepared(images, options.scale, memory, disk=disk, draft=draft)

    def as_they_are(images: ImageSet) -> ImageSet:
        return images if kind == "off" else Prepared(images, cache=memory, disk=disk)

    return replace(
        dataset,
        labeled=at_scale(dataset.labeled),
        unlabeled=at_scale(dataset.unlabeled),
        val=as_they_are(dataset.val),
        test=None if dataset.test is None else as_they_are(dataset.test),
        cached=words,
    )


def _choice(dataset: Dataset, options: DataOptions) -> tuple[str, str, DecodeCache | None]:
    """`memory`, `disk` or `off`, what is said of it, and the cache on disk."""
    if options.cache == "off":
        return "off", "", None
    if options.cache == "memory":
        return "memory", "decoded pictures are kept in memory (data.cache: memory)", None
    if dataset.bands is not None:
        return "off", "" if options.cache == "auto" else "pictures of bands are not kept on disk", None
    cost = _cost(dataset, options)
    if cost is None:
        return "off", "" if options.cache == "auto" else "no picture is kept on disk: they do not come from files", None
    each = f"decoding takes {1000 * cost.seconds:.3g} ms a picture"
    if options.cache == "auto" and cost.seconds < CHEAP:
        return "off", f"decoded pictures are not kept: {each}", None
    if options.cache == "auto" and cost.seconds * cost.pictures < AT_ONCE and cost.bytes < min(MEMORY[0], _memory()):
        return "memory", f"decoded pictures are kept in memory, {_size(cost.bytes)}: {each}", None
    folder = cache_folder()
    try:
        disk = DecodeCache(folder, 1e9 * options.cache_gb)
    except OSError as error:
        return "off", f"decoded pictures are not kept, though {each}: {folder}: {error.strerror or error}", None
    words = f"decoded pictures are kept in {folder}, about {_size(cost.bytes)}: {each}"
    if cost.bytes > disk.most:
        words += (
            f". Only {_size(disk.most)} may be there (data.cache_gb, half of the disk): the others are decoded anew"
        )
    return "disk", words, disk


def _cost(dataset: Dataset, options: DataOptions) -> Cost | None:
    """By a few pictures that are decoded here; None where none comes from a file that can be read."""
    sets = [(images, scale) for images, scale in _sets(dataset, options) if len(images)]
    seconds, sizes, began = [], [], time.perf_counter()
    for images, place, scale in _few(sets):
        if sizes and time.perf_counter() - began > _TRYING:
            break
        before = time.perf_counter()
        try:
            size = images.image(place).nbytes if images.files_key(place, "image") is not None else 0
        except ValueError:  # damaged: whoever needs it will be told
            continue
        if size:
            seconds.append(time.perf_counter() - before)
            sizes.append(size * scale**2)
    count = sum(len(images) for images, _ in sets)
    return Cost(float(np.median(seconds)), count * float(np.mean(sizes)), count) if sizes else None


def _sets(dataset: Dataset, options: DataOptions) -> list[tuple[ImageSet, float]]:
    """Every set, and the scale at which its pictures are kept; the largest first."""
    own = [(images, 1.0) for images in (dataset.val, dataset.test) if images is not None]
    return [(dataset.unlabeled, options.scale), (dataset.labeled, options.scale), *own]


def _few(sets: Sequence[tuple[ImageSet, float]]) -> Iterator[tuple[ImageSet, int, float]]:
    """Some pictures, evenly over the first sets that have any."""
    for images, scale in sets[:2]:
        for place in np.linspace(0, len(images) - 1, min(len(images), _TRIED // 2), dtype=int).tolist():
            yield images, place, scale


def _memory() -> float:
    """Bytes that may be taken of the machine's memory."""
    try:
        return MEMORY[1] * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no POSIX
        return MEMORY[0]


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
