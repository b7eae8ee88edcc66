"""Options of PC2Seg."""

from dataclasses import dataclass, field
from typing import Annotated

from semiseg.config.checks import NOT_COUNTED, Count, Positive, Range, Weight
from semiseg.config.methods.shared import UnlabeledOptions, Width


@dataclass(frozen=True)
class PC2SegOptions(UnlabeledOptions):
    """PC2Seg (Zhong et al. 2021), re-implemented from the description: no code was released. The constants are ours."""

    contrast_weight: Weight = 0.1
    """Weight of the contrastive loss."""
    temperature: Positive = field(default=0.1, metadata=NOT_COUNTED)
    """Divides the cosines of the contrastive loss."""
    negatives: Count = 200
    """How many negatives an anchor's loss stands for."""
    grid: Annotated[int, Range(1, 2**15)] = 16
    """One random point per cell of a grid x grid of each image is an anchor, and a negative for the others' anchors."""
    projection: Width = 128
    """Channels of the projected features."""

    always_partner = True  # negatives come from the batch's other images
