"""A look into every picture and mask of a folder: opened whole, in parallel, and remembered by size and times."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from semiseg.data.deep import look, read_values
from semiseg.data.doctor.measures import DETAIL, LOW, appearance, border_pixels, tiny_pixels
from semiseg.data.formats import orientation_of
from semiseg.data.images import decoded, opened, read_image
from semiseg.data.masks import stored_pixels
from semiseg.runtime.ahead import usable_cores
from semiseg.runtime.files import user_cache, write_atomically
from semiseg.runtime.progress import Progress
from semiseg.types import IGNORE

log = logging.getLogger(__name__)

_VERSION = 3  # of what is remembered
_KEPT = 64  # datasets of which the looks are kept
_AT_ONCE = 500  # files that wait for a thread
_QUIET = 1000  # files that are looked at without a progress line
MOST_VALUES = 300
"""Distinct values, or colours, of one mask that are kept."""
_MOST_OBJECTS = 32  # values of one mask whose objects are measured


@dataclass(frozen=True)
class ImageLook:
    """What one picture showed; where it cannot be read, `error` says why and the rest is as far as it is known."""

    error: str | None = None
    height: int = 0
    width: int = 0
    bands: int = 0
    dtype: str = "uint8"
    mode: str = ""
    orientation: int = 1
    alpha: bool = False  # some pixels are transparent
    content: str = ""  # digest of the file
    hash: int | None = None  # of what it looks like, 63 bits; None for a flat picture
    thumbnail: str = ""  # (8, 8) grey, base64
    detail: str = ""  # (16, 16), what tells it from other pictures of an even scene, base64

    @classmethod
    def at(cls, path: Path) -> ImageLook:
        """Open a picture whole."""
        return _look_at_image(path)

    def grey(self) -> NDArray[np.float32]:
        """The thumbnail, (8, 8), 0..255."""
        return np.frombuffer(base64.b64decode(self.thumbnail), np.uint8).reshape(LOW, LOW).astype(np.float32)

    def details(self) -> NDArray[np.float32]:
        """The detail, (16, 16); its product with another picture's, summed up, is their correlation, -1..1."""
        signed = np.frombuffer(base64.b64decode(self.detail), np.int8).reshape(DETAIL, DETAIL).astype(np.float32)
        return signed / max(float(np.linalg.norm(signed)), 1.0)


@dataclass(frozen=True)
class MaskLook:
    """What one mask holds, as its file has it."""

    error: str | None = None
    height: int = 0
    width: int = 0
    colored: bool = False  # the values are colours, red * 65536 + green * 256 + blue
    values: dict[int, int] = field(default_factory=dict)  # value -> pixels; the most frequent MOST_VALUES
    distinct: int = 0
    tiny: dict[int, int] = field(default_factory=dict)  # value -> pixels in objects smaller than TINY
    palette: dict[int, int] | None = None  # index that is used -> its colour, of a palette picture
    content: str = ""
    border: int = 0  # pixels of 255 that lie between others, as a border's do

    @classmethod
    def at(cls, path: Path) -> MaskLook:
        """Open a mask whole."""
        return _look_at_mask(path)

    @property
    def pixels(self) -> int:
        """Pixels in all."""
        return sum(self.values.values())


Look = TypeVar("Look", ImageLook, MaskLook)


def _look_at_image(path: Path) -> ImageLook:
    known: dict[str, Any] = {}
    content, transparent = None, False
    try:
        content = path.read_bytes() if path.is_file() else None
        with opened(path, content, strict=False) as (picture, stored):
            known = {"mode": picture.mode, "bands": len(picture.getbands())}
            if stored.bands > 1 or stored.bits > 8:
                known["bands"] = stored.bands - stored.alpha
            turned = picture.format != "PNG" or any(mark in content or b"" for mark in _TURNED) if content else False
            known["orientation"] = orientation_of(picture) if turned else 1
            if picture.mode in ("P", "RGBA", "LA", "PA", "CMYK"):  # as they are read
                known["bands"] = 1 if picture.mode == "LA" else 3
            transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            kind = "float" if stored.floating else "int" if stored.signed else "uint"
            known["dtype"] = f"{kind}{max(8, stored.bits)}"
        pixels = read_image(path, content)
    except ValueError as error:
        try:
            pixels = _deep_pixels(path, content, str(error))
        except ValueError as worse:
            return ImageLook(error=str(worse), **known)
        known |= {"bands": pixels.shape[2], "alpha": False}
    except OSError as error:
        return ImageLook(error=f"{path} could not be read ({error.strerror}). Look after the disk, then try again")
    if transparent:
        known["alpha"] = _is_transparent(path, content)
    known |= {"height": pixels.shape[0], "width": pixels.shape[1], "dtype": str(pixels.dtype)}
    code, *seen = appearance(pixels)
    thumbnail, detail = (base64.b64encode(part.tobytes()).decode() for part in seen)
    return ImageLook(**known, content=_digest(content or b""), hash=code, thumbnail=thumbnail, detail=detail)


def _deep_pixels(path: Path, content: bytes | None, why: str) -> NDArray[Any]:
    """The values (H, W, bands) of a picture that is no RGB of 8 bits, `why`. Raises ValueError where it is none."""
    try:
        plain = look(path).plain
    except ValueError:
        plain = True
    if plain:
        raise ValueError(why)
    return read_values(path, content)[0]


_TURNED = (b"eXIf", b"tiff:Orientation", b"Raw profile")  # marks in a PNG that may be turned


def _is_transparent(path: Path, content: bytes | None) -> bool:
    low, _ = decoded(path, content).picture.convert("RGBA").getchannel("A").getextrema()
    return isinstance(low, int) and low < 255


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _look_at_mask(path: Path) -> MaskLook:
    try:
        found = decoded(path)
        pixels = stored_pixels(found, f"mask {path}")
    except ValueError as error:
        return MaskLook(error=str(error))
    except OSError as error:
        return MaskLook(error=f"{path} could not be read ({error.strerror}). Look after the disk, then try again")
    colored = pixels.ndim == 3
    flat = pixels.astype(np.int64) @ np.array([65536, 256, 1]) if colored else pixels.astype(np.int64)
    values, counts = np.unique(flat, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    kept = dict(zip(values[order].tolist(), counts[order].tolist(), strict=True))
    measured = [value for value in values.tolist() if colored or value != IGNORE]
    palette = None
    if found.picture.mode == "P":
        table = found.picture.getpalette("RGB") or []
        colors = {value: table[3 * value : 3 * value + 3] for value in kept}
        palette = {
            value: (r << 16) + (g << 8) + b for value, color in colors.items() for r, g, b in [(*color, 0, 0, 0)[:3]]
        }
    tiny = {value: tiny_pixels(flat == value) for value in measured} if len(measured) <= _MOST_OBJECTS else {}
    height, width = flat.shape
    content = _digest(flat.tobytes())
    border = 0 if colored or IGNORE not in kept else border_pixels(flat, IGNORE)
    return MaskLook(None, height, width, colored, kept, len(values), tiny, palette, content, border)


class Looks:
    """The looks into the files of one dataset, from run to run, in the user's cache."""

    def __init__(self, root: Path) -> None:
        name = hashlib.blake2b(os.fsencode(root.absolute()), digest_size=8).hexdigest()
        self.file = user_cache() / "looks" / f"{name}.json"
        self.root = root
        self.known: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
            document = json.loads(self.file.read_text("utf-8"))
            self.known = document["looks"] if document["version"] == _VERSION else {}
        self.used: dict[str, list[Any]] = {}
        self.is_new = False

    def all_of(
        self, paths: Mapping[str, Path], kind: type[Look], title: str, console: Console | None
    ) -> dict[str, Look]:
        """Id -> the look into its file."""
        found: dict[str, Any] = {}
        keys = {id_: _key(path, kind.__name__) for id_, path in paths.items()}
        ids, quiet = list(paths), sum(key not in self.known for key in keys.values()) <= _QUIET
        bar = Progress(title, len(ids), console=Console(quiet=True) if quiet else console or Console(stderr=True))
        with ThreadPoolExecutor(usable_cores()) as pool, bar:
            for first in range(0, len(ids), _AT_ONCE):
                part = ids[first : first + _AT_ONCE]
                old = {id_: _restored(kind, self.known.get(keys[id_])) for id_ in part}
                new = [id_ for id_ in part if old[id_] is None]
                made = dict(zip(new, pool.map(kind.at, [paths[id_] for id_ in new]), strict=True))
                for id_ in part:
                    key, look = keys[id_], old[id_] or made[id_]
                    found[id_] = look
                    if look.error is None and key:
                        self.used[key] = self.known[key] if id_ not in made else [*asdict(look).values()]
                self.is_new |= bool(new)
                bar.step(first + len(part), {})
        return found

    def keep(self) -> None:
        """Write what was seen, for the next time; only time is lost where that cannot be."""
        if not self.is_new:
            return
        text = json.dumps({"version": _VERSION, "looks": self.used}, separators=(",", ":"))
        try:
            write_atomically(self.file, lambda file: file.write(text.encode()))
            files = sorted(self.file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in files[:-_KEPT]:
                path.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            log.info("what was seen cannot be remembered: %s", error)


def _restored(kind: type[Look], values: list[Any] | None) -> Look | None:
    """A look, as JSON kept it; None where it is none."""
    with suppress(TypeError, ValueError, AttributeError):
        if values is not None:
            parts: list[Any] = [_with_numbers(value) if isinstance(value, dict) else value for value in values]
            return kind(*parts)
    return None


def _with_numbers(part: Mapping[str, int]) -> dict[int, int]:
    """JSON has only text for keys."""
    return {int(key): value for key, value in part.items()}


def _key(path: Path, kind: str) -> str:
    """Text that changes when the file does; empty where it is not there."""
    try:
        facts = os.stat(path)
    except OSError:
        return ""
    text = f"{kind}\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0"
    digest = hashlib.blake2b(text.encode(), digest_size=8)
    digest.update(os.fsencode(path.absolute()))
    return digest.hexdigest()


def colors_of(codes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Red, green and blue of each colour's number."""
    return [(code >> 16, code >> 8 & 255, code & 255) for code in codes]
