"""Options of Guided Collaborative Training."""

from dataclasses import dataclass, field
from typing import Annotated

from semiseg.config.checks import NOT_COUNTED, Positive, Range, Share, Weight
from semiseg.config.methods.shared import PairOptions


@dataclass(frozen=True)
class GCTOptions(PairOptions):
    """Guided Collaborative Training (Ke et al. 2020)."""

    unlabeled_weight: Weight = field(default=100.0, metadata=NOT_COUNTED)
    """Weight of the dynamic consistency, on labelled images too, after its ramp."""
    ramp: Share = field(default=0.15, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which that weight rises as exp(-5 (1 - t)^2); the original's is 3 of 20
    epochs."""
    correction_weight: Weight = 1.0
    """Weight of the flaw correction."""
    detector_weight: Weight = 10.0
    """Weight of the flaw detector's own loss."""
    flaw_threshold: Share = 0.6
    """A pixel is flawed from this height of its flaw map, which lies between 0 and 1."""
    detector_lr: Positive = 1e-4
    """Learning rate of the flaw detector's Adam; it falls as the others do."""
    detector_channels: Annotated[int, Range(2, 2**12)] = 64
    """Channels of the flaw detector's first layer; its deepest has eight times as many."""
