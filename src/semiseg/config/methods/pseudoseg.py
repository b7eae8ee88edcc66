"""Options of PseudoSeg."""

from dataclasses import dataclass, field

from semiseg.config.checks import NOT_COUNTED, Positive, Share, Weight
from semiseg.config.methods.shared import UnlabeledOptions, Width, is_background


@dataclass(frozen=True)
class PseudoSegOptions(UnlabeledOptions):
    """PseudoSeg (Zou et al. 2021): soft labels fused from the decoder and from class activation maps."""

    temperature: Positive = field(default=0.5, metadata=NOT_COUNTED)
    """The fused distribution is sharpened: raised to 1 / temperature, and normalised again."""
    cutout: Share = 0.195
    """Side of the square cut out of the strong view, as a share of the crop's shorter side (100 of 513 pixels)."""
    presence_weight: Weight = field(default=1.0, metadata=NOT_COUNTED)
    """Weight of the image classifier's loss, the one of the two on activation maps that the encoder learns from."""
    attention_channels: Width = 128
    """Channels of the queries and keys by which the activation maps are refined."""
    background: bool | None = None
    """Class 0 is the background, what is left between the objects. None: it is if its name is `background`."""

    def has_background(self, classes: tuple[str, ...]) -> bool:
        """Whether the first of `classes` is a background."""
        return is_background(classes[0], self.background)
