"""The check that every option uses."""

from __future__ import annotations


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition`: for the user's mistakes in an option."""
    if not condition:
        raise ValueError(message)
