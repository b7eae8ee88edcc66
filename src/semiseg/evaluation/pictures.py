"""Which pictures are to be predicted, and under which names."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.passed_over import (
    is_hidden,
    may_be_picture,
    other_pictures,
    passed_over_in_words,
    refuse_run,
    refuse_written,
    written_beside,
    written_by,
)
from semiseg.data.texts import text_lines
from semiseg.evaluation.done import PREDICT

log = logging.getLogger(__name__)

MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"
LEGEND, AREAS = "legend.png", "areas.csv"


def out_folder(run: Path, out: Path | None) -> Path:
    """Where predictions go: beside the run's other files, unless `out` says otherwise.

    `out` may name the folder of the masks itself: masks/ stands beside overlays/, never in another masks/.
    """
    if out is None:
        return run / "predictions"
    return out.parent if out.name == MASKS else out


def find_pictures(what: str | os.PathLike[str], out: Path | None = None) -> dict[str, Path]:
    """NAME -> file of the pictures that `what` names: a file, a folder, a pattern such as `field/*.jpg`, or a list.

    A list is a text file (.txt) of paths, one a line, relative to its own folder. NAME is the path without its suffix,
    below the folder, below the pattern's part without signs, or below the folder that all pictures of a list lie in.
    Raises ValueError as `find_images` does.
    """
    path = Path(what)
    if path.suffix.lower() == ".txt" and path.is_file():
        return _of_list(path)
    if os.path.lexists(path) or not glob.has_magic(str(what)):
        return find_images(path, out)
    parts = path.parts
    root = Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])
    written = _written(out)
    found: dict[str, Path] = {}
    passed: list[tuple[str, str]] = []
    for match in map(Path, sorted(glob.glob(str(what), recursive=True))):
        command = written_by(match)
        if command is not None:
            passed.append((str(match), command))
            continue
        several = _files(match, out, passed) if match.is_dir() else [match]
        for each in several:
            own = any(_identity(above) in written for above in each.parents)
            if each.suffix.lower() in IMAGE_SUFFIXES and not own:
                _add(found, each.relative_to(root), each)
    _warn_of(passed)
    if not found:
        raise ValueError(f"no picture is named as {what} says; expected names that end in {', '.join(IMAGE_SUFFIXES)}")
    return dict(sorted(found.items()))


def _of_list(path: Path) -> dict[str, Path]:
    paths = [path.parent / line.strip() for line in text_lines(path) if line.strip()]
    if not paths:
        raise ValueError(f"{path} names no picture; expected a path on each line, relative to {path.parent}")
    whole = [Path(os.path.normpath(each.absolute())) for each in paths]
    root = Path(os.path.commonpath([each.parent for each in whole]))
    found: dict[str, Path] = {}
    for given, each in dict(zip(whole, paths, strict=True)).items():  # a picture that is named twice counts once
        _add(found, given.relative_to(root), each)
    return found


def _add(found: dict[str, Path], below: Path, path: Path) -> None:
    name = below.with_suffix("").as_posix()
    if found.setdefault(name, path) != path:
        raise ValueError(
            f"{found[name]} and {path} differ in their suffix only and would both become {name}.png: rename one"
        )


def find_images(images: Path, out: Path | None = None) -> dict[str, Path]:
    """NAME -> file of every picture at or below `images`, sorted by name; what lies in `out` is not taken for input.

    What is hidden is passed over, and linked folders are followed. What this program wrote is passed over with a
    warning, and files that may be pictures of other formats are warned of. Raises ValueError where there is no picture,
    where this program wrote `images`, where two have one NAME, where a linked folder leads back,
    and where a folder cannot be read.
    """
    refuse_written(images)
    if images.is_file():
        return {images.stem: images}
    found: dict[str, Path] = {}
    others: list[str] = []
    passed: list[tuple[str, str]] = []
    for path in sorted(_files(images, out, passed)):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            others += [path.name] if may_be_picture(path.name) else []
            continue
        _add(found, path.relative_to(images), path)
    left_out = other_pictures(sorted(others), images) if others else ""
    _warn_of(passed)
    if not found:
        refuse_run(images)
        what = "has no pictures in it" if images.is_dir() else "does not exist"
        expected = f"expected a picture, or a folder with some, of {', '.join(IMAGE_SUFFIXES)}"
        raise ValueError(f"{images} {what}; {expected}{left_out and '. '}{left_out}")
    if others:
        log.warning("%s", left_out)
    return found


def _written(out: Path | None) -> set[tuple[int, int]]:
    folders = [] if out is None else [out / part for part in (MASKS, OVERLAYS, CONFIDENCE)]
    return {_identity(path) for path in folders if path.is_dir()}


def _warn_of(passed: list[tuple[str, str]]) -> None:
    if passed:
        log.warning("%s", passed_over_in_words(passed))


def _files(folder: Path, out: Path | None, passed: list[tuple[str, str]]) -> Iterator[Path]:
    """The files below `folder`; what this program wrote elsewhere than in `out` is added to `passed`."""
    passed_over = _written(out)
    own = None if out is None or not out.is_dir() else _identity(out)
    waiting = [(folder, frozenset[tuple[int, int]]())] if folder.is_dir() else []
    while waiting:  # no recursion, which deep folders would end; with each folder the ones that it lies in
        here, above = waiting.pop()
        try:
            identity = _identity(here)
            paths = [] if identity in passed_over else [here / entry for entry in sorted(os.listdir(here))]
            ours = written_beside(path.name for path in paths)
            passed += [(str(path), ours[path.name]) for path in paths if path.name in ours and identity != own]
            paths = [path for path in paths if path.name not in ours]
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
    ours = (out / PREDICT).is_file() or (out / CONFIDENCE).is_dir()  # earlier versions had no predict.json
    if masks.is_dir() and any(masks.iterdir()) and not ours:
        raise ValueError(
            f"{masks} holds files that `semiseg predict` did not write ({out / PREDICT} is not beside it), such as "
            "the masks of a dataset: choose another --out"
        )
    for name in (LEGEND, AREAS):
        if os.path.lexists(out / name) and not (out / PREDICT).is_file():
            raise ValueError(f"{out / name} was not written by `semiseg predict`, which would: choose another --out")
    inputs = {place for path in paths.values() for place in (path.absolute(), path.resolve())}
    for name, path in paths.items():
        for target in outputs(out, name):
            if target.parent.resolve() / target.name in inputs:
                raise ValueError(
                    f"the prediction of {path} would be written over the picture {target}: choose another --out"
                )


def outputs(out: Path, name: str) -> list[Path]:
    """Where the confidence, the overlay (as PNG or JPEG) and the mask of the picture `name` go; the mask is last.

    Of a picture with georeference, confidence and mask are GeoTIFF.
    """
    places = ((CONFIDENCE, ".png"), (CONFIDENCE, ".tif"), (OVERLAYS, ".png"), (OVERLAYS, ".jpg"))
    return [out / part / f"{name}{ending}" for part, ending in (*places, (MASKS, ".png"), (MASKS, ".tif"))]
