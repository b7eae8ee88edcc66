"""The result of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of one benchmark, as they are printed and written to JSON."""

    title: str
    rows: list[dict[str, Any]]  # column -> value, the same columns in every row
    note: str = ""
