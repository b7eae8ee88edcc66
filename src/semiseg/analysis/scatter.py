"""The figure of an embedding: run beside run, a colour for each class, stars for prototypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path
from textwrap import fill
from typing import Any

import cv2
import numpy as np

from semiseg.data.dataset import Color
from semiseg.runtime.files import write_atomically

SAFE: tuple[Color, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (0, 0, 0),
    (120, 94, 240),
)  # fmt: skip
"""Colours that the colour-blind tell apart: Okabe and Ito's without yellow, which fades on white, and a violet."""

APART = 25.0  # distance in lightness and blue-yellow, which the red-green blind see, of two colours told apart
DARKEST, BRIGHTEST = 20.0, 80.0  # lightness of 0 to 100 that shows as a colour on white
NOTE = (
    "t-SNE of features at length 1. Close points have similar features; the axes have no unit, and sizes of groups and "
    "distances between them mean nothing."
)
SIDE = 4.2  # inches, of one run's panel
COLUMNS = 4


@dataclass(frozen=True)
class Embedded:
    """One run on the plane."""

    label: str
    points: np.ndarray  # (N, 2) of the pixels
    classes: np.ndarray  # (N,) their classes
    stars: np.ndarray  # (M, 2) of the prototypes, M = 0 without
    star_classes: np.ndarray  # (M,)
    silhouette: float  # of the features, in [-1, 1]


def draw(found: Sequence[Embedded], classes: Mapping[int, str], colors: Sequence[Color], out: Path) -> list[Path]:
    """Write `out`/embedding.svg and .png; returns both.

    `classes` are numbers and names of the shown classes, `colors` the colours of all classes of the dataset.
    """
    from matplotlib.figure import Figure

    chosen = readable([colors[number] for number in classes])
    shades = {number: "#" + bytes(color).hex() for number, color in zip(classes, chosen, strict=True)}
    columns = min(len(found), COLUMNS)
    rows = -(-len(found) // columns)
    figure = Figure((SIDE * columns, SIDE * rows + 1.2), layout="constrained")
    for panel, each in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, found):
        if each is None:
            panel.set_axis_off()
        else:
            _panel(panel, each, shades)
    _legend(figure, classes, shades, any(len(each.stars) for each in found))
    return [_save(figure, out / f"embedding.{ending}") for ending in ("svg", "png")]


def _panel(panel: Any, each: Embedded, shades: Mapping[int, str]) -> None:
    """Draw one run on matplotlib axes."""
    order = np.random.default_rng(0).permutation(len(each.points))  # no class lies on top of the others
    hues = [shades[int(number)] for number in each.classes[order]]
    panel.scatter(*each.points[order].T, c=hues, s=9, alpha=0.7, linewidths=0)
    if len(each.stars):
        hues = [shades[int(number)] for number in each.star_classes]
        panel.scatter(*each.stars.T, c=hues, s=170, marker="*", edgecolors="black", linewidths=1.1, zorder=3)
    panel.set_title(f"{each.label}\nsilhouette {each.silhouette:.2f}", fontsize=11)
    panel.set(xticks=[], yticks=[])
    panel.set_aspect("equal", "datalim")
    for side in panel.spines.values():
        side.set_color("#bbbbbb")


def _legend(figure: Any, classes: Mapping[int, str], shades: Mapping[int, str], stars: bool) -> None:
    """Names of the classes below the panels, and NOTE above them."""
    from matplotlib.lines import Line2D

    entries = [("o", shades[number], shades[number], name) for number, name in classes.items()]
    entries += [("*", "white", "black", "prototype")] if stars else []
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, markeredgecolor=edge, markersize=9, label=name)
        for marker, color, edge, name in entries
    ]
    width = figure.get_figwidth()
    columns = min(len(handles), max(2, int(width / 1.5)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
    figure.suptitle(fill(NOTE, int(14 * width)), fontsize=9, color="#444444")


def _save(figure: Any, path: Path) -> Path:
    """Write a matplotlib figure; equal figures give equal files."""
    import matplotlib

    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "semiseg", "svg.fonttype": "none"}):
        write_atomically(
            path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=160, metadata=metadata, facecolor="w")
        )
    return path


def readable(colors: Sequence[Color]) -> list[Color]:
    """The colours where small points of them can be told apart on white, by the red-green blind too; else of SAFE."""
    lab = cv2.cvtColor(np.array([colors], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]  # (n, 3), lightness 0 to 100
    seen = all(DARKEST <= lightness <= BRIGHTEST for lightness in lab[:, 0])
    pairs = combinations(lab[:, [0, 2]], 2)
    apart = all(np.linalg.norm(first - second) >= APART for first, second in pairs)
    return list(colors) if seen and apart else list(SAFE[: len(colors)])
