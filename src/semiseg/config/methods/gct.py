"""Options of Guided Collaborative Training."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import PairOptions, require_probability


@dataclass(frozen=True)
class GCTOptions(PairOptions):
    """Guided Collaborative Training (Ke et al. 2020)."""

    unlabeled_weight: float = field(default=100.0, metadata=NOT_COUNTED)
    """Weight of the dynamic consistency, on labelled images too, after its ramp."""
    ramp: float = field(default=0.15, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which that weight rises as exp(-5 (1 - t)^2); the original's is 3 of 20
    epochs."""
    correction_weight: float = 1.0
    """Weight of the flaw correction."""
    detector_weight: float = 10.0
    """Weight of the flaw detector's own loss."""
    flaw_threshold: float = 0.6
    """A pixel is flawed from this height of its flaw map, which lies between 0 and 1."""
    detector_lr: float = 1e-4
    """Learning rate of the flaw detector's Adam; it falls as the others do."""
    detector_channels: int = 64
    """Channels of the flaw detector's first layer; its deepest has eight times as many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ramp <= 1, "method.ramp is a share of the steps: between 0 and 1")
        require(self.correction_weight >= 0, "method.correction_weight cannot be negative")
        require(self.detector_weight >= 0, "method.detector_weight cannot be negative")
        require_probability("flaw_threshold", self.flaw_threshold)
        require(self.detector_lr > 0, "method.detector_lr must be positive")
        channels = self.detector_channels
        require(channels >= 2, f"method.detector_channels is {channels}: at least 2, for two kinds of norm")
