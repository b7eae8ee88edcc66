"""The prototype head on sampled points against the map upsampled first: the same numbers, other costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semiseg.costs.bench.table import Table
from semiseg.parts.losses import cross_entropy
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.parts.sampling import grid_points, pick, pick_pixels
from semiseg.parts.segmentor import resize
from semiseg.runtime.timing import Call, median_seconds, peak_bytes

CLASSES, PER_CLASS, CHANNELS = 21, 4, 512  # PASCAL VOC, the paper's decoder
SIZE, SMALL = (513, 513), (129, 129)  # a crop and its features, pixels
IMAGES = 16
SPARE = 1.3  # the upsampled maps of all images and their gradient must fit this many times into free memory


@dataclass(frozen=True)
class Case:
    """Features, labels and prototypes to measure with; drawn, since no cost depends on their values."""

    features: Tensor  # (B, D, h, w)
    label: Tensor  # (B, H, W)
    points: Tensor  # (N, 2)
    predictor: PrototypePredictor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""
        return self.label.shape[-2], self.label.shape[-1]

    def sampled(self, features: Tensor) -> Tensor:
        """Eq. 6 from the small map."""
        return self._loss(pick(features, self.points, self.size))

    def upsampled(self, features: Tensor) -> Tensor:
        """Eq. 6 as it is written: upsample, then pick."""
        large = resize(features, self.size)  # (B, D, H, W)
        return self._loss(large[:, :, self.points[:, 0], self.points[:, 1]].transpose(1, 2))

    def dense(self) -> Tensor:
        """Logits of every pixel, from upsampled scores. (B, C, H, W)"""
        return self.predictor.dense_logits(self.features, self.size)

    @torch.no_grad()
    def dense_upsampled(self) -> Tensor:
        """The same from upsampled features."""
        large = resize(self.features, self.size).permute(0, 2, 3, 1)  # (B, H, W, D)
        return self.predictor(large.flatten(0, 2)).unflatten(0, large.shape[:3]).permute(0, 3, 1, 2)

    def _loss(self, picked: Tensor) -> Tensor:
        target = pick_pixels(self.label, self.points)  # (B, N)
        return cross_entropy(self.predictor(picked.flatten(0, 1)), target.flatten())


def bench_prototypes(device: torch.device, repeats: int = 5) -> list[Table]:
    """Training on sampled points and dense inference, each against the way that upsamples the features."""
    images = _images_that_fit(device)
    return [_training(make_case(images, device), repeats, device), _inference(make_case(1, device), repeats, device)]


def make_case(images: int, device: torch.device) -> Case:
    """A case of `images` images."""
    generator = torch.Generator().manual_seed(0)
    predictor = PrototypePredictor(CLASSES, PER_CLASS, CHANNELS)
    predictor.prototypes.normal_(generator=generator)
    predictor.ready.fill_(True)
    features = torch.randn(images, CHANNELS, *SMALL, generator=generator)
    features = features.contiguous(memory_format=torch.channels_last)  # as the decoder gives them in a run as shipped
    label = torch.randint(CLASSES, (images, *SIZE), generator=generator)
    points = grid_points(*SIZE, 32, generator)
    return Case(features.to(device), label.to(device), points, predictor.to(device))


def _training(case: Case, repeats: int, device: torch.device) -> Table:
    loss = {"upsample, then pick": case.upsampled, "sampled": case.sampled}
    features = case.features.requires_grad_()
    found = {name: _loss_and_gradient(call, features) for name, call in loss.items()}
    (slow_loss, slow), (fast_loss, fast) = found.values()
    apart = max(float((slow_loss - fast_loss).abs()), float((slow - fast).abs().max() / slow.abs().max()))
    del found, slow, fast
    calls = {name: lambda call=call: _loss_and_gradient(call, features) for name, call in loss.items()}
    # Both give the gradient of the small map; it belongs to the network, not to the head.
    own = features.numel() * features.element_size()
    rows, quicker, smaller = _compared("head", calls, repeats, device, own)
    note = (
        f"Loss and gradient differ by at most {apart:.1e} (gradient: of its largest entry). "
        f"Ratios: {quicker:.0f}x less time, {smaller:.0f}x less memory; targets at least 20x and 100x. "
        "Memory is the peak beyond the features and their gradient."
    )
    height, width = case.size
    return Table(f"prototype head, {len(features)} images of {height}x{width}, forward and backward", rows, note)


def _inference(case: Case, repeats: int, device: torch.device) -> Table:
    calls = {"upsampled features": case.dense_upsampled, "upsampled scores": case.dense}
    answers = [call().argmax(1) for call in calls.values()]
    unequal = int((answers[0] != answers[1]).sum())
    rows, quicker, smaller = _compared("dense", calls, repeats, device)
    note = (
        f"{unequal} of {answers[0].numel()} pixels get another class. Ratios: {quicker:.1f}x less time, "
        f"{smaller:.1f}x less memory."
    )
    return Table(f"dense prototype inference, one image of {case.size[0]}x{case.size[1]}", rows, note)


def _compared(
    column: str, calls: Mapping[str, Call], repeats: int, device: torch.device, own: int = 0
) -> tuple[list[dict[str, Any]], float, float]:
    """A row for each of two calls, and how many times less time and memory (without `own` bytes) the second takes."""
    seconds = median_seconds(calls, repeats, device)
    memory = {name: peak_bytes(call, device) - own for name, call in calls.items()}
    rows = [{column: n, "ms": round(1000 * seconds[n], 1), "MB": round(memory[n] / 1e6, 1)} for n in calls]
    slow, fast = calls
    return rows, seconds[slow] / seconds[fast], memory[slow] / memory[fast]


def _loss_and_gradient(loss: Callable[[Tensor], Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
    features.grad = None
    value = loss(features)
    value.backward()
    gradient, features.grad = features.grad, None
    assert gradient is not None
    return value.detach(), gradient


def _images_that_fit(device: torch.device) -> int:
    """IMAGES, halved until the upsampled maps and their gradient fit into free memory."""
    images = IMAGES
    while images > 1 and SPARE * images * 2 * 4 * CHANNELS * SIZE[0] * SIZE[1] > _free_bytes(device):
        images //= 2
    return images


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
