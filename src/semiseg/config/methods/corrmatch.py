"""Options of CorrMatch."""

from dataclasses import dataclass, field
from typing import Literal

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import UnlabeledOptions, require_probability


@dataclass(frozen=True)
class CorrMatchOptions(UnlabeledOptions):
    """CorrMatch (Sun et al., CVPR 2024)."""

    threshold: float = field(default=0.85, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches, at the start; it follows the batches' confidences."""
    threshold_momentum: float = 0.999
    """The threshold keeps this share of itself per step."""
    feature_dropout: float = 0.5
    """Share of the encoder's channels that the perturbed features lack."""
    regions: int = 128
    """So many places are drawn per image, over whose regions labels may spread. 0: labels do not spread."""
    correlation_channels: int = 256
    """Width of the projection from which correlations are computed."""
    soft_target: Literal["mixed", "unmixed"] = "mixed"
    """What the strong view's distribution is held against: the weak view's, mixed alike, or unmixed as in the code."""

    always_partner = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability("threshold", self.threshold)
        require(0 <= self.threshold_momentum <= 1, "method.threshold_momentum: between 0 and 1")
        require(0 <= self.feature_dropout < 1, "method.feature_dropout is a share below 1")
        require(0 <= self.regions < 2**15, "method.regions must be between 0 and 32767")
        require(self.correlation_channels >= 1, "method.correlation_channels must be at least 1")
