"""CCT, Cross-Consistency Training (Ouali et al., CVPR 2020): one encoder, a decoder, and many that see it disturbed.

    z    = encoder(u)
    q    = softmax(decoder(z)), without gradient
    loss = CE(decoder(encoder(x)), y) + w(t) * mean over m of mean over pixels and classes of
           (softmax(auxiliary decoder m(perturbation m(z))) - q)^2
    w(t) = w * exp(-5 (1 - t)^2)

Perturbations: VAT, DropOut2d, FeatureDrop, FeatureNoise and, where there is a background, guided CutOut, context
masking, object masking. The auxiliary decoders are left out of what is saved for use.

Differences from the paper and its code: docs/methods/cct.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from semiseg.config.methods.cct import NEED_BACKGROUND, CCTOptions
from semiseg.methods.details import cct_perturbations as perturbations
from semiseg.methods.method import Method
from semiseg.parts.losses import pixel_count
from semiseg.parts.pseudo_labels import without_learning
from semiseg.parts.segmentor import resize
from semiseg.types import Clock, LabeledBatch, StepResult, UnlabeledBatch

log = logging.getLogger(__name__)


class AuxiliaryDecoder(nn.Sequential):
    """A 1x1 convolution to the classes, then doublings by sub-pixel convolution: (B, X, h, w) -> (B, C, 2^n h, 2^n w).

    The doublings start as nearest-neighbour upsampling does (ICNR, Aitken et al. 2017).
    """

    def __init__(self, channels: int, num_classes: int, stride: int) -> None:
        first = nn.Conv2d(channels, num_classes, 1, bias=False)
        nn.init.kaiming_normal_(first.weight)
        layers: list[nn.Module] = [first]
        for number in range(int(math.log2(stride))):
            expand = nn.Conv2d(num_classes, 4 * num_classes, 1)
            with torch.no_grad():
                one = nn.init.kaiming_normal_(expand.weight[::4].clone())  # (C, C, 1, 1)
                expand.weight.copy_(one.repeat_interleave(4, 0))
                nn.init.zeros_(expand.bias)  # pyright: ignore[reportArgumentType]
            layers += [*([nn.ReLU()] if number else []), expand, nn.PixelShuffle(2)]
        super().__init__(*layers)


class CCT(Method):
    """The prediction does not depend on what the encoder's features lose."""

    Options = CCTOptions
    options: CCTOptions

    def make_parts(self) -> None:
        super().make_parts()
        channels, stride = self.student.scales()[-1]
        self.decoders = nn.ModuleDict()
        for name, count in self.families().items():
            several = (AuxiliaryDecoder(channels, self.student.num_classes, stride) for _ in range(count))
            self.decoders[name] = nn.ModuleList(several)

    def families(self) -> dict[str, int]:
        """Perturbation -> number of decoders. Perturbations that need a background are left out where there is none."""
        wanted = {name: count for name, count in self.options.decoders.items() if count}
        dropped = [] if self.options.has_background(self.context.classes) else [*filter(wanted.get, NEED_BACKGROUND)]
        kept = {name: count for name, count in wanted.items() if name not in dropped}
        if dropped:
            log.warning(
                "cct: %s need a background, and class 0 is %s: left out. If it is one, say --method.background true",
                ", ".join(dropped),
                self.context.classes[0],
            )
        if not kept:
            raise ValueError("cct has no auxiliary decoder left: raise method.vat, channel_dropout or another family")
        return kept

    def consistency_step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, clock: Clock) -> StepResult:
        """Eq. 5, and the mean squared difference of the softmaxes on the unlabelled images."""
        size = (labeled.image.shape[-2], labeled.image.shape[-1])
        pyramid = self.student.encode(torch.cat([labeled.image, unlabeled.image]))
        of_labeled, of_unlabeled = zip(
            *(maps.split([len(labeled.image), len(unlabeled.image)]) for maps in pyramid), strict=True
        )
        losses = self.supervised(self.student.decode(list(of_labeled), size), labeled)
        with without_learning():
            target = self.student.decode(list(of_unlabeled), size).logits.softmax(1)  # (B, C, H, W)
        distance = self.distance(of_unlabeled[-1], target, unlabeled.valid, clock.generator)
        losses["consistency"] = self.options.unlabeled_weight * self.ramp(clock, self.options.ramp) * distance
        return StepResult(losses, {})

    def distance(self, features: Tensor, target: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over the auxiliary decoders. features (B, X, h, w), target (B, C, H, W), valid (B, H, W) bool. Scalar

        Of full-size maps only one decoder's are there at a time; they are computed again in the backward pass.
        """
        guide = F.interpolate(target, features.shape[-2:], mode="nearest").argmax(1)  # (B, h, w)
        found: list[Tensor] = []
        for name, several in self.decoders.items():
            for decoder in several.children():
                change = self.perturbation(name, decoder, features, guide, generator)
                arguments = (self.distance_behind, decoder, features, change, name == "vat", target, valid)
                found.append(checkpoint(*arguments, use_reentrant=False, preserve_rng_state=False))  # pyright: ignore
        return torch.stack(found).mean() / (target.shape[1] * pixel_count(valid))

    @torch.no_grad()
    def perturbation(
        self, name: str, decoder: nn.Module, features: Tensor, guide: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The features' factor; with `vat`, a shift to add to them. Broadcasts to (B, X, h, w)."""
        radius, classes = self.options.vat_radius, self.student.num_classes
        families: dict[str, Callable[[], Tensor]] = {
            "vat": lambda: perturbations.adversarial_shift(decoder, features, radius, generator),
            "channel_dropout": lambda: perturbations.channel_dropout(features, generator),
            "feature_drop": lambda: perturbations.feature_drop(features, generator),
            "feature_noise": lambda: perturbations.feature_noise(features, generator),
            "guided_cutout": lambda: perturbations.guided_cutout(guide, classes, generator),
            "context_masking": lambda: perturbations.context_masking(guide),
            "object_masking": lambda: perturbations.object_masking(guide),
        }
        return families[name]()

    @staticmethod
    def distance_behind(
        decoder: nn.Module, features: Tensor, change: Tensor, is_shift: bool, target: Tensor, valid: Tensor
    ) -> Tensor:
        """Squared differences behind one decoder, summed over classes and valid pixels. Scalar"""
        perturbed = features + change if is_shift else features * change  # (B, X, h, w)
        logits = resize(decoder(perturbed).float(), (target.shape[-2], target.shape[-1]))
        return ((logits.softmax(1) - target).square().sum(1) * valid).sum()

    def parameter_groups(self) -> list[dict]:
        return [*super().parameter_groups(), {"role": "head", "params": list(self.decoders.parameters())}]
