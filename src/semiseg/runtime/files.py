"""Files written whole or not at all, and values in JSON's types."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a file that becomes `path` only when it is whole and on the disk.

    What a killed process left of it, `.NAME.tmp`, is overwritten by the next call for the same path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # a full disk, or Ctrl-C: half a file is of no use
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file atomically; NaN becomes null."""
    text = json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays by name into a compressed .npz file, atomically."""
    made = {name: np.asarray(values) for name, values in arrays.items()}
    write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **made))


def plain(value: Any) -> Any:
    """The value in JSON's types; a number that is not finite becomes None, which JSON can say."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
