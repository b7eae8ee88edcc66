"""Decoded pictures in files: a training step reads the bytes of its crops, where it decoded whole pictures before.

One file per picture, in the user's cache: a header, and the pixels row by row, which are mapped into memory. Every
process and every run shares the files, and the system keeps those in memory that are in use. Nothing here is trusted:
a file is of use only if its header, its size and the sum of its pixels are right, and it is made anew otherwise.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semiseg.data.images import Pixels
from semiseg.runtime.files import TEMPORARY, user_cache, write_atomically

log = logging.getLogger(__name__)

MAGIC = b"semiseg-pixels-1"
"""Another one where readers decode otherwise: what older versions kept is then no longer found."""
_FACTS = struct.Struct("<16s16s3II")  # magic, key, height, width, channels (0: a mask), sum of the pixels
_HEADER = 64  # bytes: the facts, their own sum, and zeros
_LOOKS = 64  # times that a process looks at the size of the cache while it writes as much as the cache may hold
_FULL, _LESS = 15 / 16, 7 / 8  # of its bound: from where files go, and until where
_LEFT_OVER = 3600.0  # seconds after which a file that was never finished is nobody's


def cache_folder() -> Path:
    """Where the files are: `$SEMISEG_CACHE/decoded`, or in the user's cache."""
    return user_cache() / "decoded"


class _Entry(NamedTuple):
    used: float  # when, seconds since 1970
    size: int  # bytes
    path: Path


class DecodeCache:
    """Pictures by what they were decoded from, at most about `most` bytes of them.

    The files that were not used for the longest time make room for new ones, but none that was used since this object
    was made: of pictures that do not fit all together, the first ones stay. Several processes may use one folder.
    Raises WriteError where `folder` cannot be made.
    """

    def __init__(self, folder: Path, most: float) -> None:
        self.folder, self.began = folder, time.time()
        folder.mkdir(parents=True, exist_ok=True)
        kept = sum(entry.size for entry in self._entries())
        self.most = min(most, (kept + shutil.disk_usage(folder).free) / 2)  # bytes: half of the disk stays free
        self._known: set[bytes] = set()  # keys whose pixels this process has looked at
        self._unseen = math.inf  # bytes written since the last look at the folder's size
        self._closed = False  # nothing more is written

    def pixels(self, key: str, decode: Callable[[], Pixels]) -> Pixels:
        """What `decode` gives, (H, W) or (H, W, 3) uint8, from the file of `key` if there is one, and kept there.

        Pixels from a file cannot be written to. Whatever is wrong with a file or the disk costs time only.
        """
        digest = blake2b(key.encode(errors="surrogateescape"), digest_size=16).digest()
        path = self.folder / digest.hex()[:2] / digest.hex()
        found = self._read(path, digest)
        if found is None:
            found = decode()
            if not self._closed:
                self._write(path, digest, found)
        return found

    def _read(self, path: Path, digest: bytes) -> Pixels | None:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size >= _HEADER else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s of the decode cache cannot be read (%s): its picture is decoded", path, error.strerror)
            return None
        shape, crc = _understood(mapped[:_HEADER], digest, size)
        if shape is not None:
            pixels = np.frombuffer(mapped, np.uint8, offset=_HEADER).reshape(shape)
            if digest in self._known:
                return pixels
            if zlib.crc32(pixels.data) == crc:
                self._known.add(digest)
                with suppress(OSError):  # another user's cache, say
                    os.utime(path)  # says when it was last used
                return pixels
        log.warning("%s of the decode cache is damaged: its picture is decoded anew", path)
        return None

    def _write(self, path: Path, digest: bytes, pixels: Pixels) -> None:
        pixels = np.ascontiguousarray(pixels)
        shape = (*pixels.shape, 0)[:3]
        facts = _FACTS.pack(MAGIC, digest, *shape, zlib.crc32(pixels.data))
        head = (facts + struct.pack("<I", zlib.crc32(facts))).ljust(_HEADER, b"\0")
        try:
            if not self._has_room(pixels.nbytes + _HEADER):
                return
            write_atomically(path, lambda file: file.write(head) and file.write(pixels.data), durable=False)
            self._known.add(digest)
        except OSError as error:
            self._closed = True
            log.warning("decoded pictures are no longer kept: %s", error)

    def _has_room(self, size: int) -> bool:
        """Whether `size` more bytes fit; files that this run does not use make room."""
        if size > _LESS * self.most:
            return False
        self._unseen += size
        if self._unseen <= self.most / _LOOKS:
            return True
        entries = sorted(self._entries())
        kept = sum(entry.size for entry in entries) + size
        if kept > _FULL * self.most:
            for entry in entries:
                if kept <= _LESS * self.most or entry.used >= self.began:
                    break
                with suppress(FileNotFoundError):  # another process was first
                    entry.path.unlink()
                kept -= entry.size
        self._closed = kept > _FULL * self.most
        self._unseen = 0
        return not self._closed

    def _entries(self) -> list[_Entry]:
        """The files of the cache. What killed writers have left goes."""
        found = []
        for folder in (entry.path for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    facts = entry.stat(follow_symlinks=False)
                    if not entry.name.startswith(TEMPORARY):
                        found.append(_Entry(facts.st_mtime, facts.st_size, Path(entry.path)))
                    elif facts.st_mtime < self.began - _LEFT_OVER:
                        os.unlink(entry.path)
        return found


def _understood(head: bytes, digest: bytes, size: int) -> tuple[tuple[int, ...] | None, int]:
    """The shape and the sum that a header states; None for what is no header of these pixels in a file of `size`."""
    if len(head) < _HEADER:
        return None, 0
    facts, (own,) = head[: _FACTS.size], struct.unpack_from("<I", head, _FACTS.size)
    magic, key, height, width, channels, crc = _FACTS.unpack(facts)
    right = magic == MAGIC and key == digest and own == zlib.crc32(facts)
    if not right or size != _HEADER + height * width * max(channels, 1):
        return None, 0
    return ((height, width, channels) if channels else (height, width)), crc


def file_key(*paths: Path) -> str | None:
    """What changes when one of the files does: paths, sizes and times. None where a file is not there."""
    parts = []
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError:
            return None
        parts.append(f"{path.absolute()}\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}")
    return "\0".join(parts)
