"""The vocabulary: what passes between the rooms.

Letters used in every shape comment: B batch, C classes, K prototypes per class, D feature channels, N sampled points,
or the bands of an image (3 unless the data say otherwise), H x W pixels, h x w feature pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # who only reads data asks for IGNORE alone, and is there two seconds earlier without torch
    import torch
    from torch import Tensor

IGNORE = 255
"""The label of a pixel that has none: it enters no loss, no metric and no prototype."""


class LabeledBatch(NamedTuple):
    """Weak views of labelled images. A tuple, so that DDP can pass it through."""

    image: Tensor  # (B, N, H, W) float32, normalised by ImageNet's figures, whatever the network
    label: Tensor  # (B, H, W) int64, 0..C-1 or IGNORE
    index: Tensor  # pyright: ignore  # (B,) int64, position in the labelled list; hides tuple.index, which nobody needs
    pixels: Tensor | None = None
    """What a mean over labelled pixels divides by, a scalar, where this is a part of a step; None: its own pixels."""

    def to(self, device: torch.device) -> LabeledBatch:
        """The same batch on `device`."""
        image, label, index = (tensor.to(device, non_blocking=True) for tensor in self[:3])
        return LabeledBatch(image, label, index, None if self.pixels is None else self.pixels.to(device))


class UnlabeledBatch(NamedTuple):
    """Weak views of unlabelled images."""

    image: Tensor  # (B, N, H, W) float32, normalised by ImageNet's figures, whatever the network
    valid: Tensor  # (B, H, W) bool, False where the crop left the image
    index: Tensor  # pyright: ignore  # (B,) int64, position in the unlabelled list
    partner: UnlabeledBatch | None = None
    """As many images that the method asked for (`WantsImages.wanted`), one for each; None: it asked for none."""

    def each(self, change: Callable[[Tensor], Tensor]) -> UnlabeledBatch:
        """The batch of what `change` makes of every tensor, the partner's too."""
        changed = (change(tensor) for tensor in self[:3])
        return UnlabeledBatch(*changed, partner=None if self.partner is None else self.partner.each(change))

    def to(self, device: torch.device) -> UnlabeledBatch:
        """The same batch on `device`."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class SegmentationOutput:
    """What a segmentor says of a batch of images of H x W pixels."""

    logits: Tensor  # (B, C, H, W), always at input size
    features: Tensor  # (B, D, h, w), what the classifier reads
    aux: Tensor | None = None  # (B, C, H, W), the auxiliary head's logits
    deepest: Tensor | None = None  # (B, X, h', w'), the encoder's last map of the images that came; with gradient only


@dataclass(frozen=True)
class PseudoLabel:
    """A teacher's hard labels; the three maps are mixed as one value.

    Of full size and many at a time, so they are kept in four bytes a pixel; int64 and float32 would take thirteen.
    """

    label: Tensor  # (B, H, W) uint8, 0..C-1, or IGNORE where a mix blanked the image
    confidence: Tensor  # (B, H, W) float16, in [0, 1]
    valid: Tensor  # (B, H, W) bool, False on padding

    def kept(self, threshold: float | Tensor) -> Tensor:
        """Pixels that may teach: inside the image and with confidence >= threshold (Eq. 9). (B, H, W) bool

        threshold: a number, or a scalar or (B, H, W) on the same device.

        Both sides are rounded alike, so a pixel that reaches the threshold is kept whatever the dtype; in float16 one
        that is short of it by less than two roundings (4.9e-4 between 0.5 and 1) may be kept too.
        """
        limit = (  # on the device, in the confidence's own precision
            self.confidence.new_full((), threshold)
            if isinstance(threshold, float | int)
            else threshold.to(self.confidence.dtype)
        )
        return self.valid & (self.label != IGNORE) & (self.confidence >= limit)


@dataclass(frozen=True)
class Clock:
    """The only time and the only randomness a method sees.

    `generator` lives on the CPU and is seeded from (seed, step) by whoever makes the clock, so a resumed run draws what
    the uninterrupted one would have drawn. Several processes draw the same from it: what the whole batch needs, of
    which each takes its part.
    """

    step: int
    total_steps: int
    generator: torch.Generator

    def at(self, step: int) -> Clock:
        """The same clock at another step."""
        return replace(self, step=step)


@dataclass(frozen=True)
class StepResult:
    """What a method makes of one step: the loss is the sum of `losses`, which are already weighted."""

    losses: Mapping[str, Tensor]  # name -> scalar with gradient
    stats: Mapping[str, Tensor]  # name -> detached scalar, for the record only

    @property
    def loss(self) -> Tensor:
        """The scalar to differentiate."""
        import torch

        return torch.stack([loss.float() for loss in self.losses.values()]).sum()
