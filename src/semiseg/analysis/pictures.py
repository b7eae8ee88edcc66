"""Images on which the last run gains most on the first, and the scores that chose them (Fig. 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console

from semiseg.analysis.boxes import Box, difference_boxes
from semiseg.analysis.pages import write_page
from semiseg.analysis.scores import BAND, SMALLEST
from semiseg.analysis.subjects import Subjects, read_subjects
from semiseg.analysis.tally import Tally, tally
from semiseg.config.checks import Count, check_value, require
from semiseg.config.fields import nearest
from semiseg.data.bands import as_photograph
from semiseg.data.dataset import Color, ImageSet, Pixels
from semiseg.evaluation.colors import colored
from semiseg.report.sheet import beside, fitted, legend, paragraph, save, strip
from semiseg.report.texts import figure, headed, markdown_table
from semiseg.types import IGNORE

NAME = "pictures"
RULES = {"boundary": "boundary IoU", "consistency": "consistency within objects"}
"""Rule -> the score whose gain chooses the images."""
WIDTH = 280  # pixels of a cell
GAINED, LOST = (0, 158, 115), (213, 94, 0)  # of boxes; green and vermilion that the colour-blind tell apart


def picture(
    runs: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    rule: str = "boundary",
    count: int = 6,
    subset: str = "val",
    checkpoint: str = "last",
    console: Console | None = None,
) -> dict[str, Any]:
    """Score the runs at boundaries and within objects, and draw images; writes `out`/pictures-RULE.png, .json and .md.

    Args:
        runs: run folders; gains compare the last with the first. Of a single run, its lowest scores are drawn.
        out: folder to write into.
        root, labels, subset, checkpoint: as for `read_subjects`.
        rule: whose gain chooses the images, `boundary` or `consistency`.
        count: images to draw.
        console: where progress goes.

    Returns the JSON file's content: `rows` has {run, label, boundary_iou, consistency} of each run over all images, in
    per cent; `images` the drawn images. Raises ValueError for another rule, and as `read_subjects`.
    """
    require(rule in RULES, f"there is no rule {rule!r}; {nearest(rule, RULES)}")
    check_value("count", count, Count)
    subjects = read_subjects(runs, labels, root=root, subset=subset, checkpoint=checkpoint)
    tallies, device = {}, torch.device("cpu")
    for label, experiment in subjects.experiments():
        device = experiment.device
        tallies[label] = tally(experiment, subjects.images, label, console)
    chosen = choose(list(tallies.values()), rule, count)
    asked = {"rule": rule, "count": count}
    document = {
        **subjects.document(NAME, out, device, **asked),
        **asked,
        "rows": [
            {"run": str(run.folder), "label": label, **each.to_dict()}
            for run, (label, each) in zip(subjects.runs, tallies.items(), strict=True)
        ],
        "images": [
            {
                "name": subjects.images.names[index],
                "scores": {label: 100 * float(scores(each, rule)[index]) for label, each in tallies.items()},
                "right": {label: 100 * float(each.right()[index]) for label, each in tallies.items()},
            }
            for index in chosen
        ],
    }
    save(_sheet(subjects, tallies, chosen, rule), out / f"{NAME}-{rule}.png")
    write_page(out, f"{NAME}-{rule}", "Boundaries, and consistency within objects", document, _markdown(document))
    return document


def choose(tallies: Sequence[Tally], rule: str, count: int) -> list[int]:
    """At most `count` images with the largest gain of the last run over the first; of one run, the lowest scores.

    Images without a score, as where nothing is labelled, are left out; by `consistency`, so are images whose objects
    the last run has less right than the first.
    """
    first, last = (scores(each, rule) for each in (tallies[0], tallies[-1]))
    gain = last - first if len(tallies) > 1 else -last
    if rule == "consistency":  # to get an object wrong throughout is no gain that anyone wants to see
        gain = np.where(tallies[-1].right() >= tallies[0].right(), gain, np.nan)
    return [int(index) for index in np.argsort(-gain, kind="stable") if np.isfinite(gain[index])][:count]


def scores(found: Tally, rule: str) -> np.ndarray:
    """The score that a rule goes by, of each image. (N,)"""
    return found.boundary() if rule == "boundary" else found.consistency()


def _sheet(subjects: Subjects, tallies: dict[str, Tally], chosen: Sequence[int], rule: str) -> list[Pixels]:
    """A row for each image: input, truth, predictions, with the scores below."""
    strips = [strip(["input", "truth", *tallies], WIDTH, 17)]
    shown: set[int] = set()
    for index in chosen:
        truth = subjects.images.mask(index)
        predictions = [each.prediction(index) for each in tallies.values()]
        boxes = difference_boxes(predictions[0], predictions[-1], truth) if len(predictions) > 1 else []
        strips.append(_row(subjects.images, index, [truth, *predictions], boxes, subjects.dataset.colors))
        notes = [f"{100 * scores(each, rule)[index]:.1f} %" for each in tallies.values()]
        if rule == "consistency":
            rights = [each.right()[index] for each in tallies.values()]
            notes = [f"{note}, {100 * share:.1f} % right" for note, share in zip(notes, rights, strict=True)]
        strips.append(strip([subjects.images.names[index], RULES[rule], *notes], WIDTH, 14))
        shown |= set(np.unique(np.stack([truth, *predictions])).tolist())
    return [*strips, *_below(subjects, tallies, shown, rule, strips[0].shape[1])]


def _below(subjects: Subjects, tallies: dict[str, Tally], shown: set[int], rule: str, width: int) -> list[Pixels]:
    """The classes' colours, and words on the choice of the images and on the boxes."""
    dataset = subjects.dataset
    entries = [(name, dataset.colors[at]) for at, name in enumerate(dataset.classes) if at in shown]
    if IGNORE in shown:
        entries.append(("no label", (0, 0, 0)))
    words = f"Chosen among {len(subjects.images)} {subjects.subset} images: {chosen_words(list(tallies), rule)}."
    if len(tallies) > 1:
        first, *_, last = tallies
        words += f" Boxes: where {first} and {last} differ most; green where {last} is right, orange where {first} is."
    return [legend(entries, width, 15), paragraph(words, width, 14)]


def chosen_words(labels: Sequence[str], rule: str) -> str:
    """The rule of `choose`."""
    if len(labels) == 1:
        return f"the lowest {RULES[rule]}"
    words = f"the largest gain in {RULES[rule]} of {labels[-1]} over {labels[0]}"
    return words if rule == "boundary" else f"{words}, among images whose objects are no less right"


def _row(
    images: ImageSet, index: int, labels: Sequence[Pixels], boxes: Sequence[Box], colors: tuple[Color, ...]
) -> Pixels:
    photograph = as_photograph(images.image(index))
    how = cv2.INTER_AREA if photograph.shape[1] > WIDTH else cv2.INTER_LINEAR
    cells = [fitted(photograph, WIDTH, how)]
    cells += [fitted(colored(label, colors), WIDTH, cv2.INTER_NEAREST_EXACT) for label in labels]
    scale = WIDTH / photograph.shape[1]
    return beside([_boxed(cell, boxes, scale) for cell in cells])


def _boxed(cell: Pixels, boxes: Sequence[Box], scale: float) -> Pixels:
    """The cell with the boxes of an image, drawn at `scale`: a line in their colour between two white ones."""
    image = Image.fromarray(cell)
    draw = ImageDraw.Draw(image)
    for box in boxes:
        corners = [round(scale * side) for side in (box.left, box.top, box.right, box.bottom)]
        outer = [corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1]
        draw.rectangle(outer, outline="white", width=5)
        draw.rectangle(corners, outline=GAINED if box.gain else LOST, width=3)
    return np.asarray(image)


def _markdown(document: dict[str, Any]) -> list[str]:
    rows, classes = document["rows"], document["classes"]
    lines = [_ABOUT, ""]
    overall = [[row["label"], *(figure(row[key][value], ".2f") for key, value in _OVERALL.values())] for row in rows]
    counts = f"{rows[0]['boundary_iou']['images']} images, {rows[0]['consistency']['objects']} objects"
    lines += headed(f"All {counts}", markdown_table(["run", *_OVERALL], overall))
    for key, value, unit, title in _BY_CLASS:
        cells = [
            [name, str(rows[0][key]["classes"][name][unit])]
            + [figure(row[key]["classes"][name][value], ".2f") for row in rows]
            for name in classes
        ]
        lines += headed(title, markdown_table(["class", unit, *(row["label"] for row in rows)], cells))
    labels = [row["label"] for row in rows]
    drawn = [[each["name"], *(figure(each["scores"][label], ".2f") for label in labels)] for each in document["images"]]
    title = f"Drawn in {NAME}-{document['rule']}.png: {chosen_words(labels, document['rule'])}"
    return lines + headed(title, markdown_table(["image", *labels], drawn))


_OVERALL = {
    "boundary mIoU": ("boundary_iou", "mean"),
    "boundary IoU, mean of images": ("boundary_iou", "mean_of_images"),
    "consistency": ("consistency", "mean"),
    "right": ("consistency", "right"),
    "consistency, mean of classes": ("consistency", "mean_of_classes"),
}
"""Column of the table over all images -> the figure's place in a row."""
_BY_CLASS = (
    ("boundary_iou", "iou", "images", "Boundary IoU by class"),
    ("consistency", "mean", "objects", "Consistency within objects by class"),
    ("consistency", "right", "objects", "Right pixels of objects by class"),
)  # fmt: skip
_ABOUT = (
    "In per cent. Boundary IoU (Cheng et al. 2021) is the IoU of two bands, the pixels of the true and of the "
    f"predicted mask of a class that are no farther from its edge than {100 * BAND:g} % of the image's diagonal; "
    "boundary mIoU adds pixels up over the images and takes the mean of the classes; for the mean of images, each "
    "image has the mean of the classes that it shows. Consistency is the chance that two pixels of an object get the "
    f"same class, whichever; an object is a connected region of the truth of at least {SMALLEST} pixels, and the mean "
    "is over objects. Right: the share of an object's pixels that get its class, mean over objects."
)
