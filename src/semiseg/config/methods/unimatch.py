"""Options of UniMatch."""

from dataclasses import dataclass

from semiseg.config.checks import ShareBelowOne
from semiseg.config.methods.fixmatch import FixMatchOptions


@dataclass(frozen=True)
class UniMatchOptions(FixMatchOptions):
    """UniMatch (Yang et al., CVPR 2023)."""

    feature_dropout: ShareBelowOne = 0.5
    """Share of the encoder's channels that the perturbed features lack."""
