"""Options of UniMatch."""

from dataclasses import dataclass

from semiseg.config.checks import require
from semiseg.config.methods.fixmatch import FixMatchOptions


@dataclass(frozen=True)
class UniMatchOptions(FixMatchOptions):
    """UniMatch (Yang et al., CVPR 2023)."""

    feature_dropout: float = 0.5
    """Share of the encoder's channels that the perturbed features lack."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.feature_dropout < 1, "method.feature_dropout is a share below 1")
