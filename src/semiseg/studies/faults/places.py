"""Disks that are full or may not be written to, where the system lets this process make them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """`folder` as a file system of its own of `size` bytes, in memory; False where that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield made
    finally:
        if made:
            _unmount(folder)


def enlarge(folder: Path, size: int) -> None:
    """Give a small disk `size` bytes."""
    if not _mount("-o", f"remount,size={size}", str(folder)):
        raise OSError(f"cannot make the disk at {folder} larger")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[bool]:
    """`folder` cannot be written to in here; False where that is not permitted. Permissions would not hold for root."""
    bound = _mount("--bind", str(folder), str(folder))
    try:
        yield bound and _mount("-o", "remount,ro,bind", str(folder))
    finally:
        if bound:
            _unmount(folder)


def _mount(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
