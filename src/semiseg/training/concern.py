"""One thing that goes wrong in a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Concern:
    """What the monitor warns of."""

    cause: str
    """What a warning is given once for."""
    size: float
    """How bad, in the cause's own unit; a warning is repeated where it has doubled."""
    words: str
    """A sentence, without its full stop."""
    collapse: bool = False
    """Whether the guard may lower the weight for it."""
