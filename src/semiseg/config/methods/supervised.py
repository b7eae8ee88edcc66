"""Options of the supervised baseline."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SupervisedOptions:
    """Labelled images only: the floor every other method must beat."""
