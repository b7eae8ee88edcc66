"""Where each picture lies in the tars of a folder, written down once."""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from rich.console import Console

from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.names import Names
from semiseg.data.shards.read import INDEX, Shards, Tar, key_hash, tar_files
from semiseg.runtime.files import write_atomically
from semiseg.runtime.progress import Progress

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


class Member(NamedTuple):
    """A picture in a tar."""

    key: str
    offset: int  # of its first byte in the tar
    length: int  # bytes


def index_shards(folder: Path, console: Console | None = None) -> Shards:
    """Index the tars in `folder`, whoever made them, and open them.

    Members that are no pictures are passed over with a warning. Raises ValueError where there is no tar, a tar is cut
    short or has no picture, or two pictures have one key.
    """
    paths = tar_files(folder)
    if not paths:
        raise ValueError(f"no .tar files in {folder}; `semiseg data shard` makes some, from a folder of pictures")
    tars = [Tar.of(path) for path in paths]
    digest, parts = hashlib.sha256(), []
    passed, example = 0, ""
    with Progress("index", len(paths), console=console) as bar:
        for number, path in enumerate(paths):
            members, rest = read_members(path)
            if not members:
                raise ValueError(f"{path} has no picture ({', '.join(IMAGE_SUFFIXES)}) in it. Take it out of {folder}")
            lines = "".join(f"{member.key} {member.length}\n" for member in members)
            digest.update(lines.encode(errors="surrogateescape"))
            parts.append(_part(number, members))
            passed += len(rest)
            example = example or (f"{path}:{rest[0]}" if rest else "")
            bar.step(number + 1, {})
    if passed:
        log.warning("%d files in the tars are no pictures, such as %s: they are passed over", passed, example)
    arrays = _with_hashes({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, paths)
    facts = {"tars": json.dumps(tars), "sha256": digest.hexdigest()}
    write_atomically(folder / INDEX, lambda file: file.write(safetensors.numpy.save(arrays, facts)))
    return Shards(folder)


def read_members(path: Path) -> tuple[list[Member], list[str]]:
    """The pictures in a tar, and the names of the other files. Raises ValueError where the tar is not whole."""
    found: list[Member] = []
    others: list[str] = []
    last = "its beginning"
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                last = info.name
                name = info.name.rpartition("/")[2]
                if info.isdir():
                    continue
                if name.startswith(".") or not name.lower().endswith(IMAGE_SUFFIXES):
                    others.append(info.name)
                    continue
                if not info.isreg() or info.issparse():
                    raise ValueError(
                        f"{path}:{info.name} is a link or the like, without bytes of its own. Write the tar anew with "
                        "`tar --dereference --hard-dereference`"
                    )
                found.append(Member(member_key(info.name), info.offset_data, info.size))
            # A tar ends with blocks of zeros; tarfile takes anything that is no member for the end.
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("neither another member nor the mark of the end")
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} is not whole, or not a tar without compression ({error}, after {last}). Copy or write it again"
        ) from error
    return found, others


def member_key(name: str) -> str:
    """The key of a member: its path up to the first dot in the file's name."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    return folder + slash + last.partition(".")[0]


def _part(number: int, members: Sequence[Member]) -> Arrays:
    """The arrays of one tar."""
    keys, offsets, lengths = zip(*members, strict=True)
    return {
        "shard": np.full(len(members), number, np.int32),
        "offset": np.array(offsets, np.int64),
        "length": np.array(lengths, np.int64),
        "hashes": np.array([key_hash(key) for key in keys], np.int64),
        "keys": np.frombuffer("\0".join([*keys, ""]).encode(errors="surrogateescape"), np.uint8),
    }


def _with_hashes(arrays: Arrays, paths: Sequence[Path]) -> Arrays:
    """The arrays with `ends`, `places` and sorted `hashes`. Raises ValueError where a key comes twice."""
    ends = np.flatnonzero(arrays["keys"] == 0)
    places = np.argsort(arrays["hashes"], kind="stable")
    hashes = arrays["hashes"][places]
    names = Names(arrays["keys"], ends)
    for at in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        one, two = places[at : at + 2].tolist()
        if names[one] == names[two]:
            first, second = (paths[int(arrays["shard"][place])] for place in (one, two))
            raise ValueError(
                f"two pictures have the key {names[one]!r}, in {first} and in {second}. A key, the path up to the "
                "first dot of the file's name, says which picture is meant: leave one out, or rename it"
            )
    return arrays | {"ends": ends, "places": places, "hashes": hashes}
