"""Features of a few classes on a plane, by t-SNE, run beside run (Fig. 2 of Xu et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from semiseg.analysis.features import PixelChoice, choose_pixels, pixel_features
from semiseg.analysis.moments import at_length_1
from semiseg.analysis.scatter import SAFE, Embedded, draw
from semiseg.analysis.subjects import Subjects, read_subjects
from semiseg.config.checks import Range, check_value, require
from semiseg.config.fields import nearest
from semiseg.runtime.files import write_json
from semiseg.runtime.progress import Progress
from semiseg.training.experiment import Experiment

NAME = "embedding"
PIXELS = 500  # of each class
PERPLEXITY = 30.0
COMPONENTS = 50  # that PCA leaves for t-SNE
MOST = len(SAFE)  # classes that can be told apart by colour
PAPER_CLASSES = ("boat", "bottle", "person", "potted plant", "sheep")  # of VOC, as in Fig. 2


def embed(
    runs: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    classes: Sequence[str | int] | None = None,
    subset: str = "val",
    checkpoint: str = "last",
    pixels: int = PIXELS,
    seed: int = 0,
    console: Console | None = None,
) -> list[Path]:
    """Draw the runs' features of some classes; returns `out`/embedding.svg, .png and .json.

    Args:
        runs: run folders.
        out: folder to write into.
        root, labels, subset, checkpoint: as for `read_subjects`.
        classes: names or numbers, at most MOST. None: the paper's five of VOC, or the first five that the images show.
        pixels: of each class at most so many, drawn with `seed`, the same for all runs.
        seed: of the draw and of t-SNE.
        console: where progress goes.

    The JSON file has the silhouette of the classes (Rousseeuw 1987): the mean over pixels of (b - a) / max(a, b), where
    a and b are its mean distances to its own and to the nearest other class, on the features at length 1, before any
    map to the plane. Raises ValueError for a class that is not there, too many or too few of them, too few pixels, and
    as `read_subjects`.
    """
    check_value("pixels", pixels, Annotated[int, Range(10, 10**9)])
    check_value("seed", seed, Annotated[int, Range(0, 2**32 - 1)])  # scikit-learn takes no other
    subjects = read_subjects(runs, labels, root=root, subset=subset, checkpoint=checkpoint)
    chosen, choice = _choose(subjects, classes, pixels, seed)
    found, device = [], torch.device("cpu")
    for label, experiment in subjects.experiments():
        device = experiment.device
        found.append(_embedded(experiment, subjects, choice, label, seed, console))
    names = [subjects.dataset.classes[number] for number in chosen]
    asked = {"classes": ",".join(names), "pixels": pixels, "seed": seed}
    document = {
        **subjects.document(NAME, out, device, **asked),
        **asked,
        "classes": names,
        "pixels_by_class": {name: int(choice.chosen[number]) for name, number in zip(names, chosen, strict=True)},
        "rows": [{"label": each.label, "silhouette": each.silhouette, "prototypes": len(each.stars)} for each in found],
    }
    figures = draw(found, {number: subjects.dataset.classes[number] for number in chosen}, subjects.dataset.colors, out)
    write_json(out / f"{NAME}.json", document)
    return [*figures, out / f"{NAME}.json"]


def _choose(
    subjects: Subjects, classes: Sequence[str | int] | None, pixels: int, seed: int
) -> tuple[list[int], PixelChoice]:
    """Numbers of the classes, and their pixels. The classes are looked up first: a slip is told at once."""
    names = subjects.dataset.classes
    chosen = None if classes is None else class_numbers(classes, names)
    if chosen is None and set(PAPER_CLASSES) <= set(names):
        chosen = [names.index(name) for name in PAPER_CLASSES]
    choice = choose_pixels(subjects.images, len(names), pixels, seed, chosen)
    if chosen is None:
        chosen = [number for number in range(len(names)) if choice.total[number]][: len(PAPER_CLASSES)]
        choice = choose_pixels(subjects.images, len(names), pixels, seed, chosen)
    absent = [names[number] for number in chosen if not choice.total[number]]
    require(not absent, f"no {subjects.subset} image shows {', '.join(absent)}; name other classes")
    require(len(chosen) > 1, f"{names[chosen[0]]} is the only class; an embedding needs two or more")
    return chosen, choice


def class_numbers(classes: Sequence[str | int], names: Sequence[str]) -> list[int]:
    """Numbers of classes that are given by name or number. Raises ValueError for an unknown class."""
    found = dict.fromkeys(_class_number(str(each), names) for each in classes)
    words = f"{len(found)} classes to embed; expected 2 to {MOST}, which can be told apart by their colours"
    require(2 <= len(found) <= MOST, words)
    return list(found)


def _class_number(word: str, names: Sequence[str]) -> int:
    if word in names:
        return list(names).index(word)
    require(
        word.isdecimal() and int(word) < len(names),
        f"there is no class {word!r}; {nearest(word, names)}, or a number from 0 to {len(names) - 1}",
    )
    return int(word)


def _embedded(
    experiment: Experiment, subjects: Subjects, choice: PixelChoice, label: str, seed: int, console: Console | None
) -> Embedded:
    parts = list(pixel_features(experiment, subjects.images, choice, label, console))
    features, classes = (torch.cat(each) for each in zip(*parts, strict=True))
    pixels, own = at_length_1(features.double().numpy()), classes.numpy()
    stars, star_classes = _prototypes(experiment, set(own.tolist()))
    together = np.concatenate([pixels, stars]) if len(stars) else pixels
    with Progress(f"{label}: t-SNE of {len(together)} points", 1, console=console) as bar:
        places = to_plane(together, seed)
        bar.step(1, {})
    score = float(silhouette_score(pixels, own))
    return Embedded(label, places[: len(pixels)], own, places[len(pixels) :], star_classes, score)


def _prototypes(experiment: Experiment, classes: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes (M, D) of the chosen classes that have a place, at length 1, and their classes (M,)."""
    head = experiment.method.predictor.headline_alone.prototypes
    if head is None:
        return np.zeros((0, 0)), np.zeros(0, np.int64)
    ready = head.ready.cpu().numpy()
    ready[[number for number in range(len(ready)) if number not in classes]] = False
    return head.directions().double().cpu().numpy()[ready], ready.nonzero()[0]


def to_plane(features: np.ndarray, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2): PCA to at most COMPONENTS, then t-SNE, whose perplexity is lower where N is small."""
    count, channels = features.shape
    reduced = PCA(min(COMPONENTS, count, channels), svd_solver="full").fit_transform(features)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    # One thread: t-SNE adds up its threads' sums in the order they finish, which no seed decides.
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
