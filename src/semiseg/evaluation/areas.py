"""How much of a mask each class takes: pixels, square metres, objects; and the table of many masks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semiseg.data.dataset import Pixels
from semiseg.runtime.files import write_atomically

_STRIP = 512  # rows at a time: counting takes eight bytes a pixel


def count_pixels(label: Pixels, classes: int) -> list[int]:
    """Of each class in a mask (H, W); what is no class, such as pixels without data, is not counted."""
    counts = np.zeros(256, np.int64)
    for top in range(0, label.shape[0], _STRIP):
        counts += np.bincount(label[top : top + _STRIP].ravel(), minlength=256)
    return counts[:classes].tolist()


def count_objects(label: Pixels, classes: int, smallest: int = 1, rows: int = _STRIP) -> list[int]:
    """Connected pixels of each class in a mask (H, W), corners included, of at least `smallest` pixels.

    Strips of `rows` rows are counted apart, and joined where they touch, so that no map of the whole is needed.
    """
    return [_objects_of(label, number, smallest, rows) for number in range(classes)]


def _objects_of(label: Pixels, number: int, smallest: int, rows: int) -> int:
    sizes, parents = [0], [0]  # of the parts of objects, part 0 being none
    above = np.zeros(label.shape[1], np.int64)  # the parts in the last row of the strip before
    for top in range(0, label.shape[0], rows):
        strip = np.asarray(label[top : top + rows] == number, np.uint8)
        _, marks, figures, _ = cv2.connectedComponentsWithStats(strip, connectivity=8, ltype=cv2.CV_32S)
        shift = len(sizes) - 1
        sizes += figures[1:, cv2.CC_STAT_AREA].tolist()
        parents += range(len(parents), len(sizes))
        first = np.where(marks[0] > 0, marks[0] + shift, 0)
        last = len(first) - 1
        for move in (-1, 0, 1):  # straight below, and by a corner
            upper, lower = above[max(-move, 0) : last + 1 - max(move, 0)], first[max(move, 0) : last + 1 + min(move, 0)]
            touching = (upper > 0) & (lower > 0)
            for one, other in np.unique(np.stack([upper[touching], lower[touching]], 1), axis=0).tolist():
                parents[_root(parents, one)] = _root(parents, other)
        above = np.where(marks[-1] > 0, marks[-1] + shift, 0)
    whole = [0] * len(sizes)
    for part, size in enumerate(sizes):
        whole[_root(parents, part)] += size
    return sum(size >= smallest for size in whole[1:])


def _root(parents: list[int], part: int) -> int:
    while parents[part] != part:
        part = parents[part]
    return part


def write_areas(path: Path, records: Iterable[tuple[str, Mapping[str, Any]]], classes: tuple[str, ...]) -> None:
    """A CSV with a row for each image and class: pixels, their share, and where they are known m2 and objects.

    `records` are names with `pixels`, and `m2` of a pixel and `objects`, or None.
    """
    records = list(records)
    has = {key: any(record[key] is not None for _, record in records) for key in ("m2", "objects")}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "class", "pixels", "share", *(key for key, there in has.items() if there)])
    for name, record in records:
        every = sum(record["pixels"])
        for number, (title, pixels) in enumerate(zip(classes, record["pixels"], strict=True)):
            row: list[Any] = [name, title, pixels, f"{pixels / max(every, 1):.6f}"]
            if has["m2"]:
                row.append("" if record["m2"] is None else f"{pixels * record['m2']:.4f}")
            if has["objects"]:
                row.append("" if record["objects"] is None else record["objects"][number])
            table.writerow(row)
    encoded = text.getvalue().encode(errors="backslashreplace")
    write_atomically(path, lambda file: file.write(encoded))
