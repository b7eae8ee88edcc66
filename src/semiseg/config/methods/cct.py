"""Options of CCT."""

from dataclasses import dataclass, field
from typing import Annotated

from semiseg.config.checks import NOT_COUNTED, Range, Share, Weight
from semiseg.config.methods.shared import UnlabeledOptions, is_background

Decoders = Annotated[int, Range(0, 1000)]
"""Of one family."""


@dataclass(frozen=True)
class CCTOptions(UnlabeledOptions):
    """Cross-Consistency Training (Ouali et al. 2020): auxiliary decoders on perturbed features."""

    unlabeled_weight: Weight = field(default=30.0, metadata=NOT_COUNTED)
    """Weight of the mean squared difference of the two softmaxes, after its ramp."""
    ramp: Share = field(default=0.1, metadata=NOT_COUNTED)
    """Share of the steps after warm-up over which the weight rises as exp(-5 (1 - t)^2)."""
    vat: Decoders = 2
    """Decoders whose features are shifted to where their prediction changes most."""
    vat_radius: Weight = 2.0
    """Length of that shift over all values of an image's map."""
    channel_dropout: Decoders = 6
    """Decoders that lose half of the channels (DropOut2d)."""
    guided_cutout: Decoders = 6
    """Decoders that lose a part of each object's bounding box. Needs a background."""
    context_masking: Decoders = 2
    """Decoders that see only the objects. Needs a background."""
    object_masking: Decoders = 2
    """Decoders that see only the background. Needs one."""
    feature_drop: Decoders = 6
    """Decoders that lose the most active places."""
    feature_noise: Decoders = 6
    """Decoders whose features are changed by up to 30 %."""
    background: bool | None = None
    """Class 0 is the background, what is left between the objects. None: it is if its name is `background`."""

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
