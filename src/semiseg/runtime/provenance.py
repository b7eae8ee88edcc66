"""Where a result came from: versions, hardware, commit, date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("semiseg", "torch", "torchvision", "timm", "numpy", "opencv-python-headless", "scikit-learn")


def provenance(device: torch.device) -> dict[str, Any]:
    """Plain types for a JSON file."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
            "torch": torch.__version__,  # says for which CUDA it was built
        },
        "hardware": {"device": device_name(device), "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def device_name(device: torch.device) -> str:
    """As its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The commit of the checkout this package runs from, `-dirty` after it if files differ; None outside of one."""
    # A package installed somewhere below another project's checkout would otherwise take that project's commit.
    if _git("ls-files", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """What git says in this file's folder; None for nothing, and where there is no git or no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
