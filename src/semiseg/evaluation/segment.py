"""A trained run on new pictures: masks to work with, overlays to look at, confidences to doubt by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from semiseg.data.dataset import Color, Pixels
from semiseg.data.images import IMAGE_SUFFIXES, read_image
from semiseg.evaluation.model import load_model
from semiseg.runtime.distributed import pick_device
from semiseg.runtime.progress import Progress

OVERLAY = 0.5  # weight of the mask in an overlay
MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"


def predict_images(
    run: Path,
    images: Path,
    out: Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    console: Console | None = None,
) -> int:
    """Segment a picture, or every picture below a folder, with the model in `run`/model; returns how many.

    Writes, at each picture's own size, `out`/masks/NAME.png (class indices with the classes' colours as palette),
    `out`/overlays/NAME.jpg (the mask laid over the picture) and `out`/confidence/NAME.png (0 to 255 for 0 to 1), where
    NAME is the path below `images` without its suffix. Equal pictures and model give equal files.

    `window` and `stride`: as in `Model.predict`. Raises ValueError where `run` holds no model, `images` no picture, two
    pictures have one NAME, or a picture cannot be read.
    """
    model = load_model(run / "model").to(pick_device("auto"))
    model.windows(window, stride)  # a mistake is told before the first picture
    paths = find_images(images, out)
    with Progress("predict", len(paths), console=console) as bar:
        for done, (name, path) in enumerate(paths.items(), 1):
            picture = read_image(path)
            label, confidence = model.predict(picture, window=window, stride=stride)
            _write(out, name, picture, label, (255 * confidence).round().astype(np.uint8), model.colors)
            bar.step(done, {})
    return len(paths)


def find_images(images: Path, out: Path | None = None) -> dict[str, Path]:
    """NAME -> file of every picture at or below `images`, sorted by name; what lies in `out` is not taken for input."""
    if images.is_file():
        return {images.stem: images}
    found: dict[str, Path] = {}
    for path in sorted(_pictures(images, out)):
        name = path.relative_to(images).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{found[name]} and {path} differ in their suffix only and would both become {name}.png: rename one"
            )
        found[name] = path
    if not found:
        what = "has no pictures in it" if images.is_dir() else "does not exist"
        raise ValueError(f"{images} {what}; expected a picture, or a folder with some, of {', '.join(IMAGE_SUFFIXES)}")
    return found


def _pictures(folder: Path, out: Path | None) -> Iterator[Path]:
    written = () if out is None else [(out / part).resolve() for part in (MASKS, OVERLAYS, CONFIDENCE)]
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        ours = any(path.resolve().is_relative_to(part) for part in written)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not hidden and not ours:
            yield path


def colored(label: Pixels, colors: tuple[Color, ...]) -> Pixels:
    """Class indices (H, W) in their colours, (H, W, 3) uint8; what is no class (IGNORE) is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table[label]


def _write(out: Path, name: str, picture: Pixels, label: Pixels, confidence: Pixels, colors: tuple[Color, ...]) -> None:
    mask = Image.fromarray(label)
    mask.putpalette(bytes(np.array(colors, np.uint8)))  # turns the grey picture into one with a palette
    blend = (1 - OVERLAY) * picture + OVERLAY * colored(label, colors)
    mask.save(_made(out / MASKS / f"{name}.png"))
    Image.fromarray(blend.round().astype(np.uint8)).save(_made(out / OVERLAYS / f"{name}.jpg"), quality=90)
    Image.fromarray(confidence).save(_made(out / CONFIDENCE / f"{name}.png"))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
