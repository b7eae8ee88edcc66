"""Options of FixMatch."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED
from semiseg.config.methods.shared import PrototypesBeside, UnlabeledOptions, require_probability


@dataclass(frozen=True)
class FixMatchOptions(UnlabeledOptions, PrototypesBeside):
    """FixMatch (Sohn et al. 2020), as UniMatch's authors apply it to segmentation."""

    threshold: float = field(default=0.95, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches."""

    always_partner = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability("threshold", self.threshold)
