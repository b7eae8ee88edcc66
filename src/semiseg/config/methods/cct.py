"""Options of CCT."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, require
from semiseg.config.methods.shared import UnlabeledOptions, is_background


@dataclass(frozen=True)
class CCTOptions(UnlabeledOptions):
    """Cross-Consistency Training (Ouali et al. 2020): auxiliary decoders on perturbed features."""

    unlabeled_weight: float = field(default=30.0, metadata=NOT_COUNTED)
    """Weight of the mean squared difference of the two softmaxes, after its ramp."""
    ramp: float = field(default=0.1, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which the weight rises as exp(-5 (1 - t)^2)."""
    vat: int = 2
    """Decoders whose features are shifted to where their prediction changes most."""
    vat_radius: float = 2.0
    """Length of that shift over all values of an image's map."""
    channel_dropout: int = 6
    """Decoders that lose half of the channels (DropOut2d)."""
    guided_cutout: int = 6
    """Decoders that lose a part of each object's bounding box. Needs a background."""
    context_masking: int = 2
    """Decoders that see only the objects. Needs a background."""
    object_masking: int = 2
    """Decoders that see only the background. Needs one."""
    feature_drop: int = 6
    """Decoders that lose the most active places."""
    feature_noise: int = 6
    """Decoders whose features are changed by up to 30 %."""
    background: bool | None = None
    """Class 0 is the background, what is left between the objects. None: it is if its name is `background`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ramp <= 1, "method.ramp is a share of the steps: between 0 and 1")
        require(self.vat_radius >= 0, "method.vat_radius cannot be negative")
        require(min(self.decoders.values()) >= 0, "method: a family cannot have fewer than 0 decoders")

    def has_background(self, classes: tuple[str, ...]) -> bool:
        """Whether the first of `classes` is a background."""
        return is_background(classes[0], self.background)

    @property
    def decoders(self) -> dict[str, int]:
        """Family -> how many decoders; families that need a background come last."""
        plain = ("vat", "channel_dropout", "feature_drop", "feature_noise")
        return {name: getattr(self, name) for name in (*plain, *NEED_BACKGROUND)}


NEED_BACKGROUND = ("guided_cutout", "context_masking", "object_masking")
"""Families that tell objects from the background."""
