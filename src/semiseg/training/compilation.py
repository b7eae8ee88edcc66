"""Networks under torch.compile: which, how, and where not."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from semiseg.config.options import require
from semiseg.parts.segmentor import Segmentor

HOW: dict[str, Any] = {
    # A graph of its own for each shape: one for several would depend on which of them came first, and so would the bits
    # of a run on where it was resumed.
    "dynamic": False,
    "options": {"fallback_random": True},  # dropout draws the numbers that it draws uncompiled
}
COMPILER = "clang++" if sys.platform == "darwin" else "g++"  # the one that torch looks for, unless CXX names another


def compile_networks(module: nn.Module) -> None:
    """Let every network in `module`, averaged ones too, be compiled at its first call; the keys of its state stay.

    What was compiled before is forgotten: all networks share one limit on the number of graphs, beyond which torch runs
    them uncompiled. Raises ValueError where there is no C++ compiler, which torch's has to have.
    """
    require(
        has_compiler(),
        f"train.compile needs a C++ compiler, and {_compiler()} is not there: install {COMPILER}, name yours in the "
        "environment variable CXX, or leave --train.compile out",
    )
    torch.compiler.reset()
    for part in module.modules():
        if isinstance(part, Segmentor):
            part.compile(**HOW)


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch will look for."""
    return shutil.which(_compiler()) is not None


def _compiler() -> str:
    return os.environ.get("CXX") or COMPILER


def uncompiled() -> AbstractContextManager:
    """In here compiled networks run as they are written.

    For whole images: each of their sizes would take a compilation, and what is saved for use is not compiled either.
    """
    return torch.compiler.set_stance("force_eager")
