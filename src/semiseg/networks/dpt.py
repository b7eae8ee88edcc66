"""The decoder for plain ViTs: the convolutional part of DPT (Ranftl et al., ICCV 2021), as DINOv2's followers size it.

Four maps of one size become a pyramid (strides of patch / 4, / 2, 1 and x 2), and from the coarsest on each is fused
into the next finer. It differs from the paper in three ways: class and register tokens are not read, no BatchNorm is
in the residual units, and the head is one 3x3 and one 1x1 convolution, as in UniMatch V2 (Yang et al., TPAMI 2025).
Unlike there, `dropout` may drop channels before the classifier, and logits are resized once, to the image's own size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from semiseg.parts.segmentor import resize

PUBLISHED_WIDTHS = {1024: (256, 512, 1024, 1024)}
"""Widths of the pyramid by the encoder's, where they are not an eighth, a quarter, a half and all of it."""


class Reassemble(nn.Sequential):
    """Tokens (B, D, h, w) -> (B, D', 4h, 4w), (B, D', 2h, 2w), (B, D', h, w) or (B, D', ceil(h/2), ceil(w/2)).

    level 0 to 3 says which; `width` is the pyramid's there.
    """

    def __init__(self, inputs: int, width: int, outputs: int, level: int) -> None:
        resample = (
            nn.ConvTranspose2d(width, width, kernel_size=4, stride=4),
            nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
            nn.Identity(),
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
        )[level]
        narrow = nn.Conv2d(width, outputs, kernel_size=3, padding=1, bias=False)
        super().__init__(nn.Conv2d(inputs, width, kernel_size=1), resample, narrow)


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3x3: (B, D, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in range(2))
        self.layers = nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)

    def forward(self, maps: Tensor) -> Tensor:
        """One unit."""
        return maps + self.layers(maps)


class Fusion(nn.Module):
    """What came from below and this level's own map -> both in one, at the next level's size.

    coarse and own (B, D, h, w); the coarsest level has no `own`. Returns (B, D, *size).
    """

    def __init__(self, channels: int, has_own: bool) -> None:
        super().__init__()
        self.own = ResidualUnit(channels) if has_own else None
        self.both = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, coarse: Tensor, own: Tensor | None, size: tuple[int, int]) -> Tensor:
        """One level."""
        if self.own is not None:
            coarse = coarse + self.own(own)
        return self.project(resize(self.both(coarse), size))


class DPT(nn.Module):
    """Decoder over four maps of one size and of `encoder_width` channels, shallow to deep.

    With 64, 128, 256 channels it is DINOv2's decoder for ViT-S, B, L. Convolutions keep PyTorch's default start.
    """

    def __init__(self, encoder_width: int, num_classes: int, channels: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.feature_channels = channels
        widths = pyramid_widths(encoder_width)
        self.reassemble = nn.ModuleList(
            Reassemble(encoder_width, width, channels, level) for level, width in enumerate(widths)
        )
        self.fusions = nn.ModuleList(Fusion(channels, has_own=level < 3) for level in range(4))
        self.head = nn.Sequential(nn.Conv2d(channels, channels, kernel_size=3, padding=1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, kernel_size=1))

    def blocks(self) -> list[nn.Module]:
        """The parts in which nearly all of the decoder's activations arise; each is called once in a forward pass."""
        return [*self.reassemble, *self.fusions, self.head, self.classifier]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Four maps (B, X, h, w) -> logits (B, C, 8h, 8w) and features (B, D, 8h, 8w) >= 0."""
        levels = [layer(each) for layer, each in zip(self.reassemble, maps, strict=True)]  # (B, D, 4h, 4w) to (.. h/2)
        sizes = [(2 * levels[0].shape[-2], 2 * levels[0].shape[-1]), *((m.shape[-2], m.shape[-1]) for m in levels)]
        fused = self.fusions[3](levels[3], None, sizes[3])  # (B, D, h, w)
        for level in (2, 1, 0):
            fused = self.fusions[level](fused, levels[level], sizes[level])
        features = self.head(fused)  # (B, D, 8h, 8w)
        return self.classifier(features), features


def pyramid_widths(encoder_width: int) -> tuple[int, int, int, int]:
    """Channels of the four levels before they are narrowed; those published for ViT-S, B, L."""
    parts = (encoder_width // 8, encoder_width // 4, encoder_width // 2, encoder_width)
    return PUBLISHED_WIDTHS.get(encoder_width, parts)
