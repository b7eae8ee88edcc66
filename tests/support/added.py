"""A method that a file adds, trained in ranks."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from support import ranks
from support.ranks import SCENARIOS, WARM, Scenario


def add(script: Path) -> dict[str, Any]:
    """Run a file that adds a method, as `import` would. What it defines"""
    module = ModuleType(script.stem)
    sys.modules[script.stem] = module
    exec(compile(script.read_text("utf-8"), str(script), "exec"), module.__dict__)
    return module.__dict__


def train(script: Path, folder: Path, name: str) -> dict[str, Any]:
    """Train the method `name` of a file on this rank: its trace and its state."""
    add(script)
    SCENARIOS[name] = Scenario(name, {**WARM, "unlabeled_weight": 0.5})
    try:
        return ranks.train(folder, name)
    finally:
        del SCENARIOS[name]
