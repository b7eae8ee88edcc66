"""Options of UniMatch V2."""

from __future__ import annotations

from dataclasses import dataclass

from semiseg.config.methods.fixmatch import FixMatchOptions
from semiseg.config.methods.shared import TeacherOptions


@dataclass(frozen=True)
class UniMatchV2Options(TeacherOptions, FixMatchOptions):
    """UniMatch V2 (Yang et al., TPAMI 2025)."""

    ema_decay: float = 0.996
    """The teacher keeps this share of itself per step; early in a run less, 1 - 1/(step + 1)."""
    complementary_dropout: bool = True
    """Half of the images lose in one strong view the half of the encoder's channels that the other view keeps."""
