"""Writing a folder's unlabelled pictures as tar shards.

A shard appears under its name when it is whole and on the disk, and the cut depends on the files alone: an interrupted
sharding, begun again, finds the shards it has made and goes on behind them.
"""

from __future__ import annotations

import math
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

from rich.console import Console

from semiseg.config.checks import Count, Range, check_value, require
from semiseg.data.listing import are_there, listed_ids, picture_endings
from semiseg.data.shards.index import index_shards, member_key, read_members
from semiseg.data.shards.read import Shards, shard_key, tar_files
from semiseg.data.texts import explained, is_text_file
from semiseg.runtime.files import remove_temporaries, write_atomically
from semiseg.runtime.progress import Progress

SHARD_SIZE = 1_000_000_000  # bytes


def write_shards(
    source: Path,
    out: Path,
    *,
    root: Path | None = None,
    shard_size: int | None = None,
    images: int | None = None,
    console: Console | None = None,
) -> Shards:
    """Write the unlabelled pictures of `source` into `out`/shard-NNNNNN.tar with an index, and open them.

    Args:
        source: a dataset's folder, whose pictures in images/ without a mask are taken; any other folder, of which every
            picture is; or a list file as in `data.unlabeled`.
        out: the folder of the shards.
        root: the folder whose pictures a list names. None: the list's own folder.
        shard_size: bytes per shard, which a single picture and the end of a tar may exceed. None: a gigabyte.
        images: pictures per shard, instead of `shard_size`.
        console: where progress is shown.

    Files are copied as they are, in the order of their paths, or of the list. Raises ValueError for a source without
    pictures, two pictures of one key, and tars in `out` that are not of this sharding.
    """
    require(images is None or shard_size is None, "give --shard-size or --images, not both")
    if images is not None:
        check_value("--images", images, Count)
    if shard_size is not None:
        check_value("--shard-size", shard_size, Annotated[int, Range(1, 2**63 - 1)])
    most = (sys.maxsize, images) if images else (shard_size or SHARD_SIZE, sys.maxsize)
    folder, files = unlabeled_files(source, root)
    keys = _keys(folder, files)
    lengths = [os.stat(f"{folder}/{file}").st_size for file in files]
    parts = {out / f"shard-{number:06d}.tar": part for number, part in enumerate(cut(lengths, *most))}
    remove_temporaries(out)
    if strange := [path for path in tar_files(out) if path not in parts]:
        raise _of_another(strange[0], source)
    with Progress("shard", len(files), console=console) as bar:
        for path, part in parts.items():
            inside = slice(part.start, part.stop)
            expected = [*zip(keys[inside], lengths[inside], strict=True)]
            if not path.exists():
                write_atomically(path, partial(_write_tar, folder=folder, files=files[inside]))
            elif [(member.key, member.length) for member in read_members(path)[0]] != expected:
                raise _of_another(path, source)
            bar.step(part.stop, {})
    return index_shards(out, console)


def unlabeled_files(source: Path, root: Path | None = None) -> tuple[Path, list[str]]:
    """A folder, and the pictures inside it that are to be written; arguments as in `write_shards`."""
    with explained(source):
        is_folder = source.is_dir()
    is_list = not is_folder and is_text_file(source)
    require(
        is_folder or is_list,
        f"{source} is no folder or list: nothing is there. Give the folder of the pictures, or a list of them",
    )
    require(root is None or is_list, f"{source} is no list, and --root is for the pictures of a list")
    folder = source if is_folder else root or source.parent
    with explained(folder):
        pictures = folder / "images" if (folder / "images").is_dir() else folder
    endings = picture_endings(pictures)
    ids: Sequence[str] = list(endings)
    if is_list:
        ids = listed_ids(source, pictures, endings)
    elif pictures != folder:
        masked = are_there(folder / "masks", (f"{id_}.png" for id_ in ids))
        ids = [id_ for id_, found in zip(ids, masked, strict=True) if not found]
    if not ids:
        raise ValueError(
            f"{source} has no unlabelled picture: " + ("the list is empty" if is_list else "all have masks")
        )
    return pictures, [id_ + endings[id_] for id_ in ids]


def cut(lengths: Sequence[int], most_bytes: int, most_images: int) -> list[range]:
    """The pictures of each shard, from their lengths in bytes: as many as the bounds allow, at least one."""
    parts: list[range] = []
    first = size = 0
    for place, length in enumerate(lengths):
        blocks = 1 + math.ceil(length / tarfile.BLOCKSIZE)  # a header and the picture
        size += blocks * tarfile.BLOCKSIZE
        if place > first and (size > most_bytes or place - first == most_images):
            parts.append(range(first, place))
            first, size = place, blocks * tarfile.BLOCKSIZE
    return [*parts, range(first, len(lengths))]


def member_name(file: str) -> str:
    """The name of a picture in its shard: KEY and ending, in small letters as readers of shards expect it."""
    stem, _, ending = file.rpartition(".")
    return f"{shard_key(stem)}.{ending.lower()}"


def _keys(folder: Path, files: Sequence[str]) -> list[str]:
    keys = [member_key(member_name(file)) for file in files]
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        one, two, *_ = (file for file, key in zip(files, keys, strict=True) if key == twice)
        raise ValueError(
            f"{folder / one} and {folder / two} would have one key, {twice!r}, where dots become _. Rename one, or "
            "list it once"
        )
    return keys


def _of_another(path: Path, source: Path) -> ValueError:
    return ValueError(
        f"{path} is not the shard that {source} gives now: it is of other pictures, or they were cut otherwise. Choose "
        "another --out, or delete the tars there"
    )


def _write_tar(file: BinaryIO, folder: Path, files: Sequence[str]) -> None:
    """The same bytes for the same pictures: no times, no owners."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in files:
            with (folder / name).open("rb") as picture:
                info = tarfile.TarInfo(member_name(name))
                info.size = os.fstat(picture.fileno()).st_size
                tar.addfile(info, picture)
