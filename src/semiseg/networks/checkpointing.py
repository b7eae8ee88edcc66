"""Blocks of a network whose activations are given back after the forward pass and computed again in the backward pass.

A block's class becomes a subclass with another `forward`, and nothing else changes: names of weights, copies, hooks and
the exchange of single layers work as before. Losses, gradients and buffers equal a network's without it.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

RESIDUAL = ("drop_path", "drop_path1")
"""What timm's residual blocks have in common: a place for stochastic depth, used or not."""


class Recomputed(nn.Module):
    """Mixed into the class of a block."""

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the block computes; where a gradient is wanted, only its arguments are kept."""
        block = super().forward
        if not torch.is_grad_enabled():
            return block(*arguments, **named)

        def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
            return contextlib.nullcontext(), CountingNothing(self)

        # The state of torch's generators is restored for the second time, so that dropout draws the same.
        return checkpoint(block, *arguments, use_reentrant=False, context_fn=contexts, **named)


class CountingNothing(contextlib.AbstractContextManager):
    """Recomputation must not update BatchNorm twice, so buffers are replaced by copies while it runs.

    Without buffers it would save other tensors than in the first pass, and the two would not fit together. It may be
    entered again: a graph that is kept is computed again for each gradient that is asked of it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.own: list[tuple[nn.Module, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        self.own = [(each, each._buffers) for each in self.module.modules() if each._buffers]
        for each, buffers in self.own:
            each._buffers = {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}

    def __exit__(self, *_: object) -> None:
        for each, buffers in self.own:
            each._buffers = buffers


def recompute(block: nn.Module) -> None:
    """Let `block` be computed again in the backward pass, from now on."""
    block.__class__ = _recomputed(type(block))


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (Recomputed, kind), {})


def encoder_blocks(encoder: nn.Module) -> list[nn.Module]:
    """The residual blocks of an encoder, outermost ones only; of one that has none, the stages it is made of.

    Raises ValueError for an encoder that has neither.
    """
    blocks = _outermost_residual(encoder)
    stages = [stage for stage in _parts(encoder) if _convolutions(stage) > 1]
    if not blocks and len(stages) > 1:
        return stages
    if not blocks:
        raise ValueError(
            "network.checkpoint finds neither residual blocks nor stages in this network.encoder; leave it off, or "
            "take a ResNet, ConvNeXt, RegNet, EfficientNet, MobileNet or ViT"
        )
    return blocks


def _outermost_residual(module: nn.Module) -> list[nn.Module]:
    if any(hasattr(module, name) for name in RESIDUAL):
        return [module]
    return [block for child in module.children() for block in _outermost_residual(child)]


def _parts(module: nn.Module) -> list[nn.Module]:
    """What a module calls, below wrappings of one part; a list of modules is not called, but its members are."""
    while len(children := list(module.children())) == 1:
        (module,) = children
    return [part for child in children for part in (child if isinstance(child, nn.ModuleList) else [child])]


def _convolutions(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.Conv2d) for layer in module.modules())
