"""Predictors: one network with its prototypes, or several networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.segmentor import Segmentor
from semiseg.types import SegmentationOutput


class Predictor(nn.Module):
    """For evaluation, use and export: a segmentor and, where the method has them, prototypes.

    Called with images (B, 3, H, W), it gives the logits (B, C, H, W) of each predictor by name, `headline` first.
    """

    def __init__(
        self, segmentor: Segmentor, prototypes: PrototypePredictor | None = None, headline: str = "linear"
    ) -> None:
        super().__init__()
        self.segmentor, self.prototypes, self.headline = segmentor, prototypes, headline

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits by predictor: `linear`, and `prototype` where there are prototypes with a place."""
        output: SegmentationOutput = self.segmentor(image)
        logits = {"linear": output.logits}
        if self.prototypes is not None:
            logits["prototype"] = self.prototypes.dense_logits(output.features, (image.shape[-2], image.shape[-1]))
        return {self.headline: logits.pop(self.headline), **logits}

    @property
    def headline_alone(self) -> Predictor:
        """A predictor of the same headline, with as little work as possible."""
        return self


class JointPredictor(Predictor):
    """Several networks of one method: the predictor of the first of them, and beside it the others.

    Called, it gives `linear`, and `prototype` where there are prototypes, of the network that is `reported`, or of the
    mean of all; after these the linear predictor of each by its network's name, and of their `mean`.
    """

    def __init__(self, members: Mapping[str, Predictor], reported: str) -> None:
        """`members` by name, and `reported` one of the names or `mean`."""
        lead = reported if reported in members else next(iter(members))
        super().__init__(members[lead].segmentor, members[lead].prototypes)
        self.others = nn.ModuleDict({name: member for name, member in members.items() if name != lead})
        self.lead, self.reported = lead, reported

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        found = {self.lead: super().forward(image), **{name: other(image) for name, other in self.others.items()}}
        found["mean"] = {kind: mean_prediction([made[kind] for made in found.values()]) for kind in found[self.lead]}
        return {**found[self.reported], **{name: made["linear"] for name, made in found.items()}}

    @property
    def names(self) -> list[str]:
        """Names of the networks, the lead first."""
        return [self.lead, *self.others]

    @property
    def headline_alone(self) -> Predictor:
        return self if self.reported == "mean" else Predictor(self.segmentor, self.prototypes)


def mean_prediction(logits: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the softmaxes of several `logits` (B, C, H, W). (B, C, H, W)"""
    return torch.stack([each.float().log_softmax(1) for each in logits]).logsumexp(0) - math.log(len(logits))
