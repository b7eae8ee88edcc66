"""Which unlabelled images to label next: their regions lie near to many that the model doubts and no label covers.

One pass over all images keeps a vector of at most 512 numbers, 2 kB, of each image and of each of its regions: 100,000
images of five regions take 1.2 GB, and up to three times that while the choice is made. See `selection` for the rule.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from semiseg.analysis.doubt import Doubt, Measure, each_image
from semiseg.analysis.regions import stacked
from semiseg.analysis.selection import Cover, choose, standardised
from semiseg.analysis.suggest_sheet import write_sheet
from semiseg.config.checks import Count, check_value, require
from semiseg.config.recipe import load_config
from semiseg.data import open_dataset
from semiseg.data.bands import Bands
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.data.files import FileSet
from semiseg.data.listing import picture_endings
from semiseg.evaluation.model import Make, load_model
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.files import write_atomically
from semiseg.runtime.progress import Progress
from semiseg.training.record import CONFIG, run_behind

TABLE, SHEET = "suggestions.csv", "suggestions.png"
MANY = 1000  # images from which on the time is told beforehand
_TIMED = 6  # images that tell it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suggestion:
    """An image to label."""

    rank: int
    name: str
    path: Path | None
    """None where the image is no file of its own."""
    score: float
    """The share of the uncovered amount that the image takes, when it was chosen, in [0, 1]; see `selection`."""
    doubt: float
    """In [0, 1], as `class_doubt`."""
    why: str


@dataclass(frozen=True)
class Suggestions:
    """The images to label, the best first, and where they are written."""

    chosen: tuple[Suggestion, ...]
    pool: int
    """Unlabelled images that were looked at."""
    failed: dict[str, str]
    """Those that cannot be read, by name, each with the reason."""
    folder: Path

    def lines(self) -> list[str]:
        """For a terminal: the names with their reasons, where they are written, and how to go on."""
        wide = max((len(each.name) for each in self.chosen), default=0)
        found = [f"{each.rank:>3}  {each.name:<{wide}}  {each.why}" for each in self.chosen]
        found.append(f"{len(self.chosen)} of {self.pool} images suggested: {self.folder / TABLE} and {SHEET}")
        found.append("Draw their masks, put each into masks/ under its image's name, and train again")
        return found


def suggest(
    run: Path,
    count: int = 10,
    *,
    images: Path | None = None,
    out: Path | None = None,
    root: Path | None = None,
    dataset: Dataset | None = None,
    network: Segmentor | Make | None = None,
    console: Console | None = None,
) -> Suggestions:
    """Choose at most `count` images to label next, with the model in `run`; writes suggestions.csv and a contact sheet.

    Args:
        run: a run folder; with `images`, a model's folder will do.
        count: how many. There are fewer where the others are near-duplicates of labelled or suggested images.
        images: a folder of pictures to choose among. None: the run's unlabelled images.
        out: folder for suggestions.csv and suggestions.png. None: RUN/suggest.
        root: where the run's data are now. None: where they were.
        dataset, network: the objects that the run was given, if it was.
        console: where progress goes.

    Equal images and model give an equal choice, in whatever order the files lie. Raises ValueError where `run` has no
    model, there is no image to choose among, or none can be read.
    """
    check_value("count", count, Count)
    model = load_model(run, network=network)
    folder = out or run / "suggest"
    pool, labelled = _sets(run, model.bands, images, root, dataset, folder / SHEET)
    measure = Measure(model.to(pick_device("auto")))
    seen = [[each for _, each in _measured(measure, one, f"{one.name} images", console)[0]] for one in labelled]
    own, failed = _measured(measure, pool, "images without masks", console)
    require(len(own) > 0, f"none of the {len(pool)} images can be read. The first: {next(iter(failed.values()), '')}")
    own.sort(key=lambda pair: pool.names[pair[0]])
    taken = _choice([each for _, each in own], seen, count)
    chosen = tuple(
        Suggestion(rank, pool.names[index], _path(pool, index), score, doubt.doubt, _why(doubt, model.classes))
        for rank, (place, score) in enumerate(taken, 1)
        for index, doubt in [own[place]]
    )
    found = Suggestions(chosen, len(own), failed, folder)
    _write_table(found)
    write_sheet(
        found.folder / SHEET, pool, [own[place][0] for place, _ in taken], [each.why for each in chosen], measure
    )
    return found


def _choice(pool: Sequence[Doubt], seen: Sequence[Sequence[Doubt]], count: int) -> list[tuple[int, float]]:
    """Places in the pool with their scores. seen: the labelled images, which cover, and others, to avoid only."""
    channels = len(pool[0].vector)
    avoided = [each.vector for group in seen for each in group]
    vectors, near = standardised(
        np.stack([each.vector for each in pool]), np.array(avoided, np.float32).reshape(-1, channels)
    )
    regions = stacked([each.regions for each in pool], channels)
    labelled = stacked([each.regions for group in seen[:1] for each in group], channels)
    own, covered = standardised(regions.vectors, labelled.vectors)
    return choose(Cover(len(pool), replace(regions, vectors=own), covered), vectors, near, count)


def _sets(
    run: Path, bands: Bands | None, images: Path | None, root: Path | None, dataset: Dataset | None, sheet: Path
) -> tuple[ImageSet, tuple[ImageSet, ...]]:
    """The images to choose among, at native size and with the model's `bands`, and the run's images with masks."""
    config = run_behind(run) / CONFIG
    if images is not None and dataset is None and not config.is_file():
        return _folder(images, bands, (), sheet), ()
    options = load_config(config).data
    options = replace(options, cache="off", scale=1.0, root=options.root if root is None else root)
    try:
        opened = open_dataset(options, images is None, dataset)
    except ValueError as error:
        if images is None:
            raise
        log.warning("images like the run's labelled ones may be suggested, for these cannot be opened: %s", error)
        return _folder(images, bands, (), sheet), ()
    labelled = tuple(each for each in (opened.labeled, opened.val, opened.test) if each is not None)
    return opened.unlabeled if images is None else _folder(images, bands, labelled, sheet), labelled


def _folder(images: Path, bands: Bands | None, labelled: Sequence[ImageSet], sheet: Path) -> FileSet:
    """The pictures below a folder, without the files that are labelled already, and without the contact sheet."""
    endings = picture_endings(images)
    known = {sheet.resolve()} | {
        path.resolve() for each in labelled for index in range(len(each)) if (path := _path(each, index)) is not None
    }
    paths = {name: images / (name + ending) for name, ending in endings.items()}
    paths = {name: path for name, path in sorted(paths.items()) if path.resolve() not in known}
    require(len(paths) > 0, f"all {len(endings)} images in {images} have masks in the run: name a folder with others")
    made = FileSet("unlabeled", list(paths), list(paths.values()))
    made.bands = bands
    return made


def _path(images: ImageSet, index: int) -> Path | None:
    """The file of an image, where it has one."""
    source = getattr(images, "source", images)
    return source.images[index] if isinstance(source, FileSet) else None


def _measured(
    measure: Measure, images: ImageSet, title: str, console: Console | None
) -> tuple[list[tuple[int, Doubt]], dict[str, str]]:
    """(index, doubt) of every image that can be measured, and the others' reasons by name. Says how long it takes.

    The first image pays for what is made once, so it is not timed.
    """
    found: list[tuple[int, Doubt]] = []
    failed: dict[str, str] = {}
    with Progress(title, len(images), console=console) as bar:
        began = time.monotonic()
        for done, (index, pixels) in enumerate(each_image(images), 1):
            try:
                if isinstance(pixels, ValueError):
                    raise pixels
                found.append((index, measure(pixels)))
            except (ValueError, MemoryError, RuntimeError) as error:  # torch's: too large or too small an image
                failed[images.names[index]] = str(error).partition("\n")[0] or type(error).__name__
            if done == 1:
                began = time.monotonic()
            elif done == _TIMED and len(images) > MANY:
                seconds = (time.monotonic() - began) / (done - 1) * (len(images) - done)
                bar.say(f"{len(images):,} {title} to look at: about {seconds / 60:.0f} min")
            bar.step(done, {})
    return found, failed


def _why(doubt: Doubt, classes: Sequence[str]) -> str:
    """The classes in doubt, in words."""
    words = [f"{classes[first]} or {classes[second]} at {100 * share:.1f} %" for first, second, share in doubt.pairs]
    if not words:
        return "few doubts; unlike the labelled images"
    return f"{', '.join(words)} of its pixels"


def _write_table(found: Suggestions) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["rank", "name", "path", "score", "doubt", "why"])
    for each in found.chosen:
        path = "" if each.path is None else str(each.path)
        writer.writerow([each.rank, each.name, path, f"{each.score:.6f}", f"{each.doubt:.6f}", each.why])
    write_atomically(
        found.folder / TABLE, lambda file: file.write(text.getvalue().encode("utf-8-sig", "backslashreplace"))
    )
