"""The state of the data that a plan was made of, by which a resumed one knows that they are the same still."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.config.options import DataOptions
from semiseg.data import open_dataset
from semiseg.data.dataset import Dataset, ImageSet, Pixels, scored_mask
from semiseg.runtime.screen import without_warnings
from semiseg.studies.own.folds import Fold
from semiseg.types import IGNORE

State = Mapping[str, Any]
"""As plan.json has it."""
MOST_READ = 1000
"""Unlabelled pictures that are read for their hashes; of more, name, size and time of change stand for the content."""
_LISTS = {"labeled": "labelled", "val": "validation", "test": "test"}


def open_unscaled(options: DataOptions) -> Dataset:
    """What `options` describe, with pictures at their files' size. Raises ValueError as `open_dataset` does."""
    with without_warnings("semiseg.data"):
        return open_dataset(replace(options, scale=1.0, cache="off"), need_unlabeled=False)


def state_of(dataset: Dataset) -> State:
    """Classes and colours, lists, and the contents of masks and pictures as hashes.

    Times and places of files are not in it: what was copied or touched is the same, unless there are more than
    MOST_READ unlabelled pictures. `dataset` is as `open_unscaled` opens it.
    """
    sets = {name: images for name, images in dataset.image_sets.items() if name in _LISTS}
    unlabeled = dataset.image_sets.get("unlabeled")
    return {
        "classes": [[name, list(color)] for name, color in zip(dataset.classes, dataset.colors, strict=True)],
        "lists": {name: list(images.names) for name, images in sets.items()},
        "masks": {images.names[at]: _of_mask(images, at) for images in sets.values() for at in range(len(images))},
        "unlabeled": {"images": len(unlabeled or ()), "digest": "" if unlabeled is None else _of_pictures(unlabeled)},
    }


def _of_mask(images: ImageSet, place: int) -> dict[str, Any]:
    mask, path = images.mask(place), Path(images.file(place))
    return {
        "mask": _digest(repr(mask.shape).encode() + np.ascontiguousarray(mask).tobytes()),
        "picture": _digest(path.read_bytes()) if path.is_file() else "",
        "classes": classes_in(scored_mask(images, place, mask)),
    }


def _of_pictures(images: ImageSet) -> str:
    found = hashlib.sha256()
    for place in sorted(range(len(images)), key=images.names.__getitem__):
        path, content = Path(images.file(place)), b""
        if path.is_file() and len(images) <= MOST_READ:
            content = path.read_bytes()
        elif path.is_file():  # reading so many would hold up every --resume
            stat = path.stat()
            content = f"{stat.st_size} {stat.st_mtime_ns}".encode()
        found.update(_digest(images.names[place].encode("utf-8", "surrogateescape")).encode())
        found.update(_digest(content).encode())
    return found.hexdigest()[:24]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def classes_in(mask: Pixels) -> list[int]:
    """The classes that a mask shows, in order."""
    return sorted({*np.unique(mask).tolist()} - {IGNORE})


def differences(before: State, now: State) -> list[str]:
    """What has changed, in words; empty: nothing has."""
    was, is_ = before["masks"], now["masks"]
    both = [id_ for id_ in was if id_ in is_]
    groups = {
        "had a mask or were listed, and are not any more": [id_ for id_ in was if id_ not in is_],
        "have a mask or are listed now, and were not": [id_ for id_ in is_ if id_ not in was],
        "have another mask": [id_ for id_ in both if was[id_]["mask"] != is_[id_]["mask"]],
        "are other pictures of the same name": [id_ for id_ in both if was[id_]["picture"] != is_[id_]["picture"]],
    }
    words = [f"{len(ids)} image(s) {what} ({_some(ids)})" for what, ids in groups.items() if ids]
    if before["classes"] != now["classes"]:
        names = [[name for name, _ in state["classes"]] for state in (before, now)]
        changed = f"were {', '.join(names[0])} and are {', '.join(names[1])}"
        words.insert(0, f"the classes {changed}" if names[0] != names[1] else "the colours of the classes changed")
    changed = [shown for name, shown in _LISTS.items() if _listed(before, name) != _listed(now, name)]
    if changed and not words:  # lists also follow from the masks
        words.append(f"other images are in the list(s) {', '.join(changed)}")
    counts = [state["unlabeled"]["images"] for state in (before, now)]
    if before["unlabeled"] != now["unlabeled"]:
        words.append(f"the unlabelled images are others ({counts[0]} then, {counts[1]} now)")
    return words


def _listed(state: State, name: str) -> set[str]:
    return set(state["lists"].get(name, ()))


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def unlearnt(folds: Sequence[Fold], state: State) -> dict[str, tuple[int, ...]]:
    """Class -> the folds, from 1, whose validation masks show it and whose labelled masks do not.

    Without folds the split is looked at, and a class of this kind has no fold's number.
    """
    lists = state["lists"]
    each = folds or (Fold(tuple(lists["labeled"]), tuple(lists["val"])),)
    found: dict[str, tuple[int, ...]] = {}
    for number, fold in enumerate(each, 1):
        for label in sorted(_shown(fold.val, state) - _shown(fold.labeled, state)):
            name = state["classes"][label][0]
            found[name] = (*found.get(name, ()), *((number,) if folds else ()))
    return found


def _shown(ids: Collection[str], state: State) -> set[int]:
    return {label for id_ in ids for label in state["masks"].get(id_, {}).get("classes", ())}
