"""Text files that somebody wrote, lists and classes.txt: what may be wrong with them, in words."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEAD = 65_536  # bytes that tell text from other files, so that no tar of a terabyte is read
_BOM = "\ufeff"
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\0\0\xfe\xff": "UTF-32"}


@contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """What the system refuses in here becomes a ValueError that names the file; a missing one stays an OSError.

    `path` is named where the system does not say which file it means.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except PermissionError as error:
        where = error.filename or path
        raise ValueError(
            f"{where} may not be read: you have no permission for it, or for a folder on the way. It may well be "
            f"there. Ask its owner for the permission, or give it: chmod u+rX {where}"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{error.filename or path} cannot be read: {error.strerror}. Try again, or restore it from a copy"
        ) from error


def is_text_file(path: Path) -> bool:
    """Whether a file is there. Raises ValueError where one may not look, or something that is no file has the name."""
    if "\0" in str(path):
        return False
    try:
        with explained(path):
            mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ValueError(f"{path} is a link to nothing. Restore the file it leads to, or remove the link") from None
        return False
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no file, but a pipe, a device or the like"
        raise ValueError(f"{path} is {kind}; expected a text file. Name the file, or move this away")
    return True


def text_lines(path: Path) -> list[str]:
    r"""The lines of a text file in UTF-8, without their ends: \n, \r\n or \r.

    Raises ValueError for a file that is something else, such as UTF-16 or a picture.
    """
    with explained(path), path.open("rb") as file:
        content = file.read(_HEAD)
        wide = next((name for mark, name in _WIDE.items() if content.startswith(mark)), None)
        if wide is None and b"\0" not in content:
            content += file.read()
    if wide is not None:
        raise _no_text(path, f"it begins as {wide}")
    if b"\0" in content:
        raise _no_text(path, "it holds NUL bytes, as pictures, archives and UTF-16 do")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _no_text(path, f"byte 0x{content[error.start]:02x} in line {line} is none of UTF-8") from error
    # Not str.splitlines, which also cuts at characters that names of files may have. A byte order mark stands at the
    # beginning, and wherever a file that had one was appended.
    return [line.removeprefix(_BOM) for line in re.split(r"\r\n|\r|\n", text)]


def _no_text(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is not a text file in UTF-8: {why}. Save it as plain text in UTF-8, or name another")
