"""Options of UniMatch V2."""

from __future__ import annotations

from dataclasses import dataclass

from semiseg.method_options.shared import PlugInOptions, TeacherOptions, require_probability


@dataclass(frozen=True)
class UniMatchV2Options(TeacherOptions, PlugInOptions):
    """UniMatch V2 (Yang et al., TPAMI 2025)."""

    ema_decay: float = 0.996
    """The teacher keeps this share of itself per step; early in a run less, 1 - 1/(step + 1)."""
    threshold: float = 0.95
    """Confidence from which a pseudo-label teaches."""
    complementary_dropout: bool = True
    """Half of the images lose in one strong view the half of the encoder's channels that the other view keeps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability("threshold", self.threshold)

    @property
    def needs_partner(self) -> bool:
        """Always."""
        return True
