"""How fast a device is: measured for a moment, or from its maker's data sheet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from semiseg.runtime.timing import Call, median_seconds

PUBLISHED = {  # from the makers' data sheets: FLOP/s in TF32 or fp32, in bf16 without sparsity; bytes/s
    "h200": (495e12, 989e12, 4.8e12),
    "h100": (495e12, 989e12, 3.35e12),
    "a100": (156e12, 312e12, 2.0e12),
    "l4": (60e12, 121e12, 0.3e12),
    "rtx4090": (82e12, 165e12, 1.0e12),
}
REACHED = 0.4  # of a data sheet's figures by networks such as these: an assumption, where nothing can be measured
PROBES = 9  # rounds of measuring the device at hand


@dataclass(frozen=True)
class Cost:
    """The cost of one optimizer step."""

    flops: int  # of convolutions and matrix products, 2 per multiplication with addition
    bytes: int  # read and written by all other operations
    memory: int  # bytes of all tensors at the worst moment


@dataclass(frozen=True)
class Speed:
    """The speed of a device, and the source of the figures."""

    flops: float  # per second
    bytes: float  # per second
    source: str

    def seconds(self, cost: Cost) -> float:
        """Duration of a step: products at one rate, everything else at the memory's."""
        return cost.flops / self.flops + cost.bytes / self.bytes


def published_speed(name: str, precision: str) -> Speed:
    """A device by name. Raises ValueError for an unknown name."""
    if name not in PUBLISHED:
        raise ValueError(f"no figures for device {name!r}; there are {', '.join(PUBLISHED)}, and `here` is measured")
    single, half, memory = PUBLISHED[name]
    source = f"data sheet x {REACHED}, an assumption"
    return Speed(REACHED * (half if precision == "bf16" else single), REACHED * memory, source)


def measured_speed(device: torch.device, precision: str, rounds: int = PROBES) -> Speed:
    """The device at hand, by a convolution with its backward pass and by a sum of two arrays."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    channels, side, batch = (256, 64, 32) if device.type == "cuda" else (64, 40, 8)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
    maps = torch.randn(batch, channels, side, side, device=device, dtype=dtype, requires_grad=True)
    maps = maps.contiguous(memory_format=torch.channels_last)
    one, other = (torch.randn(1 << (26 if device.type == "cuda" else 23), device=device) for _ in range(2))
    flops = 3 * 2 * 9 * channels**2 * side**2 * batch
    calls: dict[str, Call] = {
        "product": lambda: layer(maps).sum().backward(),
        "addition": lambda: torch.add(one, other, out=one),
    }
    seconds = median_seconds(calls, rounds, device)
    moved = 3 * one.numel() * one.element_size()
    return Speed(flops / seconds["product"], moved / seconds["addition"], "measured")
