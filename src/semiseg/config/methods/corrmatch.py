"""Options of CorrMatch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from semiseg.config.checks import NOT_COUNTED, Range, Share, ShareBelowOne
from semiseg.config.methods.shared import UnlabeledOptions, Width


@dataclass(frozen=True)
class CorrMatchOptions(UnlabeledOptions):
    """CorrMatch (Sun et al., CVPR 2024)."""

    threshold: Share = field(default=0.85, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches, at the start; it follows the batches' confidences."""
    threshold_momentum: Share = 0.999
    """The threshold keeps this share of itself per step."""
    feature_dropout: ShareBelowOne = 0.5
    """Share of the encoder's channels that the perturbed features lack."""
    regions: Annotated[int, Range(0, 2**15 - 1)] = 128
    """So many places are drawn per image, over whose regions labels may spread. 0: labels do not spread."""
    correlation_channels: Width = 256
    """Width of the projection from which correlations are computed."""
    soft_target: Literal["mixed", "unmixed"] = "mixed"
    """What the strong view's distribution is held against: the weak view's, mixed alike, or unmixed as in the code."""

    always_partner = True
