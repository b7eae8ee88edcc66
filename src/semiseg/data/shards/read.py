"""Unlabelled pictures in tar shards, read in place.

DIR/NAME.tar             members KEY.jpg (.png ...), as WebDataset lays them out, not compressed
DIR/index.safetensors    where each picture lies, made once by `semiseg data shard` or `semiseg data index`

The index is mapped into memory, not read, so that its pages are shared by all processes. Its arrays, of N pictures in
the order of the tars' names and of their members, are `shard` (N,) int32, the tar; `offset` and `length` (N,) int64,
bytes; `keys` uint8 and `ends` (N,), the `Names`; `hashes` (N,) int64 of the keys in ascending order, and
`places` (N,) int64, whose they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from semiseg.data.bands import Mapped
from semiseg.data.dataset import Dataset, ImageSet, Pixels
from semiseg.data.deep import Values, read_values
from semiseg.data.files import FileSet, ImageFiles
from semiseg.data.images import read_image
from semiseg.data.listing import file_names
from semiseg.data.names import Names, OnDemand
from semiseg.data.texts import explained

INDEX = "index.safetensors"
ARRAYS = ("shard", "offset", "length", "keys", "ends", "hashes", "places")
OPEN_TARS = 64  # per process


class Tar(NamedTuple):
    """A tar as it was when it was indexed."""

    name: str
    size: int  # bytes
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> Tar:
        """The tar as it is now."""
        facts = path.stat()
        return cls(path.name, facts.st_size, facts.st_mtime_ns)


class Shards:
    """The pictures in the shards of a folder, by place: 0, ..., N - 1. It holds no open file."""

    def __init__(self, folder: Path) -> None:
        """Map the index. Raises ValueError where there is none, or it is damaged."""
        self.folder = folder
        path = folder / INDEX
        with explained(path):
            there = path.is_file()
        if not there:
            raise ValueError(f"no {path}: `semiseg data index {folder}` makes it, once, from the tar files there")
        try:
            with safe_open(path, framework="pt") as file:
                facts, arrays = file.metadata(), {name: file.get_tensor(name).numpy() for name in ARRAYS}
            self.tars = [Tar(*row) for row in json.loads(facts["tars"])]
            self.sha256 = facts["sha256"]  # of a line `KEY LENGTH` per picture, in order
            self.keys = Names(arrays["keys"], arrays["ends"])
            self._shard, self._offset, self._length = (arrays[name] for name in ("shard", "offset", "length"))
            self._hashes, self._places = arrays["hashes"], arrays["places"]
            lengths = {len(arrays[name]) for name in ("shard", "offset", "length", "ends", "hashes", "places")}
            if len(lengths) > 1 or ((self._places < 0) | (self._places >= len(self.keys))).any():
                raise ValueError("its columns do not belong together")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): make it anew by `semiseg data index {folder}`") from error

    def __reduce__(self) -> tuple[type[Shards], tuple[Path]]:
        return Shards, (self.folder,)

    def __len__(self) -> int:
        return len(self.keys)

    def check_current(self) -> None:
        """Raise ValueError where a tar is new, gone, or another than the one that was indexed.

        So too where a picture would not lie inside its tar. The pictures are not read.
        """
        known, now = ({tar.name: tar for tar in tars} for tars in (self.tars, map(Tar.of, tar_files(self.folder))))
        for name in sorted(known.keys() | now.keys()):
            if known.get(name) != now.get(name):
                what = "is gone" if name not in now else "was changed" if name in known else "was added"
                raise ValueError(
                    f"{self.folder / name} {what} since {INDEX} was made. Put the folder back as it was, or run "
                    f"`semiseg data index {self.folder}`"
                )
        tars = self._shard.clip(0, len(self.tars) - 1)
        ends = np.array([tar.size for tar in self.tars])[tars]  # (N,)
        wrong = (tars != self._shard) | (self._length <= 0) | (self._offset < 0) | (self._offset > ends - self._length)
        if wrong.any():
            raise ValueError(
                f"{np.count_nonzero(wrong)} pictures are empty, or not inside their tars, by {self.folder / INDEX}; "
                f"the first has the key {self.keys[int(wrong.argmax())]!r}. Restore the tars without them, and run "
                f"`semiseg data index {self.folder}`"
            )

    def name(self, place: int) -> str:
        """`SHARD.tar:KEY`, for messages."""
        return f"{self.folder / self.tars[self._shard[place]].name}:{self.keys[place]}"

    def read(self, place: int) -> bytes:
        """The bytes of a picture's file. Raises ValueError where the tar no longer has them."""
        length = int(self._length[place])
        try:
            file = _opened(self.folder, self.tars[self._shard[place]])
            content = os.pread(file.fileno(), length, int(self._offset[place]))
        except OSError as error:
            raise ValueError(f"{self.name(place)} cannot be read ({error.strerror}). Restore the tar") from error
        if len(content) < length:
            raise ValueError(f"{self.name(place)} is cut short since the tar was indexed. Restore the tar")
        return content

    def image(self, place: int) -> Pixels:
        """A picture, (H, W, 3) uint8 RGB, as `read_image` reads it from a file. Raises ValueError naming its key."""
        return read_image(self.name(place), self.read(place))

    def find(self, keys: Iterable[str]) -> list[int]:
        """The places of the `keys` that exist, ascending."""
        found = []
        for key in set(keys):
            first, stop = (np.searchsorted(self._hashes, key_hash(key), side) for side in ("left", "right"))
            found += [place for place in self._places[first:stop].tolist() if self.keys[place] == key]
        return sorted(found)


@lru_cache(OPEN_TARS)
def _opened(folder: Path, tar: Tar) -> FileIO:
    """A tar, opened once per process. A fork may share it, for nobody moves its position; spawned processes have none.

    `tar` comes from the index, so that another file of the same name, indexed anew, is opened anew.
    """
    return FileIO(folder / tar.name)


class ShardKeys(OnDemand[str]):
    """The keys of the pictures in shards, less those at the places `left_out` (ascending)."""

    def __init__(self, shards: Shards, left_out: Sequence[int] = ()) -> None:
        self.shards = shards
        # How many kept pictures come before each one left out.
        self._kept_before = np.array(left_out, np.int64) - np.arange(len(left_out))

    def __len__(self) -> int:
        return len(self.shards) - len(self._kept_before)

    def place(self, number: int) -> int:
        """The place in the shards of kept picture `number`."""
        return number + int(np.searchsorted(self._kept_before, number, side="right"))

    def item(self, place: int) -> str:
        return self.shards.keys[self.place(place)]


class ShardSet(ImageSet):
    """Unlabelled images in shards."""

    def __init__(self, keys: ShardKeys) -> None:
        self.name = "unlabeled"
        self.names = self.keys = keys
        self.has_masks = False

    def image(self, index: int) -> Pixels | Mapped:
        place, shards = self.keys.place(index), self.keys.shards
        return shards.image(place) if self.bands is None else self.bands.read(shards.name(place), shards.read(place))

    def values(self, index: int) -> tuple[Values, float | None]:
        place, shards = self.keys.place(index), self.keys.shards
        values, stored = read_values(shards.name(place), shards.read(place), self.bands and self.bands.count)
        return values, stored.nodata

    def mask(self, index: int) -> Pixels:
        raise ValueError("the unlabeled images have no masks to read")


def with_shards(dataset: Dataset, folder: Path) -> Dataset:
    """`dataset`, of files, with the pictures in the shards in `folder` as its unlabelled images.

    Pictures whose key an image in another list has are left out. Raises ValueError where the index is missing,
    damaged or older than the tars.
    """
    shards = Shards(folder)
    shards.check_current()
    left_out = shards.find(key for images in dataset.image_sets.values() for key in _keys(images))
    keys = ShardKeys(shards, left_out)
    less = f", less {len(left_out)} in other lists" if left_out else ""
    sha256 = hashlib.sha256(f"{shards.sha256} {left_out}".encode()).hexdigest() if left_out else shards.sha256
    record = {"name": f"shards {folder}{less}", "sha256": sha256, "count": len(keys)}
    split = dataset.split | {"unlabeled": record | {"source": None, "file_sha256": None}}
    return replace(dataset, unlabeled=ShardSet(keys), split=split, hidden=None)


def _keys(images: ImageSet) -> list[str]:
    """The keys that these images may have in shards: by their ids, or by their files."""
    assert isinstance(images, FileSet)
    assert isinstance(images.images, ImageFiles)
    return [shard_key(name) for name in (*images.names, *(file.rpartition(".")[0] for file in images.images.inside()))]


def tar_files(folder: Path) -> list[Path]:
    """The tars in `folder`, by name. Raises ValueError where it may not be listed."""
    return sorted(folder / name for name in file_names(folder) if name.endswith(".tar") and not name.startswith("."))


def shard_key(name: str) -> str:
    """The key of an image: its path without ending, and without dots in the file's name, where a key would end."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.replace(".", "_")


def key_hash(key: str) -> int:
    """64 bits that tell keys apart, signed."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
