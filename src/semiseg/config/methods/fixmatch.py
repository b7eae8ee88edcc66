"""Options of FixMatch."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Share
from semiseg.config.methods.shared import PrototypesBeside, UnlabeledOptions


@dataclass(frozen=True)
class FixMatchOptions(UnlabeledOptions, PrototypesBeside):
    """FixMatch (Sohn et al. 2020), as UniMatch's authors apply it to segmentation."""

    threshold: Share = field(default=0.95, metadata=NOT_COUNTED)
    """Confidence from which a pseudo-label teaches."""

    always_partner = True
