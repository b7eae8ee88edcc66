"""How images are split: the same picture on both sides, classes that are not validated, objects too small to see."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from semiseg.config.options import DataOptions
from semiseg.data import FEW_VALIDATE
from semiseg.data.doctor.examination import Finding, SeenClass
from semiseg.data.doctor.looks import ImageLook
from semiseg.data.doctor.measures import TINY
from semiseg.data.doctor.seen import Seen

Split = Mapping[str, Sequence[str]]

_SAME_BITS = 16  # of 63 that may differ between two versions of one picture; unrelated ones differ in about 31
_SAME_DETAIL = 0.945  # correlation of their details; between pictures of noise it is below 0.3
_FRAME_BITS = 22  # between neighbouring frames of a video
_FRAME_GREY = 24.0  # mean difference of their thumbnails, of 255
_FRAME_DETAIL = 0.3
_FRAMES_ALIKE = 0.5  # share of a sequence's validation images whose nearest training image is alike
_MOST_COMPARED = 4_000_000_000  # pairs
_AT_ONCE = 64  # pictures that are compared with all others in one go
_NUMBER = re.compile(r"(\d+)(?=\D*$)")
_SMALL = 0.5  # share of a class's pixels in tiny objects, from which it is said
_SIDES = (("labeled", "unlabeled"), ("val", "test"))


def duplicates(seen: Seen, split: Split) -> Iterator[Finding]:
    """One file under two names, in training and validation or among the labelled."""
    side = {id_: name for name, ids in split.items() for id_ in ids}
    groups: dict[str, list[str]] = defaultdict(list)
    for id_, look in seen.images.items():
        if look.content and id_ in side:
            groups[look.content].append(id_)
    twice = [ids for ids in groups.values() if len(ids) > 1]
    across = [ids for ids in twice if _across(ids, side)]
    if across:
        files = seen.images_of(id_ for ids in across for id_ in ids)
        pairs = "; ".join(f"{' = '.join(ids[:3])} ({', '.join(side[id_] for id_ in ids[:3])})" for ids in across[:4])
        yield Finding(
            "duplicates-across",
            "warning",
            f"{len(across)} picture(s) are both trained on and scored, under two names: {pairs}. The scores will be "
            f"too "
            "good. Delete one of each, or name the validation images in a list (--data.val)",
            files,
        )
    unlike = [ids for ids in twice if len({seen.masks[id_].content for id_ in ids if id_ in seen.masks}) > 1]
    if unlike:
        files = seen.masks_of(id_ for ids in unlike for id_ in ids if id_ in seen.masks)
        yield Finding(
            "masks-contradict",
            "warning",
            f"{len(unlike)} picture(s) are there twice with different masks: {' = '.join(unlike[0])}. Keep the right "
            f"one",
            files,
        )
    within = [ids for ids in twice if not _across(ids, side) and ids not in unlike]
    if within:
        words = f"{len(within)} picture(s) are there more than once in one list, such as {' = '.join(within[0][:4])}"
        yield Finding("duplicates", "note", words, seen.images_of(id_ for ids in within for id_ in ids))


def _across(ids: Sequence[str], side: Mapping[str, str]) -> bool:
    sides = {side[id_] for id_ in ids}
    return all(any(name in sides for name in group) for group in _SIDES)


def near_duplicates(seen: Seen, split: Split) -> Iterator[Finding]:
    """Other versions of one picture, and frames of one video, in training and validation."""
    train, score = (
        [
            id_
            for name in names
            for id_ in split.get(name, ())
            if id_ in seen.images and seen.images[id_].hash is not None
        ]
        for names in _SIDES
    )
    if not train or not score:
        return
    if len(train) * len(score) > _MOST_COMPARED:
        words = f"{len(score):,} scored images were not compared with {len(train):,} others for near-duplicates"
        yield Finding("not-compared", "note", f"{words}: there are too many pairs")
        return
    frames, videos = _videos(seen, train, score)
    if frames:
        files = seen.images_of([id_ for pair in frames for id_ in pair])
        names = ", ".join(f"{name or 'numbers alone'}" for name in sorted(videos)[:4])
        near = "; ".join(f"{one} (scored) is like {two}" for one, two in frames[:3])
        yield Finding(
            "video-frames",
            "warning",
            f"frames of one video seem to be both trained on and scored ({names}): {near}. The scores will be too good "
            "for other videos. Name whole videos in a list of validation images (--data.val)",
            files,
        )
    known = {one for one, _ in frames}
    pairs = [(one, two) for one, two in _alike(seen, train, score) if one not in known]
    if pairs:
        shown = "; ".join(f"{one} (scored) and {two}" for one, two in pairs[:4])
        yield Finding(
            "near-duplicates",
            "warning",
            f"{len(pairs)} picture(s) that are scored look the same as one that is trained on: {shown}. The scores "
            f"will "
            "be too good. Delete one of each, or name the validation images in a list (--data.val)",
            seen.images_of([id_ for pair in pairs for id_ in pair]),
        )


def _hashes(seen: Seen, ids: Sequence[str]) -> NDArray[np.int64]:
    return np.array([seen.images[id_].hash for id_ in ids], np.int64)


def _alike(seen: Seen, train: Sequence[str], score: Sequence[str]) -> list[tuple[str, str]]:
    """(scored, trained on): the nearest other version of each scored picture, where there is one."""
    found, codes = [], _hashes(seen, train)  # (train,)
    for first in range(0, len(score), _AT_ONCE):
        part = score[first : first + _AT_ONCE]
        bits = np.bitwise_count(_hashes(seen, part)[:, None] ^ codes)  # (part, train)
        for place, near in np.argwhere(bits <= _SAME_BITS).tolist():
            one, two = seen.images[part[place]], seen.images[train[near]]
            if one.content != two.content and _correlation(one, two) >= _SAME_DETAIL:
                found.append((part[place], train[near]))
    return [*dict(reversed(found)).items()][::-1]


def _correlation(one: ImageLook, two: ImageLook) -> float:
    """Of the pictures' details, -1..1."""
    return float((one.details() * two.details()).sum())


def _difference(one: ImageLook, two: ImageLook) -> float:
    """Mean difference of the thumbnails in grey levels."""
    return float(np.abs(one.grey() - two.grey()).mean())


def _videos(seen: Seen, train: Sequence[str], score: Sequence[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """(scored, trained on): neighbours in sequences of numbered names that look alike, and the sequences' names."""
    numbered: dict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for ids, scored in ((train, False), (score, True)):
        for id_ in ids:
            match = _NUMBER.search(id_)
            if match is not None:
                name = f"{id_[: match.start()]}*{id_[match.end() :]}".rpartition("/")[2]
                numbered[name].append((int(match[1]), id_, scored))
    pairs, names = [], set()
    for name, frames in numbered.items():
        trained = sorted((number, id_) for number, id_, scored in frames if not scored)
        scored = [(number, id_) for number, id_, scored in frames if scored]
        if not trained or not scored:
            continue
        places = np.searchsorted([number for number, _ in trained], [number for number, _ in scored])
        near = []
        for (number, id_), place in zip(scored, places.tolist(), strict=True):
            _, other = min(trained[max(place - 1, 0) : place + 1], key=lambda frame: abs(frame[0] - number))
            near += [(id_, other)] if _is_next(seen.images[id_], seen.images[other]) else []
        if len(near) >= max(1, _FRAMES_ALIKE * len(scored)) and len(scored) + len(trained) > 2:
            pairs += near
            names.add(name)
    return pairs, names


def _is_next(one: ImageLook, two: ImageLook) -> bool:
    if one.hash is None or two.hash is None or one.content == two.content:
        return False
    near = (one.hash ^ two.hash).bit_count() <= _FRAME_BITS and _difference(one, two) <= _FRAME_GREY
    return near and _correlation(one, two) >= _FRAME_DETAIL


def classes(found: Sequence[SeenClass]) -> Iterator[Finding]:
    """Classes that no mask shows, and classes that no validation mask shows."""
    absent = [each.name for each in found if not each.images]
    unscored = [each.name for each in found if each.images and not each.validate]
    if absent:
        yield Finding(
            "absent-classes",
            "warning",
            f"{len(absent)} of {len(found)} classes are in no labelled or validation mask ({_few(absent)}): they "
            f"cannot "
            "be learnt or scored. Are the masks' values the classes' indices? If so, draw some, or take the classes "
            "out",
        )
    if unscored:
        yield Finding(
            "class-not-in-val",
            "warning",
            f"{len(unscored)} of {len(found)} classes are in no validation mask ({_few(unscored)}): they cannot be "
            "scored. Name validation images that show them in data.val, or draw them in more masks",
        )


def tiny(seen: Seen, names: Mapping[int, str]) -> Iterator[Finding]:
    """Classes that mostly consist of objects of a few pixels; `names` has the class of each value in the masks."""
    pixels: dict[int, int] = defaultdict(int)
    small: dict[int, int] = defaultdict(int)
    ids: dict[int, list[str]] = defaultdict(list)
    for id_, look in seen.masks.items():
        for value in look.tiny:
            pixels[value] += look.values.get(value, 0)
            small[value] += look.tiny[value]
            if look.tiny[value]:
                ids[value].append(id_)
    found = [value for value in pixels if small[value] > _SMALL * pixels[value] and value in names]
    if found:
        files = seen.masks_of(dict.fromkeys(id_ for value in found for id_ in ids[value]))
        shares = ", ".join(f"{names[value]} ({small[value] / pixels[value]:.0%} of its pixels)" for value in found)
        yield Finding(
            "tiny-objects",
            "warning",
            f"{len(found)} class(es) are mostly objects of fewer than {TINY} pixels: {shares}, as in "
            f"{seen.named(files)}. A "
            "network hardly sees them. Cut the images into pieces and enlarge them (--data.scale 2), or take out "
            "specks "
            "that were drawn by accident",
            files,
        )


def few(split: Split, options: DataOptions) -> Iterator[Finding]:
    """No image without a mask, and few to validate."""
    if not split.get("unlabeled") and options.unlabeled_shards is None:
        yield Finding(
            "no-unlabelled",
            "warning",
            "every image has a mask, and none is left to learn from without. Add images without masks, in images/ or "
            "unlabeled/, or train with --method supervised",
        )
    if 0 < len(split["val"]) < FEW_VALIDATE:
        words = f"only {len(split['val'])} image(s) validate: a score from so few says little. Draw more masks"
        yield Finding("few-validate", "note", words)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
