"""Options of CutMix-Seg."""

from dataclasses import dataclass, field
from typing import Literal

from semiseg.config.checks import NOT_COUNTED, Share
from semiseg.config.methods.shared import AdaptOptions, TeacherOptions


@dataclass(frozen=True)
class CutMixOptions(AdaptOptions, TeacherOptions):
    """CutMix-Seg (French et al. 2020)."""

    threshold: Share = field(default=0.97, metadata=NOT_COUNTED)
    """The batch's loss is scaled by the share of its pixels at or above this confidence."""
    confidence: Literal["batch", "pixel"] = "batch"
    """Average that indicator over the batch as the original does, or mask pixel by pixel."""
    strong: bool = True
    """Jitter and blur the student's copy."""

    always_partner = True
