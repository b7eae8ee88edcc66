"""Text for the screen: names of files and classes are other people's, and a terminal obeys some characters."""

from __future__ import annotations

import contextlib
import logging
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_OBEYED = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode's kinds of characters that are not drawn: control, format (among them those that turn the writing's
direction), surrogates (bytes of a name that is no UTF-8), private ones, and separators of lines."""


def printable(text: object, kept: str = "") -> str:
    """`text` as one can print it anywhere: every character that would not be drawn is spelt out, as `\\x1b`.

    `kept` are characters to leave as they are, such as the line feeds of a message of several lines.
    """
    return "".join(
        char if char in kept or unicodedata.category(char) not in _OBEYED else _spelt(char) for char in str(text)
    )


def _spelt(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def terminal() -> Console:
    """Where progress goes unless something else is said: standard output.

    In a notebook it gets plain lines: Rich would give every line a frame of its own there.
    """
    from rich.console import Console

    made = Console()
    return Console(force_jupyter=False, force_terminal=False) if made.is_jupyter else made


def say(console: Console, text: str) -> None:
    """Print a line, whole where it goes into a file."""
    console.print(printable(text, "\n"), markup=False, highlight=False, soft_wrap=not console.is_terminal)


class PrintableFormatter(logging.Formatter):
    """Warnings as one can print them anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text, whatever names are in it."""
        return printable(super().format(record), "\n")


@contextlib.contextmanager
def without_warnings(name: str) -> Iterator[None]:
    """In here the logger `name` passes on errors alone."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
