"""The command line: parse, run one command, and say what went wrong.

The options of `train` are generated from the dataclasses, so help, types and the nearest name to a mistyped one come
from cyclopts, and only what was typed is handed on as overrides. torch is imported by the commands that compute, never
by `--help` or by a mistake in the options.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnknownOptionError

from semiseg.cli import after, analyse, commands, own, selftest
from semiseg.cli.check import check
from semiseg.cli.options import HELP_ALL, join_booleans, named_config, with_options
from semiseg.cli.predict import predict
from semiseg.cli.reproduce import reproduce
from semiseg.config.fields import GONE, RENAMED, methods_with, option_types, repair
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.runtime.files import WriteError
from semiseg.runtime.launch import AloneError, first_to_fail, is_first, is_launched_here, launch
from semiseg.runtime.screen import PrintableFormatter, printable

PIPE_CLOSED = 141  # 128 + SIGPIPE, as of a program that the signal ends


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command, `tokens` after `semiseg`.

    Returns the exit status: 0, 1 where a part failed, 2 for a mistake, 128 + its number if a signal stopped it (130:
    Ctrl-C).
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    tokens = join_booleans(sys.argv[1:] if tokens is None else tokens)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())
    try:
        status = build_app(tokens)(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except AloneError as alone:
        status = launch(main, tokens, alone.devices)
        return _stopped(tokens, status) if status > 128 else status
    except KeyboardInterrupt as error:
        status = 128 + getattr(error, "number", signal.SIGINT)
        return _stopped(tokens, status) if is_first() and not is_launched_here() else status
    except Exception as error:
        if isinstance(error, OSError) and (broken := _broken_output()):
            return _without_output(broken)
        if not first_to_fail():
            return 1
        if _is_killed_loader(error):
            _say(_LOADER_KILLED)
            _how_to_go_on(tokens)
            return 1
        if not _is_users(error):
            raise
        _say(_explain(error, tokens))
        if isinstance(error, WriteError):
            _how_to_go_on(tokens)
        return 2
    return status if isinstance(status, int) else 0  # most commands return nothing


_LOADER_KILLED = (
    "a process that loads images was killed. SIGKILL often means that the machine ran out of memory: lower "
    "--train.workers or the batch sizes"
)


def _say(message: str) -> None:
    """The error in one line, whatever stands in the name of a file."""
    print("semiseg: error:", printable(message), file=sys.stderr)


def build_app(tokens: Sequence[str] = ()) -> App:
    """The application; `train` has the options of the recipe and the method that `tokens` name."""
    app = App(
        name="semiseg",
        help="Semantic segmentation from a few labelled images and many unlabelled ones.",
        help_flags=("--help", "-h", HELP_ALL),
        help_format="markdown",  # paragraphs of a docstring are filled to the width of the terminal
        default_parameter=Parameter(negative_iterable=()),
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `main` tells how to go on
    )
    for command in (own.train, commands.compare, reproduce, commands.estimate, after.evaluate):
        app.command(with_options(command, tokens))
    others = (
        check,
        predict,
        after.suggest,
        commands.demo,
        commands.report,
        commands.bench,
        commands.methods,
        commands.recipes,
    )
    for command in others:
        app.command(with_options(command, tokens))
    data = App(name="data", help="Prepare very many unlabelled images.")
    for command in (commands.shard, commands.index):
        data.command(with_options(command, tokens))
    app.command(data)
    analysis = App(name="analyse", help="Look into runs as the paper's Table 5 and Fig. 2, 4 and 5 do.")
    for command in (analyse.discrimination, analyse.embedding, analyse.pictures):
        analysis.command(with_options(command, tokens))
    app.command(analysis)
    trials = App(name="selftest", help="Try the program on this machine.")
    trials.command(selftest.faults)
    app.command(trials)
    return app


def _explain(error: Exception, tokens: Sequence[str]) -> str:
    """The error's message, unless an option is another method's, has a new spelling, or is of one run: then so."""
    if isinstance(error, OSError) and not isinstance(error, WriteError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if not isinstance(error, UnknownOptionError) or error.token is None:
        return str(error)
    keyword = error.token.keyword or ""
    key = keyword.removeprefix("--")
    if key in ("devices", "train.devices") and tokens[:1] in (["compare"], ["reproduce"]):
        return f"{keyword}: a run here has one device; --jobs says how many run at a time"
    owners = methods_with(key)
    if key in RENAMED or key in GONE or 0 < len(owners) < len(METHOD_OPTIONS):
        valid = option_types(named_config(tokens).method) if tokens[:1] in (["train"], ["estimate"]) else ()
        return f"{keyword}: {'this method has' if owners else 'there is'} no such option; {repair(key, valid)}"
    return str(error)


def _broken_output() -> OSError | None:
    """Why nothing can be printed any more; None where it can. Then the error is of another file or pipe."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _without_output(broken: OSError) -> int:
    """End after the output broke, which `head` does when it has enough, and a full disk. Returns the exit status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its end
    if isinstance(broken, BrokenPipeError):
        return PIPE_CLOSED
    _say(f"the output cannot be written: {broken.strerror}")
    return 2


def _is_killed_loader(error: Exception) -> bool:
    """Whether torch says that one of its loading processes is gone."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)
"""Errors without a file's name that no change of the program mends."""


def _is_users(error: Exception) -> bool:
    """Whether to spare the traceback: for a mistyped option, what the system says of a file, our own ValueErrors."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or error.filename is not None or error.errno in _OF_THE_MACHINE
    if not isinstance(error, ValueError):
        return isinstance(error, CycloptsError)
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return last.f_globals.get("__name__", "").startswith("semiseg.")


def _stopped(tokens: Sequence[str], status: int) -> int:
    print("\nsemiseg: stopped", file=sys.stderr)
    _how_to_go_on(tokens)
    return status


def _how_to_go_on(tokens: Sequence[str]) -> None:
    if tokens[:1] == ["train"]:
        again = [*tokens, *([] if "--resume" in tokens else ["--resume"])]
        print(f"semiseg: to go on: semiseg {shlex.join(again)}", file=sys.stderr)
    if tokens[:1] in (["compare"], ["reproduce"], ["predict"]):
        print(f"semiseg: to go on, the same again: semiseg {shlex.join(tokens)}", file=sys.stderr)
