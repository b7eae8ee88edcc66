"""The files that were found good, from run to run, in the user's cache."""

from __future__ import annotations

import logging
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semiseg.runtime.files import user_cache, write_atomically

log = logging.getLogger(__name__)

MOST = 4_000_000  # keys: 32 MB; the oldest make room
UNKNOWN = 0
"""Stands for the key of a file that has none."""
_DIGEST = 16  # bytes before the keys, by which a damaged file is known


def cache_file() -> Path:
    """Where the keys are kept, never beside anyone's data."""
    return user_cache() / "good-files.bin"


class Remembered:
    """Keys of good files, 64 bits each. A cache that is missing, damaged or cannot be written is as an empty one."""

    def __init__(self) -> None:
        self._known = np.sort(_read())  # (keys,) int64

    def holds(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of each of the `keys`, (n,) int64, whether it is here; UNKNOWN never is."""
        first, stop = (np.searchsorted(self._known, keys, side) for side in ("left", "right"))
        return (first < stop) & (keys != UNKNOWN)

    def add(self, keys: NDArray[np.int64]) -> None:
        """Keep `keys`, (n,) int64, too."""
        keys = keys[keys != UNKNOWN]
        if not len(keys):
            return
        now = _read()  # what another process has added since
        content = np.concatenate([now, keys[~np.isin(keys, now)]])[-MOST:].astype("<i8").tobytes()
        digest = blake2b(content, digest_size=_DIGEST).digest()
        try:
            write_atomically(cache_file(), lambda file: file.write(digest + content))
        except (OSError, ValueError) as error:  # only time is lost
            log.info("which files are good cannot be remembered: %s", error)


def _read() -> NDArray[np.int64]:
    with suppress(OSError):
        content = cache_file().read_bytes()
        digest, keys = content[:_DIGEST], content[_DIGEST:]
        if len(keys) % 8 == 0 and blake2b(keys, digest_size=_DIGEST).digest() == digest:
            return np.frombuffer(keys, "<i8").astype(np.int64)
    return np.array([], np.int64)
