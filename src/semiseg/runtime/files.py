"""Files written whole or not at all, and values in JSON's types."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TEMPORARY = ".semiseg-"
"""What the name of a file begins with until it is whole."""


def user_cache() -> Path:
    """Where a user's own cache of this package is: `$SEMISEG_CACHE`, or the system's place for it."""
    import platformdirs  # not for the command line, which asks this file what went wrong

    return Path(os.environ.get("SEMISEG_CACHE") or platformdirs.user_cache_dir("semiseg"))


class WriteError(OSError):
    """A file could not be written: the disk is full, read-only or gone. The message says which, and the space left."""

    def __str__(self) -> str:
        return self.strerror or ""


def write_error(path: Path, error: OSError) -> WriteError:
    """`error`, met while `path` was written, in words."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    repair = f"Make room there ({_free_space(path)}), or choose" if full else "Choose"
    text = f"{path} cannot be written: {error.strerror or error}. What it held before is kept. {repair} another place"
    return WriteError(error.errno, f"{text}; then give the command again", str(path))


def _free_space(path: Path) -> str:
    there = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    try:
        return f"{shutil.disk_usage(there).free / 1e6:,.1f} MB are free in {there}"
    except OSError as error:
        return f"{there} does not answer: {error.strerror}"


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Call `write` with a file that becomes `path` only when it is whole and, if `durable`, on the disk.

    Until then it has a name that no other process has, in the folder of `path`; a killed process leaves it there, for
    `remove_temporaries`. Raises WriteError where the disk does not take it.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}.tmp")
    try:
        with failures_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = _Raw(temporary, "xb")  # "x" follows no link that was put there
        try:
            with io.BufferedWriter(raw) as file:
                write(file)
                file.flush()
                with failures_of(path):
                    if durable:
                        os.fsync(file.fileno())
        except Exception as error:
            if raw.failed is not None:  # and not a file that `write` reads
                raise write_error(path, raw.failed) from error
            raise
        with failures_of(path):
            temporary.replace(path)
    except BaseException:  # a full disk, or Ctrl-C: half a file is of no use
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """An OSError in here is one of writing `path`, and becomes a WriteError."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


class _Raw(io.FileIO):
    """A file that remembers why a write failed, where the writer tells it in words of its own, as torch does."""

    failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file. Raises WriteError where the disk does not take it."""
    with failures_of(path), path.open("a", encoding="utf-8") as file:
        file.write(line)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of their writes in `folder`, where nobody else writes now."""
    for path in folder.rglob(f"{TEMPORARY}*.tmp"):
        path.unlink(missing_ok=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file atomically; NaN becomes null."""
    text = json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays by name into a compressed .npz file, atomically."""
    import numpy as np  # not for the command line, which asks this file what went wrong

    made = {name: np.asarray(values) for name, values in arrays.items()}
    write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **made))


def plain(value: Any) -> Any:
    """The value in JSON's types; a number that is not finite becomes None, which JSON can say."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
