"""A trained run on new pictures: masks to work with, overlays to look at, confidences to doubt by."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from semiseg.config.predicting import PredictOptions
from semiseg.data.dataset import Pixels
from semiseg.evaluation.areas import write_areas
from semiseg.evaluation.colors import draw_colors, draw_legend
from semiseg.evaluation.done import Done
from semiseg.evaluation.model import Model, load_model
from semiseg.evaluation.native import LARGEST_WHOLE, STRIDE, WINDOW, labelled
from semiseg.evaluation.pictures import AREAS, LEGEND, check_out, find_pictures, out_folder
from semiseg.evaluation.pipeline import Picture, Reading, Writing, reason, shares
from semiseg.evaluation.written import LARGEST_OVERLAY, Writer, write_png
from semiseg.runtime.distributed import gathered, pick_device, process_group, rank, world_size
from semiseg.runtime.progress import Progress

AT_ONCE = {"cpu": 2**20, "cuda": 2**23}
"""Most pixels of a batch of several pictures, by the kind of device."""
LONGEST = timedelta(days=30)  # that one process waits for the others, which may have larger pictures
MANY = 2**24  # pixels of a picture from which its progress is shown


@dataclass(frozen=True)
class Predicted:
    """What became of the pictures."""

    count: int
    """Of pictures with all their files."""
    failed: dict[Path, str] = field(default_factory=dict)
    """The others, each with a sentence that names it and the reason."""
    out: Path = Path()
    """Where the files are."""
    kept: int = 0
    """How many of `count` were there before, of the same model, options and file."""


def predict_images(
    run: str | os.PathLike[str],
    what: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    model: Model | None = None,
    device: str = "auto",
    console: Console | None = None,
    **options: Any,
) -> Predicted:
    """Segment the pictures that `what` names (a file, a folder, a pattern, a list) with the model of `run`, or `model`.

    Writes, at each picture's own size, `out`/masks/NAME.png (class indices with the classes' colours as palette),
    `out`/overlays/NAME.jpg (the classes over the picture; NAME.png where a side is too long for JPEG) and
    `out`/confidence/NAME.png (0 to 255 for 0 to 1), where NAME is as in `find_pictures`; beside them areas.csv,
    legend.png and predict.json. Of a raster with georeference, mask and confidence are GeoTIFF. Every file is written
    whole or not at all, a picture's mask last. Equal pictures, model and options give equal files.

    `out` is by default `run`/predictions. Pictures that were done there by the same model, with the same options and
    from the same file, are kept. Several processes that were started together share the pictures. `options` are
    `PredictOptions`.

    A picture that cannot be read or predicted is left out, with the reason in what is returned. Raises ValueError where
    `run` holds no model or `what` names no picture, where two pictures have one NAME or a file would be written over a
    picture, and where no picture at all can be predicted.
    """
    run, out = Path(run), None if out is None else Path(out)
    asked = PredictOptions(**options)
    where = pick_device(device)
    model = (load_model(run) if model is None else model).to(where)
    model.windows(asked)  # a mistake is told before the first picture
    out = out_folder(run, out)
    paths = find_pictures(what, out)
    check_out(out, paths)
    with process_group(where):
        work = _Work(model, asked, out, paths)
        with Progress("predict", len(work.tasks), console=console) as bar:
            work.run(bar)
        shared = gathered((work.failed, work.kept), patience=LONGEST)
        failed = {path: reason for part, _ in shared for path, reason in part.items()}
        kept = sum(number for _, number in shared)
        if rank() == 0 and len(failed) < len(paths):
            records = work.done.read().records
            there = [(name, records[name]) for name, path in paths.items() if path not in failed]
            write_areas(out / AREAS, there, model.classes)
            if asked.overlay != "none":
                write_png(draw_legend(model.classes, work.writer.drawn), out / LEGEND)
    failed = {path: failed[path] for path in paths.values() if path in failed}
    if len(failed) == len(paths):
        none = "" if len(paths) == 1 else f"none of the {len(paths)} pictures in {what} can be predicted: "
        raise ValueError(none + next(iter(failed.values())))
    return Predicted(len(paths) - len(failed), failed, out, kept)


class _Work:
    """One process's share of the pictures."""

    def __init__(self, model: Model, asked: PredictOptions, out: Path, paths: dict[str, Path]) -> None:
        self.model, self.asked, self.out = model, asked, out
        self.tasks = shares(paths, rank(), world_size())
        self.done = Done(out, model.sha256, asked, model.classes, model.colors)
        self.writer = Writer(out, asked, model.colors, draw_colors(model.classes, model.colors))
        self.failed: dict[Path, str] = {}
        self.kept = self.finished = 0
        self.said: set[str] = set()

    def run(self, bar: Progress) -> None:
        """Read, predict and write, each while the others go on."""
        self.bar = bar
        if self.done.is_of_another:
            self.say(f"the predictions in {self.out} are of another model or of other options: they are made again")
        self.done.read()
        if self.done.earlier:
            self.say(
                f"{len(self.done.earlier)} predictions in {self.out} are of an earlier version of semiseg, which did "
                "not note where their pictures were: they are made again"
            )
        at_once = AT_ONCE[self.model.device.type]
        self.reading = Reading(self.tasks, self.done.has, at_once, self.model.bands)
        with self.reading.groups() as groups, Writing(lambda record: self.done.add(rank(), record)) as self.writing:
            for group in groups:
                self.failed |= group.failed
                self.kept += len(group.tasks) if group.number < 0 else 0
                self._step(len(group.tasks) - len(group.pictures))
                if group.pictures:
                    self._predict(group.pictures)
        if self.kept:
            self.say(f"{self.kept} pictures were done before, by this model with these options, and are kept")

    def say(self, text: str) -> None:
        """Once, by the first process."""
        if rank() == 0 and text not in self.said:
            self.bar.say(text)
        self.said.add(text)

    def _step(self, pictures: int, note: str = "") -> None:
        self.finished += pictures
        if rank() == 0 and (pictures or note):
            self.bar.step(self.finished, {}, note)

    def _predict(self, pictures: list[Picture]) -> None:
        """Predict pictures of one size and hand them on; where they fail together, each by itself."""
        try:
            labels, confidences = self._maps(pictures)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # torch's: too large or small a picture
            for picture in pictures if len(pictures) > 1 else ():
                self._predict([picture])
            if len(pictures) == 1:
                self.failed[pictures[0].path] = reason(error, pictures[0].path)
                self.reading.give_back(pictures[0])
                self._step(1)
            return
        for picture, label, confidence in zip(pictures, labels, confidences, strict=True):
            self.writing.put(partial(self._write, picture, label, confidence))
            self._step(1)

    def _write(self, picture: Picture, label: Pixels, confidence: Pixels) -> dict[str, Any]:
        try:
            self.done.start(rank())
            self.done.forget(rank(), picture.name)
            return self.writer.write(picture.name, picture.path, picture.raster, label, confidence)
        finally:
            self.reading.give_back(picture)

    @torch.inference_mode()
    def _maps(self, pictures: list[Picture]) -> tuple[list[Pixels], list[Pixels]]:
        """Classes and confidences (0 to 255) of each picture, (H, W) uint8."""
        height, width = pictures[0].raster.height, pictures[0].raster.width
        options = self.model.windows(self.asked, (height, width))
        if options.protocol == "slide" and self.asked.window is None and options is not self.model.evaluation:
            self.say(
                f"pictures of more than {LARGEST_WHOLE:,} pixels at the model's scale are predicted in windows of "
                f"{WINDOW} pixels, {STRIDE} apart and blended smoothly; the run was scored on whole pictures"
            )
        labels, confidences = ([_empty(height, width, self.out) for _ in pictures] for _ in range(2))
        for piece in self.model.pieces([picture.raster for picture in pictures], self.asked):
            label, confidence = labelled(next(iter(piece.logits.values())))
            shade = (255 * confidence).round_().byte()
            for maps, made in ((labels, label.cpu().numpy()), (confidences, shade.cpu().numpy())):
                for number, map_ in enumerate(maps):
                    map_[piece.rows, piece.columns] = made[number]
            if height * width > MANY:
                share = (piece.rows.start * width + (piece.rows.stop - piece.rows.start) * piece.columns.stop) / height
                self._step(0, f"{pictures[0].name} {share / width:.0%}")
        return labels, confidences


def _empty(height: int, width: int, out: Path) -> Pixels:
    """A map to write into; of more pixels than Pillow opens, in a file that the system may move out of memory."""
    if height * width <= LARGEST_OVERLAY:
        return np.empty((height, width), np.uint8)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as file:
        return np.memmap(file, np.uint8, "w+", shape=(height, width))
