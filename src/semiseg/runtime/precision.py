"""Where the networks compute in bf16, and where nothing may."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch


def precision_context(precision: str, device: torch.device) -> AbstractContextManager:
    """bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast, whatever is around; the meta device, on which steps are counted, has none to turn off."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
