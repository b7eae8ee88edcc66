"""A network of one's own as a segmentor: its output are the logits, one of its submodules gives the features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from semiseg.parts.augment import figures_of
from semiseg.parts.segmentor import TRIAL, Segmentor, resize
from semiseg.types import SegmentationOutput


class Wrapped(Segmentor):
    """A module that methods can train, if they need no pyramid of it. `wrap` makes one."""

    aux_head = None

    def __init__(
        self,
        module: nn.Module,
        features: str,
        encoder: str | None,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
        bands: int = 3,
    ) -> None:
        """`features` and `encoder` are dotted names of submodules; without `encoder` every parameter is a head's."""
        nn.Module.__init__(self)  # the parts of a segmentor are not known here
        self.module, self.bands = module, bands
        self.features, self.encoder_name = features, encoder
        self.num_classes = self.feature_channels = 0
        self.figures_before = figures_of(bands)
        self.normalise_by(*(normalisation or self.figures_before))
        output = self._tried()
        self.num_classes, self.feature_channels = output.logits.shape[1], output.features.shape[1]

    @torch.no_grad()
    def _tried(self) -> SegmentationOutput:
        modes = [(part, part.training) for part in self.modules()]
        try:
            device = next((each.device for each in self.module.parameters()), torch.device("cpu"))
            return self.eval()(torch.zeros(1, self.bands, TRIAL, TRIAL, device=device))
        finally:
            for part, training in modes:
                part.training = training

    @property
    def encoder(self) -> nn.Module:
        """What sees the image: the whole module."""
        return self.module

    def forward(
        self, image: Tensor, perturb: Callable[[list[Tensor]], list[Tensor]] | None = None
    ) -> SegmentationOutput:
        """Logits of a normalised image (B, N, H, W) at its own size, and features (B, D, h, w)."""
        if perturb is not None:
            self._no_pyramid()
        seen: list[Any] = []
        # For this call only: a hook that stayed would be lost where the submodule is exchanged, or shared by copies.
        hook = self.module.get_submodule(self.features).register_forward_hook(lambda *call: seen.append(call[2]))
        try:
            output = self.module(self.normalised(image))
        finally:
            hook.remove()
        maps = _maps(seen[-1] if seen else None, f"the submodule {self.features!r}")
        logits = _maps(_logits(output), "the module")
        size = (image.shape[-2], image.shape[-1])
        aux = output.get("aux") if isinstance(output, Mapping) and self.training else None  # as torchvision names it
        return SegmentationOutput(
            resize(logits.float(), size), maps, None if aux is None else resize(aux.float(), size)
        )

    def encode(self, image: Tensor) -> NoReturn:
        """Raises ValueError: there is no pyramid."""
        self._no_pyramid()

    def decode(self, pyramid: list[Tensor], size: tuple[int, int]) -> NoReturn:
        """Raises ValueError: there is no pyramid."""
        self._no_pyramid()

    def scales(self) -> NoReturn:
        """Raises ValueError: there is no pyramid."""
        self._no_pyramid()

    def _no_pyramid(self) -> NoReturn:
        raise ValueError(
            "this method works on the encoder's pyramid (cct, corrmatch, pseudoseg, unimatch, unimatch_v2 do), and a "
            f"wrapped {type(self.module).__name__} has none: build semiseg.Segmentor(encoder, decoder, "
            "aux_head, classes) of its parts, or take a method that needs features only, such as prototype or fixmatch"
        )

    def compile(self, *arguments: Any, **named: Any) -> NoReturn:
        """Raises ValueError: torch cannot compile a call that listens to a submodule."""
        raise ValueError("train.compile does not go with a wrapped network: leave it off")

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Of the submodule that is named as the encoder; none without one."""
        return [] if self.encoder_name is None else list(self.module.get_submodule(self.encoder_name).parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """All others."""
        encoder = {id(each) for each in self.encoder_parameters()}
        return [each for each in self.module.parameters() if id(each) not in encoder]


def wrap(
    module: nn.Module,
    features: str,
    *,
    classes: int | None = None,
    encoder: str | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    bands: int = 3,
) -> Segmentor:
    """A segmentor of any module from images (B, N, H, W) to logits (B, C, h, w).

    The module gives the logits, or a tuple that they are the first of, or a dict with them under `out`; they are
    resized to the image's size.

    Args:
        module: it is tried once, in eval mode, on an image of 224 x 224 pixels.
        features: dotted name of the submodule whose output (B, D, h, w) the classifier reads, such as `decoder.head`.
        classes: C, to be held against the module's; None: as many as it has.
        encoder: dotted name of the part with trained weights, which learns at optim.lr; the rest, the head, learns at
            optim.head_lr_factor times that. None: `encoder` if the module has one, else all of it is the head.
        normalisation: mean and deviation per band, in [0, 1], that the module's images are normalised by; None:
            ImageNet's.
        bands: N, of its images.

    Raises ValueError where a name is no submodule's, or an output is no map.
    """
    names = dict(module.named_modules())
    for name in (features, encoder):
        if name is not None and (name == "" or name not in names):
            parts = [part for part in names if part and part.count(".") < 2]
            raise ValueError(f"{type(module).__name__} has no submodule {name!r}; it has {', '.join(parts) or 'none'}")
    number = "three" if bands == 3 else bands
    if normalisation is not None and len(normalisation) != 2:
        raise ValueError(f"normalisation is {normalisation}; expected the mean and the deviation, {number} values each")
    made = Wrapped(module, features, encoder or ("encoder" if "encoder" in names else None), normalisation, bands)
    if classes is not None and classes != made.num_classes:
        raise ValueError(f"{type(module).__name__} gives logits of {made.num_classes} classes; expected {classes}")
    return made


def _logits(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get("out")
    return output[0] if isinstance(output, tuple | list) and output else output


def _maps(value: Any, what: str) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim != 4:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} gave {got}; expected a tensor (B, X, h, w)")
    return value
