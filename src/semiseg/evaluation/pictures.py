"""Which pictures are to be predicted, and under which names."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.passed_over import is_hidden, may_be_picture, other_pictures

log = logging.getLogger(__name__)

MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"


def find_images(images: Path, out: Path | None = None) -> dict[str, Path]:
    """NAME -> file of every picture at or below `images`, sorted by name; what lies in `out` is not taken for input.

    What is hidden is passed over, and linked folders are followed. Files that may be pictures of other formats are
    warned of. Raises ValueError where there is no picture, where two have one NAME, where a linked folder leads back,
    and where a folder cannot be read.
    """
    if images.is_file():
        return {images.stem: images}
    found: dict[str, Path] = {}
    others: list[str] = []
    for path in sorted(_files(images, out)):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            others += [path.name] if may_be_picture(path.name) else []
            continue
        name = path.relative_to(images).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{found[name]} and {path} differ in their suffix only and would both become {name}.png: rename one"
            )
        found[name] = path
    left_out = other_pictures(sorted(others), images) if others else ""
    if not found:
        what = "has no pictures in it" if images.is_dir() else "does not exist"
        expected = f"expected a picture, or a folder with some, of {', '.join(IMAGE_SUFFIXES)}"
        raise ValueError(f"{images} {what}; {expected}{left_out and '. '}{left_out}")
    if others:
        log.warning("%s", left_out)
    return found


def _files(folder: Path, out: Path | None) -> Iterator[Path]:
    written = [] if out is None else [out / part for part in (MASKS, OVERLAYS, CONFIDENCE)]
    passed_over = {_identity(path) for path in written if path.is_dir()}
    waiting = [(folder, frozenset[tuple[int, int]]())] if folder.is_dir() else []
    while waiting:  # no recursion, which deep folders would end; with each folder the ones that it lies in
        here, above = waiting.pop()
        try:
            identity = _identity(here)
            paths = [] if identity in passed_over else [here / entry for entry in sorted(os.listdir(here))]
            found = [(path, path.is_dir()) for path in paths if not is_hidden(path.name)]
        except OSError as error:
            raise ValueError(
                f"the folder {here} cannot be read ({error.strerror}): mend that, or move it away"
            ) from error
        if identity in above:
            raise ValueError(f"{here} is a folder that it lies in itself, by a link: remove the link")
        waiting += [(path, above | {identity}) for path, is_folder in found if is_folder]
        yield from (path for path, is_folder in found if not is_folder)


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder has in common with every link to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def check_out(out: Path, paths: dict[str, Path]) -> None:
    """Raise ValueError where predictions would be written over a picture to predict, or over masks of other making."""
    masks = out / MASKS
    if masks.is_dir() and any(masks.iterdir()) and not (out / CONFIDENCE).is_dir():
        raise ValueError(
            f"{masks} holds files that `semiseg predict` did not write ({out / CONFIDENCE} is not beside it), such as "
            "the masks of a dataset: choose another --out"
        )
    inputs = {place for path in paths.values() for place in (path.absolute(), path.resolve())}
    for name, path in paths.items():
        for target in outputs(out, name):
            if target.parent.resolve() / target.name in inputs:
                raise ValueError(
                    f"the prediction of {path} would be written over the picture {target}: choose another --out"
                )


def outputs(out: Path, name: str) -> list[Path]:
    """Where the confidence, the overlay (as PNG or JPEG) and the mask of the picture `name` go; the mask is last."""
    places = ((CONFIDENCE, ".png"), (OVERLAYS, ".png"), (OVERLAYS, ".jpg"), (MASKS, ".png"))
    return [out / part / f"{name}{ending}" for part, ending in places]
