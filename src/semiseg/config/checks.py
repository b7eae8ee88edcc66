"""What every option uses: its check, and what stands beside a field."""

from __future__ import annotations


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition`: for the user's mistakes in an option."""
    if not condition:
        raise ValueError(message)


FREE_ON_RESUME = {"resume": "free"}
"""Metadata of an option that changes nothing in the weights: it may differ when a run is resumed."""
NOT_COUNTED = {"costs": "free"}
"""Metadata of an option of a method, network, loss or crop that only scales or selects: a step costs the same."""
