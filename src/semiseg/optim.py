"""The optimizer and its schedule, a function of the step alone: a resumed run has nothing to restore but its step."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from semiseg.options import OptimOptions


def build_optimizer(groups: Iterable[dict], options: OptimOptions) -> torch.optim.Optimizer:
    """SGD or AdamW over parameter groups {role: `encoder` or `head`, params: [...]}; weight decay on everything."""
    scaled = [{**group, "lr_factor": options.head_lr_factor if group["role"] == "head" else 1.0} for group in groups]
    if options.kind == "adamw":
        return torch.optim.AdamW(scaled, lr=options.lr, weight_decay=options.weight_decay)
    return torch.optim.SGD(scaled, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay)


def learning_rate(step: int, total_steps: int, options: OptimOptions) -> float:
    """lr x (1 - step / total) ^ power, set before the step; in the first warmup_steps it rises linearly to that."""
    rise = min((step + 1) / options.warmup_steps, 1.0) if options.warmup_steps else 1.0
    return options.lr * (1 - step / total_steps) ** options.power * rise


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
