"""Options of UniMatch V2."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Share, ShareBelowOne
from semiseg.config.methods.shared import PrototypesBeside, TeacherOptions


@dataclass(frozen=True)
class UniMatchV2Options(TeacherOptions, PrototypesBeside):
    """UniMatch V2 (Yang et al., TPAMI 2025)."""

    ema_decay: ShareBelowOne = field(default=0.996, metadata=NOT_COUNTED)
    """The teacher keeps this share of itself per step; early in a run less, 1 - 1/(step + 1)."""
    complementary_dropout: bool = True
    """Half of the images lose in one strong view the half of the encoder's channels that the other view keeps."""
    threshold: Share = field(default=0.95, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches."""

    always_partner = True
