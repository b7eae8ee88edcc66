"""Options of the supervised baseline."""

from dataclasses import dataclass

from semiseg.config.checks import Options


@dataclass(frozen=True)
class SupervisedOptions(Options):
    """Labelled images only: the floor every other method must beat."""
