"""A trained run on new pictures: masks to work with, overlays to look at, confidences to doubt by."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from semiseg.data.dataset import Color, Pixels
from semiseg.data.images import read_image
from semiseg.evaluation.model import load_model
from semiseg.evaluation.pictures import CONFIDENCE, MASKS, OVERLAYS, check_out, find_images
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.files import write_atomically
from semiseg.runtime.progress import Progress

OVERLAY = 0.5  # weight of the mask in an overlay
LONGEST_JPEG = 65_500  # pixels of a side that libjpeg takes


@dataclass(frozen=True)
class Predicted:
    """What became of the pictures."""

    count: int
    """Of pictures with all their files."""
    failed: dict[Path, str] = field(default_factory=dict)
    """The others, each with a sentence that names it and the reason."""


def predict_images(
    run: Path,
    images: Path,
    out: Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    console: Console | None = None,
) -> Predicted:
    """Segment a picture, or every picture below a folder, with the model in `run`/model.

    Writes, at each picture's own size, `out`/masks/NAME.png (class indices with the classes' colours as palette),
    `out`/overlays/NAME.jpg (the mask laid over the picture; NAME.png where a side is too long for JPEG) and
    `out`/confidence/NAME.png (0 to 255 for 0 to 1), where NAME is the path below `images` without its suffix. Every
    file is written whole or not at all, the mask last. Equal pictures and model give equal files.

    A picture that cannot be read or predicted is left out, with the reason in what is returned. `window` and `stride`:
    as in `Model.predict`. Raises ValueError where `run` holds no model or `images` no picture, where two pictures have
    one NAME or a file would be written over a picture, and where no picture at all can be predicted.
    """
    model = load_model(run / "model").to(pick_device("auto"))
    model.windows(window, stride)  # a mistake is told before the first picture
    paths = find_images(images, out)
    check_out(out, paths)
    failed: dict[Path, str] = {}
    with Progress("predict", len(paths), console=console) as bar:
        for done, (name, path) in enumerate(paths.items(), 1):
            try:
                picture = read_image(_regular(path))
                label, confidence = model.predict(picture, window=window, stride=stride)
            except (ValueError, OSError, MemoryError, RuntimeError) as error:  # torch's: too large or small a picture
                reason = str(error).partition("\n")[0] or type(error).__name__
                failed[path] = reason if str(path) in reason else f"{path}: {reason}"
            else:
                _write(out, name, picture, label, (255 * confidence).round().astype(np.uint8), model.colors)
            bar.step(done, {})
    if len(failed) == len(paths):
        none = "" if len(paths) == 1 else f"none of the {len(paths)} pictures in {images} can be predicted: "
        raise ValueError(none + next(iter(failed.values())))
    return Predicted(len(paths) - len(failed), failed)


def _regular(path: Path) -> Path:
    """`path`, unless it is a pipe or a device, from which one would read for ever, or a link to nothing."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; expected a picture")
    return path


def colored(label: Pixels, colors: tuple[Color, ...]) -> Pixels:
    """Class indices (H, W) in their colours, (H, W, 3) uint8; what is no class (IGNORE) is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table[label]


def _write(out: Path, name: str, picture: Pixels, label: Pixels, confidence: Pixels, colors: tuple[Color, ...]) -> None:
    mask = Image.fromarray(label)
    mask.putpalette(bytes(np.array(colors, np.uint8)))  # turns the grey picture into one with a palette
    blend = ((1 - OVERLAY) * picture + OVERLAY * colored(label, colors)).round().astype(np.uint8)
    short = max(label.shape) <= LONGEST_JPEG
    _save(Image.fromarray(confidence), out / CONFIDENCE / f"{name}.png")
    if short:
        _save(Image.fromarray(blend), out / OVERLAYS / f"{name}.jpg", quality=90)
    else:
        _save(Image.fromarray(blend), out / OVERLAYS / f"{name}.png")
    _save(mask, out / MASKS / f"{name}.png")


def _save(picture: Image.Image, path: Path, **options: int) -> None:
    """In memory first: a decoder that writes into a file itself hides why the disk does not take it."""
    encoded = BytesIO()
    picture.save(encoded, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))
