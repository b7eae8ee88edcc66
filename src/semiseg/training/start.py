"""The start of a training: the data are read and told of while torch is imported.

This file imports no torch. `experiment.train` is the training itself.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread

from rich.console import Console

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.methods.shared import UnlabeledOptions
from semiseg.config.recipe import Config
from semiseg.data import open_dataset, split_in_words
from semiseg.data.doctor.examine import check_before_training
from semiseg.runtime.launch import is_launched
from semiseg.runtime.screen import printable, terminal

SLOW = ("torch", "torch._dynamo", "timm")
"""What takes seconds to import; `_dynamo` is imported by torch's optimizers, timm by the networks."""


def train(config: Config, resume: bool = False, console: Console | None = None, *, longer: bool = False) -> Path:
    """`experiment.train` of a config by names, whose first words come before torch is there. Raises what it raises."""
    opened = None
    if not is_launched() and config.data.on_error == "stop":  # else processes share the looking, by torch
        # No module of this package is imported in the thread: two threads that import one module wait for each other.
        imports = Thread(target=_import_slow, daemon=True)
        imports.start()
        console, use_unlabeled = console or terminal(), issubclass(METHOD_OPTIONS[config.method], UnlabeledOptions)
        if config.data.dataset == "folder":
            check_before_training(config.data, console, use_unlabeled)
        opened = open_dataset(config.data, use_unlabeled)
        for line in split_in_words(opened):
            console.print(printable(line, "\n"), markup=False, highlight=False, soft_wrap=not console.is_terminal)
        imports.join()
    from semiseg.training import experiment

    return experiment.train(config, resume, console, longer=longer, opened=opened)


def _import_slow() -> None:
    for name in SLOW:
        with suppress(ImportError):  # is said where it is needed
            import_module(name)
