"""Options of PC2Seg."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import UnlabeledOptions


@dataclass(frozen=True)
class PC2SegOptions(UnlabeledOptions):
    """PC2Seg (Zhong et al. 2021), re-implemented from the description: no code was released. The constants are ours."""

    contrast_weight: float = 0.1
    """Weight of the contrastive loss."""
    temperature: float = field(default=0.1, metadata=NOT_COUNTED)
    """Divides the cosines of the contrastive loss."""
    negatives: int = 200
    """How many negatives an anchor's loss stands for."""
    grid: int = 16
    """One random point per cell of a grid x grid of each image is an anchor, and a negative for the others' anchors."""
    projection: int = 128
    """Channels of the projected features."""

    always_partner = True  # negatives come from the batch's other images

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.contrast_weight >= 0, "method.contrast_weight cannot be negative")
        require(self.temperature > 0, "method.temperature must be positive")
        require(min(self.negatives, self.grid, self.projection) >= 1, "method: negatives, grid and projection: >= 1")
