"""Options of FixMatch."""

from __future__ import annotations

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED
from semiseg.config.methods.shared import UnlabeledOptions, require_probability
from semiseg.config.prototypes import PrototypesOptions


@dataclass(frozen=True)
class FixMatchOptions(UnlabeledOptions):
    """FixMatch (Sohn et al. 2020), as UniMatch's authors apply it to segmentation."""

    threshold: float = field(default=0.95, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches."""
    prototypes: PrototypesOptions | None = None
    """The paper's prototype predictor beside this method's own, with the same pseudo-labels; on where any
    `prototypes.*` is given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability("threshold", self.threshold)

    @property
    def needs_partner(self) -> bool:
        """Always."""
        return True
