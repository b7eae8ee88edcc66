"""What is printed of names."""

import logging
from io import StringIO

import pytest
from rich.console import Console

from semiseg.runtime.progress import Progress
from semiseg.runtime.screen import PrintableFormatter, printable, terminal

HOSTILE = {
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "a\rb": "a\\rb",
    "a\nb": "a\\nb",
    "a\x9b31m": "a\\x9b31m",
    "gpj.\u202eexe": "gpj.\\u202eexe",
    "a\udcff.png": "a\\xff.png",
    "a\u2028b": "a\\u2028b",
    "[red]a[/red].png": "[red]a[/red].png",
    "[/]": "[/]",
    "straße 日本 🙂 e\u0301.png": "straße 日本 🙂 e\u0301.png",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_terminal_obeys_is_spelt_out_and_all_else_stays(name):
    assert printable(name) == HOSTILE[name]
    printable(name).encode("utf-8")


def test_lines_of_a_message_stay():
    assert printable("one\ntwo\x1b", "\n") == "one\ntwo\\x1b"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", [name for name in HOSTILE if "\n" not in name])
def test_a_bar_says_names_as_they_are_written(name, terminal):
    console = Console(file=StringIO(), width=200, force_terminal=terminal, color_system=None, legacy_windows=False)
    bar = Progress(name, 1, console=console)
    with bar:
        bar.say(f"failed: {name}")
        bar.step(1, {}, note=f"note {name}")
    shown = console.file.getvalue()
    assert f"failed: {HOSTILE[name]}" in shown
    assert shown.count(HOSTILE[name]) >= 3  # title and note too
    assert "\x1b[31m" not in shown
    assert "\x1b]0" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("name", HOSTILE)
def test_warnings_too(name):
    record = logging.LogRecord("semiseg", logging.WARNING, "", 0, "the folder %s", (name,), None)
    assert PrintableFormatter().format(record) == f"the folder {printable(name, chr(10))}"


def test_a_notebook_gets_plain_lines(monkeypatch, capsys):
    """Rich would show each in a frame of its own, or a live line's characters."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    console = terminal()
    assert (console.is_jupyter, console.is_terminal) == (False, False)
    with Progress("predict", 2, console=console) as bar:
        bar.step(2, {})
    assert capsys.readouterr().out.startswith("predict step 2/2")
