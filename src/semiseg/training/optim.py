"""The optimizer and its schedule, a function of the step alone: a resumed run has nothing to restore but its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from semiseg.config.options import OptimOptions

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class Optimizer:
    """Optimizers of several kinds, each over its own parameters, that step together."""

    def __init__(self, parts: dict[str, torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them."""
        return [group for part in self.parts.values() for group in part.param_groups]

    @property
    def state(self) -> dict[torch.Tensor, Any]:
        """The memory of each parameter."""
        return {parameter: state for part in self.parts.values() for parameter, state in part.state.items()}

    def step(self) -> None:
        """One step of each."""
        for part in self.parts.values():
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state dict of each, by kind."""
        return {kind: part.state_dict() for kind, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the memory in a `state_dict`; what the config says stays.

        Raises ValueError or KeyError where it is another method's.
        """
        for kind, part in self.parts.items():
            own, memory = part.state_dict()["param_groups"], state[kind]["state"]
            part.load_state_dict({"state": memory, "param_groups": own})
            for parameter, values in part.state.items():
                for name, value in values.items():
                    if not isinstance(value, Tensor | None) or (
                        value is not None and value.shape not in ((), parameter.shape)
                    ):
                        raise ValueError(f"its {name} is not of the shape {tuple(parameter.shape)} of its parameter")


def build_optimizer(groups: Iterable[dict], options: OptimOptions) -> Optimizer:
    """The optimizer of parameter groups {role: `encoder` or `head`, params: [...]}; weight decay on everything.

    A group that names a `kind` of its own gives its own `lr` with it, and nothing of `options` is for it.
    """
    by_kind: dict[str, list[dict]] = {}
    for group in groups:
        own = {key: value for key, value in group.items() if key not in ("kind", "lr")}
        chosen: dict[str, float] = {}
        if "kind" in group:
            factor = group["lr"] / options.lr
        else:
            factor = options.head_lr_factor if group["role"] == "head" else 1.0
            chosen |= {} if options.kind == "adamw" else {"momentum": options.momentum}
            chosen["weight_decay"] = options.weight_decay
        rates = {"lr": options.lr * factor, "lr_factor": factor}
        by_kind.setdefault(group.get("kind", options.kind), []).append({**rates, **chosen, **own})
    return Optimizer({kind: KINDS[kind](of_kind) for kind, of_kind in by_kind.items()})


def learning_rate(step: int, total_steps: int, options: OptimOptions) -> float:
    """lr x (1 - step / total) ^ power, set before the step; in the first warmup_steps it rises linearly to that."""
    rise = min((step + 1) / options.warmup_steps, 1.0) if options.warmup_steps else 1.0
    return options.lr * (1 - step / total_steps) ** options.power * rise


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group the rate times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
