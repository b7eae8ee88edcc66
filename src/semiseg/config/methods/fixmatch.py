"""Options of FixMatch."""

from __future__ import annotations

from dataclasses import dataclass

from semiseg.config.methods.shared import PlugInOptions, require_probability


@dataclass(frozen=True)
class FixMatchOptions(PlugInOptions):
    """FixMatch (Sohn et al. 2020), as UniMatch's authors apply it to segmentation."""

    threshold: float = 0.95
    """Confidence from which a pseudo-label teaches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability("threshold", self.threshold)

    @property
    def needs_partner(self) -> bool:
        """Always."""
        return True
