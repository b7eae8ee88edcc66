"""Which pictures a folder holds and a list file names, in seconds for a million of them.

Folders are listed, which tells files from folders without asking about each; `Path`s are made for messages only.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from semiseg.data.images import IMAGE_SUFFIXES

Entry = os.DirEntry[str]


def picture_endings(folder: Path) -> dict[str, str]:
    """Id -> file ending of every picture below `folder`; the id is the path inside it without the ending.

    They come in the order of their paths, part by part. Hidden files are passed over, and links to folders not
    followed. Raises ValueError where there are none, two have one id, or one is no file.
    """
    files = files_below(folder, _is_picture)
    if not files:
        raise ValueError(f"no images in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    ids = [file[: file.rindex(".")] for file in files]
    endings = {id_: sys.intern(file[len(id_) :]) for id_, file in zip(ids, files, strict=True)}  # a million, but few
    if len(endings) < len(files):
        twice = next(id_ for id_, count in Counter(ids).items() if count > 1)
        one, two, *_ = (folder / file for id_, file in zip(ids, files, strict=True) if id_ == twice)
        raise ValueError(f"{one} and {two} have the same name, so one mask for both. Rename or remove one")
    return endings


def _is_picture(entry: Entry) -> bool:
    if entry.name.startswith(".") or not entry.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    if not entry.is_file():
        raise ValueError(f"{entry.path} is no file, but a link to nothing or the like. Restore or remove it")
    return True


def files_below(folder: Path | str, wanted: Callable[[Entry], bool], prefix: str = "") -> list[str]:
    """`prefix` and the path inside `folder` of every entry that is `wanted` and no folder, sorted part by part."""
    names: list[str] = []
    folders: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.add(entry.name)
            elif wanted(entry):
                names.append(entry.name)
    found: list[str] = []
    for name in sorted([*names, *folders]):
        found += files_below(f"{folder}/{name}", wanted, f"{prefix}{name}/") if name in folders else [prefix + name]
    return found


def are_there(folder: Path, files: Iterable[str]) -> Iterator[bool]:
    """Of each path inside `folder`, whether a file is there; each folder on the way is listed once."""
    listed: dict[str, set[str]] = {}
    for file in files:
        inside, _, name = file.rpartition("/")
        if inside not in listed:
            listed[inside] = _file_names(folder / inside)
        yield name in listed[inside]


def _file_names(folder: Path) -> set[str]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
    return set()


def find_list(option: str, root: Path) -> Path:
    """The list file `option`: relative to the dataset's root, else to the current folder."""
    for path in (root / option, Path(option)):
        if path.is_file():
            return path
    raise ValueError(f"no list file {option!r}: neither {root / option} nor {Path(option).absolute()} exists")


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without blank lines and lines that begin with #."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error}). Save it as plain text") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def listed_ids(path: Path, folder: Path, endings: Mapping[str, str]) -> tuple[str, ...]:
    """The ids in the list `path`, whose lines name pictures by stem, file name or path inside `folder`.

    `endings` are those pictures (`picture_endings`). Raises ValueError for a line that names none, or several.
    """
    lines = read_lines(path)
    names = [line.replace("\\", "/").removeprefix("./").removeprefix("images/") for line in lines]
    found = [_by_path(name, endings) for name in names]  # which outranks the same name deeper in the tree
    bare = {name for name, ids in zip(names, found, strict=True) if not ids}
    deeper = _by_last_part(bare, endings) if bare else {}
    return tuple(
        _only(ids or deeper.get(name, []), line, path, folder, endings)
        for line, name, ids in zip(lines, names, found, strict=True)
    )


def _by_path(name: str, endings: Mapping[str, str]) -> list[str]:
    stem, _, ending = name.rpartition(".")
    return [id_ for id_ in (name, stem) if id_ in endings and (id_ == name or endings[id_] == f".{ending}")]


def _by_last_part(names: set[str], endings: Mapping[str, str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for id_, ending in endings.items():
        stem = id_.rpartition("/")[2]
        for name in {stem, stem + ending} & names:
            found[name].append(id_)
    return found


def _only(ids: list[str], line: str, path: Path, folder: Path, endings: Mapping[str, str]) -> str:
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValueError(
            f"{path} names {line!r}, which may be {' or '.join(ids)}; write the path inside {folder.name}/"
        )
    raise ValueError(
        f"{path} names {line!r}, but {folder} has no such image; a line is a name like {next(iter(endings))!r}. "
        "Add the image, or take the line out"
    )
