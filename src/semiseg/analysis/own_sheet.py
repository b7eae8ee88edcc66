"""The worst pictures of an evaluation, as a sheet and on a page: photograph, truth, prediction and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from semiseg.analysis.own_scores import MEANS, WORDS
from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, ImageSet, Pixels
from semiseg.evaluation.colors import draw_colors
from semiseg.evaluation.overlay import draw_overlay_
from semiseg.evaluation.windows import center_crop
from semiseg.report.page import template
from semiseg.report.pictures import Picture
from semiseg.report.sheet import beside, fitted, legend, paragraph, save, small, strip
from semiseg.report.texts import figure, origin
from semiseg.runtime.files import write_atomically
from semiseg.types import IGNORE

WRONG: Color = (213, 94, 0)  # vermilion, which the colour-blind tell from grey
UNKNOWN: Color = (0, 0, 0)
Drawn = tuple[Color | None, ...]
"""The colour of each class; None for a background, which is left as it is."""
TINT = 0.35  # weight of the classes' colours over the photograph
WIDTH = 280  # pixels of a cell of the sheet
FEW = 10  # images below which an interval says little


@dataclass(frozen=True)
class Shown:
    """One image: its scores in [0, 1] and its four pictures."""

    name: str
    scores: Mapping[str, float]
    photograph: Pixels  # (H, W, 3), as are the others
    truth: Pixels  # (H, W) uint8
    prediction: Pixels  # (H, W) uint8

    @classmethod
    def of(
        cls, images: ImageSet, index: int, prediction: Pixels, scores: Mapping[str, float], crop: int | bool
    ) -> Shown:
        """Image `index`; with `crop`, the middle of so many pixels a side, which alone is scored."""
        photograph, truth = as_photograph(images.image(index)), images.mask(index)
        if crop:
            photograph = center_crop(torch.from_numpy(photograph.copy()).permute(2, 0, 1), crop, 0)
            photograph = photograph.permute(1, 2, 0).contiguous().numpy()
            truth = center_crop(torch.from_numpy(truth.copy()), crop, IGNORE).numpy()
        near = cv2.INTER_NEAREST_EXACT
        return cls(
            images.names[index], scores, small(photograph, cv2.INTER_AREA), small(truth, near), small(prediction, near)
        )

    def pictures(self, drawn: Drawn) -> list[Picture]:
        """The photograph, truth and prediction in the classes' colours over it, and the pixels that are wrong."""
        figures = ", ".join(f"{WORDS[name]} {figure(100 * self.scores[name])}" for name in MEANS)
        cells = (
            ("photograph", self.photograph, "", f"Photograph {self.name}."),
            ("truth", _over(self.photograph, self.truth, drawn), "", f"True classes of {self.name}."),
            (
                "prediction",
                _over(self.photograph, self.prediction, drawn),
                figures,
                f"Predicted classes: {figures}.",
            ),
            ("errors", self._errors(), f"{100 * self._wrong():.1f} % wrong", f"Wrong pixels of {self.name} in orange."),
        )
        return [Picture(pixels, title, note, alt) for title, pixels, note, alt in cells]

    def _errors(self) -> Pixels:
        """The photograph in pale grey, wrong pixels in one colour and pixels without a label in another."""
        grey = cv2.cvtColor(self.photograph, cv2.COLOR_RGB2GRAY)
        pale = np.repeat((130 + 0.45 * grey).astype(np.uint8)[..., None], 3, axis=2)
        unknown = self.truth == IGNORE
        pale[(self.truth != self.prediction) & ~unknown] = WRONG
        pale[unknown] = UNKNOWN
        return pale

    def _wrong(self) -> float:
        known = self.truth != IGNORE
        return float((self.truth != self.prediction)[known].mean()) if known.any() else 0.0


def _over(photograph: Pixels, label: Pixels, drawn: Drawn) -> Pixels:
    """Outlines and a tint of the classes over the photograph, which stays to be seen; no label is black."""
    made = photograph.copy()
    draw_overlay_(made, label, drawn, tint=TINT)
    made = np.ascontiguousarray(made[..., ::-1])  # it is left in BGR
    made[label == IGNORE] = UNKNOWN
    return made


def _entries(shown: Sequence[Shown], classes: Sequence[str], drawn: Drawn) -> list[tuple[str, Color]]:
    """Name and colour of the classes that are drawn in the pictures, and of what is wrong or without a label."""
    values = {int(value) for each in shown for label in (each.truth, each.prediction) for value in np.unique(label)}
    named = [(name, drawn[at]) for at, name in enumerate(classes) if at in values]
    return [*((name, color) for name, color in named if color), ("wrong", WRONG)] + [("no label", UNKNOWN)] * (
        IGNORE in values
    )


def write_sheet(out: Path, shown: Sequence[Shown], classes: tuple[str, ...], colors: tuple[Color, ...]) -> None:
    """The pictures as one PNG, a row for each image; none where no image has a label."""
    if not shown:
        return
    drawn = draw_colors(classes, colors)
    strips = [strip(["photograph", "truth", "prediction", "errors"], WIDTH, 17)]
    for each in shown:
        cells = each.pictures(drawn)
        strips.append(beside([fitted(cell.pixels, WIDTH, cv2.INTER_AREA) for cell in cells]))
        scores = [f"{WORDS[name]} {figure(100 * each.scores[name])}" for name in ("miou", "dice")]
        strips.append(strip([each.name, *scores, cells[-1].note], WIDTH, 14))
    width = strips[0].shape[1]
    words = "The images with the lowest mIoU, each image's taken over the classes that its mask shows."
    save([*strips, legend(_entries(shown, classes, drawn), width, 15), paragraph(words, width, 14)], out, colors=None)


def verdict(document: Mapping[str, Any]) -> str:
    """What came out, in a sentence: mIoU with its interval."""
    miou, count = document["scores"]["miou"], document["count"]
    words = f"{miou['value']:.1f} mIoU on {count} images" if count > 1 else f"{miou['value']:.1f} mIoU on one image"
    return words + (f", 95 % interval {figure(miou['low'])} to {figure(miou['high'])}" if count > 1 else "")


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know before they believe the figures."""
    found = []
    if document["count"] < FEW:
        only = "Only one image was" if document["count"] == 1 else f"Only {document['count']} images were"
        found.append(f"{only} scored: so few say little of others.")
    for count, one, several in (
        (len(document["failed"]), "file cannot be read and was", "files cannot be read and were"),
        (len(document["without_mask"]), "picture has no mask and was", "pictures have no mask and were"),
    ):
        if count:
            found.append(f"{count} {one if count == 1 else several} left out: see below.")
    absent = [name for name, each in document["scores"]["classes"].items() if not each["images"]]
    if absent:
        found.append(f"No mask shows {', '.join(absent)}: no score, and in no mean.")
    return found


def write_page(
    out: Path,
    document: Mapping[str, Any],
    shown: Sequence[Shown],
    classes: tuple[str, ...],
    colors: tuple[Color, ...],
) -> None:
    """The scores and the worst pictures on one page that needs no other file."""
    scores, drawn = document["scores"], draw_colors(classes, colors)
    head = ["", "value", "95 % interval over images"]
    means = [[WORDS[name], figure(scores[name]["value"]), _interval(scores[name])] for name in MEANS]
    by_class = [
        [name, str(each["images"])]
        + [
            cell
            for kind in ("iou", "dice", "boundary_f")
            for cell in (figure(each[kind]["value"]), _interval(each[kind]))
        ]
        for name, each in scores["classes"].items()
    ]
    text = template("own_page.html.jinja", Path(__file__).parent).render(
        title=f"Evaluation of {Path(document['run']).name or document['run']} on {document['images']}",
        verdict=verdict(document),
        notes=notes(document),
        head=head,
        means=means,
        by_class=by_class,
        rows=[(each.name, each.pictures(drawn)) for each in shown],
        legend=[(name, f"rgb{color}") for name, color in _entries(shown, classes, drawn)],
        tolerance=100 * document["tolerance"],
        failed=list(document["failed"].values()),
        without_mask=document["without_mask"],
        protocol=document["evaluation"]["protocol"],
        origin=[("command", document["command"]), *origin(document), ("date", document["date"])],
    )
    write_atomically(out, lambda file: file.write(text.encode(errors="backslashreplace")))


def _interval(cell: Mapping[str, float]) -> str:
    return f"{figure(cell['low'])} to {figure(cell['high'])}" if np.isfinite(cell["low"]) else "–"
