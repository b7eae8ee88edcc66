"""Which pictures a folder holds and a list file names, in seconds for a million of them.

Folders are listed, which tells files from folders without asking about each; `Path`s are made for messages only.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from semiseg.config.checks import shown
from semiseg.data.images import IMAGE_SUFFIXES
from semiseg.data.passed_over import (
    WRITTEN,
    is_hidden,
    may_be_picture,
    other_pictures,
    passed_over_in_words,
    refuse_written,
    written_beside,
)
from semiseg.data.spelling import by_normal_form, composed, namesake, same_but_for_spelling
from semiseg.data.texts import explained, is_text_file, text_lines

log = logging.getLogger(__name__)

Entry = os.DirEntry[str]
Identity = tuple[int, int]  # device and number of a folder, by whatever path it is reached

MAX_DEPTH = 100
"""Folders inside folders; more are a mistake, or an attack."""


def picture_endings(folder: Path) -> dict[str, str]:
    """Id -> file ending of every picture below `folder`; the id is the path inside it without the ending.

    They come in the order of their paths, part by part. What is hidden is passed over, and links are followed. Files
    that may be pictures of other formats are warned of. Raises ValueError where there are no pictures, two have one id,
    one is no file, this program wrote the folder, or as `files_below` does with `once`.
    """
    refuse_written(folder)
    others: list[str] = []

    def wanted(entry: Entry) -> bool:
        found = is_picture(entry)
        if not found and may_be_picture(entry.name):
            others.append(entry.name)
        return found

    files = files_below(folder, wanted, once=True)
    if not files:
        found = f". {other_pictures(sorted(others), folder)}" if others else ""
        raise ValueError(f"no images in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}{found}")
    if others:
        log.warning("%s", other_pictures(sorted(others), folder))
    ids = [file[: file.rindex(".")] for file in files]
    endings = {id_: sys.intern(file[len(id_) :]) for id_, file in zip(ids, files, strict=True)}  # a million, but few
    if len(endings) < len(files):
        twice = next(id_ for id_, count in Counter(ids).items() if count > 1)
        one, two, *_ = (folder / file for id_, file in zip(ids, files, strict=True) if id_ == twice)
        raise ValueError(f"{one} and {two} have the same name, so one mask for both. Rename or remove one")
    return endings


def is_picture(entry: Entry) -> bool:
    """Whether the name ends as pictures' do. Raises ValueError where it does and there is no file."""
    if not entry.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    if not entry.is_file():
        raise ValueError(f"{entry.path} is no file, but a link to nothing or the like. Restore or remove it")
    return True


def files_below(folder: Path | str, wanted: Callable[[Entry], bool], *, once: bool = False) -> list[str]:
    """The path inside `folder` of every entry that is `wanted` and no folder, sorted part by part.

    Hidden files and folders are passed over, and links to folders followed. What this program wrote is passed over with
    a warning. Raises ValueError where a folder may not be
    listed, a link leads back to a folder in which it lies, or folders lie more than MAX_DEPTH deep; with `once` also
    where two paths lead to one folder.
    """
    walk = _Walk(str(folder), wanted, once)
    found = walk.below("", ())
    if walk.passed:
        log.warning("%s", passed_over_in_words(walk.passed))
    return found


@dataclass(frozen=True)
class _Walk:
    root: str
    wanted: Callable[[Entry], bool]
    once: bool
    visited: dict[Identity, str] = field(default_factory=dict)
    passed: list[tuple[str, str]] = field(default_factory=list)  # what this program wrote, with its commands

    def below(self, prefix: str, above: tuple[Identity, ...]) -> list[str]:
        """`prefix` and the path from there of what is wanted; `above` are the folders on the way."""
        folder, names, folders = f"{self.root}/{prefix}".rstrip("/") or "/", list[str](), set[str]()
        tells = set[str]()
        with explained(folder):
            facts = os.stat(folder)
            identity = facts.st_dev, facts.st_ino
            self._check(folder, identity, above)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    if entry.name in WRITTEN:
                        tells.add(entry.name)
                    if entry.is_dir():
                        folders.add(entry.name)
                    elif self.wanted(entry):
                        names.append(entry.name)
        ours = written_beside(tells)
        found: list[str] = []
        for name in sorted([*names, *folders]):
            if name in ours:
                self.passed.append((f"{folder}/{name}", ours[name]))
                continue
            inside = name in folders
            found += self.below(f"{prefix}{name}/", (*above, identity)) if inside else [prefix + name]
        return found

    def _check(self, folder: str, identity: Identity, above: tuple[Identity, ...]) -> None:
        if identity in above:
            raise ValueError(
                f"{folder} is a link back to {self.visited[identity]}, in which it lies: there would be no end to it. "
                "Remove the link"
            )
        if len(above) > MAX_DEPTH:
            raise ValueError(
                f"{self.root} has folders inside folders more than {MAX_DEPTH} deep, such as {folder[:200]}...: that "
                "is no collection of pictures. Move them up, or name another folder"
            )
        if self.once and identity in self.visited:
            raise ValueError(
                f"{self.visited[identity]} and {folder} are one folder, by a link: its pictures would be there twice, "
                "under two names. Remove the link"
            )
        self.visited[identity] = folder


def are_there(folder: Path, files: Iterable[str]) -> Iterator[bool]:
    """Of each path inside `folder`, whether a file is there; each folder on the way is listed once.

    Raises ValueError where a folder may not be listed.
    """
    listed: dict[str, set[str]] = {}
    for file in files:
        inside, _, name = file.rpartition("/")
        if inside not in listed:
            listed[inside] = file_names(folder / inside)
        yield name in listed[inside]


def file_names(folder: Path) -> set[str]:
    """The files in `folder`, which need not be there. Raises ValueError where it may not be listed."""
    with suppress(FileNotFoundError, NotADirectoryError), explained(folder), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
    return set()


def require_folder(folder: Path, otherwise: str) -> None:
    """Raise ValueError unless `folder` is one; `otherwise` says what to do where none is there."""
    try:
        with explained(folder), os.scandir(folder):
            return
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"no folder {folder}{otherwise}") from None


def find_list(option: str, root: Path) -> Path:
    """The list file `option`: relative to the dataset's root, else to the current folder.

    Raises ValueError where there is none, or it is no file.
    """
    for path in (root / option, Path(option)):
        if is_text_file(path):
            return path
    raise ValueError(
        f"no list file {shown(option)}: neither {root / option} nor {Path(option).absolute()} exists. Write it, or "
        "give the path of another"
    )


def read_lines(path: Path, is_name: Callable[[str], bool] = lambda _: False) -> list[str]:
    """The lines of a list without blanks around them, blank lines, and comments.

    A comment is a line that begins with # and is no name of an image, as `is_name` tells.
    """
    lines = [stripped for line in text_lines(path) if (stripped := line.strip())]
    return [line for line in lines if not line.startswith("#") or is_name(line)]


def listed_ids(path: Path, folder: Path, endings: Mapping[str, str]) -> tuple[str, ...]:
    """The ids in the list `path`, whose lines name pictures by stem, file name or path inside `folder`.

    `endings` are those pictures (`picture_endings`). A name that differs from a file's in Unicode normalisation alone
    is the file's. A line that begins with # and is no picture's name is a comment. Raises ValueError for a line that
    names none, or several.
    """
    lines = [line for line in text_lines(path) if line.strip()]
    found = [_by_path(line, endings) for line in lines]  # which outranks the same name deeper in the tree
    _fill_(found, lines, lambda missed: _by_last_part(missed, endings))
    _fill_(found, lines, lambda missed: _by_normal_form(missed, endings))
    return tuple(
        _only(ids, line, path, folder, endings)
        for line, ids in zip(lines, found, strict=True)
        if ids or not line.lstrip().startswith("#")
    )


def _fill_(
    found: list[list[str]], lines: Sequence[str], search: Callable[[list[str]], Mapping[str, list[str]]]
) -> None:
    """Have `search` look for the lines of which nothing was found so far, all at once."""
    missed = [line for line, ids in zip(lines, found, strict=True) if not ids]
    if missed:
        more = search(missed)
        found[:] = [ids or more.get(line, []) for line, ids in zip(lines, found, strict=True)]


def _readings(line: str) -> tuple[str, ...]:
    """What a line may say, the usual first: names of files may have blanks at their ends, and backslashes."""
    stripped = line.strip()
    usual = stripped.replace("\\", "/").removeprefix("./").removeprefix("images/")
    return (usual,) if usual == line else (usual, stripped, line)


def _by_path(line: str, endings: Mapping[str, str]) -> list[str]:
    for name in _readings(line):
        stem, _, ending = name.rpartition(".")
        ids = [id_ for id_ in (name, stem) if id_ in endings and (id_ == name or endings[id_] == f".{ending}")]
        if ids:
            return ids
    return []


def _by_last_part(lines: list[str], endings: Mapping[str, str]) -> dict[str, list[str]]:
    """Line -> the ids whose last part it names."""
    found: dict[str, list[str]] = defaultdict(list)
    names = {name for line in lines for name in _readings(line)}
    for id_, ending in endings.items():
        stem = id_.rpartition("/")[2]
        for name in {stem, stem + ending} & names:
            found[name].append(id_)
    return {line: next((found[name] for name in _readings(line) if name in found), []) for line in lines}


def _by_normal_form(lines: list[str], endings: Mapping[str, str]) -> dict[str, list[str]]:
    """Line -> the ids that it names but for Unicode normalisation."""
    names = {line: composed(line) for line in lines if not line.isascii()}
    if not names:
        return {}
    ids = by_normal_form(endings)
    plain = {name: endings[several[0]] for name, several in ids.items()}
    deeper = _by_last_part([*names.values()], plain)
    found = {line: _by_path(name, plain) or deeper[name] for line, name in names.items()}
    return {line: [id_ for name in several for id_ in ids[name]] for line, several in found.items()}


def _only(ids: list[str], line: str, path: Path, folder: Path, endings: Mapping[str, str]) -> str:
    line = line.strip()
    if len(ids) == 1:
        return ids[0]
    if ids and same_but_for_spelling(ids):
        raise ValueError(
            f"{path} names {shown(line)}, which may be {' or '.join(map(ascii, ids))} in {folder}: they differ in "
            "Unicode normalisation alone. Rename one of the files"
        )
    if ids:
        raise ValueError(
            f"{path} names {shown(line)}, which may be {' or '.join(ids)}; write the path inside {folder.name}/"
        )
    near = namesake(_readings(line)[0], endings)
    hint = f"did you mean {near!r}?" if near else f"a line is a name like {next(iter(endings))!r}."
    raise ValueError(
        f"{path} names {shown(line)}, but {folder} has no such image; {hint} Add the image, or take the line out"
    )
