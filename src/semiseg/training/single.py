"""Whether a method's networks can train on one image at a time, tried before the first step.

BatchNorm needs more than one value per channel. A batch of one image has one where a network averages over the whole
image (the image pooling of DeepLabv3+, PSPNet and others) or has brought it down to one place.
"""

from __future__ import annotations

import torch

from semiseg.config.options import AugmentOptions, TrainOptions
from semiseg.methods.method import Method
from semiseg.parts.partners import WantsImages
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import alone, world_size
from semiseg.runtime.precision import precision_context
from semiseg.training.memory import undone
from semiseg.types import Clock, LabeledBatch, UnlabeledBatch


def check_single_images(method: Method, train: TrainOptions, augment: AugmentOptions, device: torch.device) -> None:
    """Raise ValueError with the repair where a forward pass of a step refuses its batch of one image.

    Nothing is tried where a process has two images or more of each batch at a time, and nothing of the method changes.
    """
    parts = train.accumulate * world_size()
    labeled = train.batch_labeled // parts
    unlabeled = train.batch_unlabeled // parts if method.uses_unlabeled else None
    if labeled != 1 and unlabeled != 1:
        return
    clock = Clock(0, train.steps, torch.Generator())
    steps = {0, min(method.prepare_at or 0, train.steps - 1)}  # supervised, and with unlabelled images
    try:
        with undone(method, clock.generator), alone(method), precision_context(train.precision, device):
            for step in sorted(steps):
                method(*_blank(method, labeled, unlabeled, augment, device), clock.at(step))
    except ValueError as error:  # torch's, or the decoder's own
        kinds = "1 labelled image" if labeled == 1 else f"{labeled} labelled images"
        options, fewer = "train.batch_labeled", f" or lower train.accumulate ({train.accumulate})" * (parts > 1)
        if unlabeled is not None:
            kinds, options = f"{kinds} and {unlabeled} unlabelled", f"{options} and train.batch_unlabeled"
        raise ValueError(
            f"with {kinds} at a time the network cannot train, for it normalises over the images of a batch "
            f"({str(error).partition(':')[0]}): raise {options}{fewer} to have at least 2 of each at a time, or take a "
            "network without image pooling, --network.name fpn or smp:Unet"
        ) from error


def _blank(
    method: Method, labeled: int, unlabeled: int | None, augment: AugmentOptions, device: torch.device
) -> tuple[LabeledBatch, UnlabeledBatch | None]:
    """Batches of black images of the crop's size."""
    bands = next(part.bands for part in method.modules() if isinstance(part, Segmentor))
    size = (augment.crop_height, augment.crop_width)

    def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(count, bands, *size, device=device), torch.zeros(count, dtype=torch.long, device=device)

    image, index = images(labeled)
    with_labels = LabeledBatch(image, torch.zeros(labeled, *size, dtype=torch.long, device=device), index)
    if unlabeled is None:
        return with_labels, None
    image, index = images(unlabeled)
    others = UnlabeledBatch(image, torch.ones(unlabeled, *size, dtype=torch.bool, device=device), index)
    return with_labels, others._replace(partner=others) if isinstance(method, WantsImages) else others
