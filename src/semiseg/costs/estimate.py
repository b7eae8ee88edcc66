"""What a training step costs before it is run: operations, bytes, memory, hours.

The step itself is run on torch's meta device, where tensors have shapes and no values, and every operation is counted.
That works because nothing in a step asks for a value.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from semiseg.config.recipe import Config
from semiseg.costs.speed import Cost, measured_speed, published_speed
from semiseg.methods import Method
from semiseg.parts.partners import WantsImages
from semiseg.parts.segmentor import Segmentor
from semiseg.runtime.distributed import pick_device
from semiseg.training.experiment import build_method
from semiseg.training.optim import Optimizer, build_optimizer
from semiseg.types import Clock, LabeledBatch, UnlabeledBatch

CLASSES = 21  # where the dataset is not opened: the last layer alone depends on it
COUNTED = 2  # steps; the optimizer's state is made in the first


class Traffic(TorchDispatchMode):
    """Counts operations of products, bytes moved by all others, and the bytes of living tensors, `there` left out.

    torch's FlopCounterMode counts the same operations, but keeps what checkpointed blocks compute a second time alive.
    """

    def __init__(self, *there: Tensor) -> None:
        super().__init__()
        self.flops = self.moved = self.living = self.peak = 0
        self._storages: dict[int, int] = {}
        self._there = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        elif not func.is_view:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in [*read, *made])
        for tensor in made:
            self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the same for all views of a tensor
        if key not in self._storages and key not in self._there:
            self._storages[key] = storage.nbytes()
            self.living += storage.nbytes()
            self.peak = max(self.peak, self.living)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.living -= self._storages.pop(key)


@contextlib.contextmanager
def fused_attention() -> Iterator[None]:
    """Attention as devices have it: the meta device would write out a matrix of all pairs of tokens.

    A TorchFunctionMode would be off in the backward pass, where checkpointed blocks are computed again.
    """
    written_out = F.scaled_dot_product_attention

    def fused(*tensors: Tensor, attn_mask: Tensor | None = None, **named: Any) -> Tensor:
        if attn_mask is not None or len(tensors) > 3:
            return written_out(*tensors, attn_mask=attn_mask, **named)
        return torch.ops.aten._scaled_dot_product_flash_attention(*tensors)[0]

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = written_out


def count_step(config: Config, classes: int | tuple[str, ...] = CLASSES, warm_up: bool = False) -> Cost:
    """The cost of a step with unlabelled images, or of one in the warm-up, by running it on the meta device.

    Classes by number or name; some methods do more where the first is called `background`.
    """
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else classes
    config = replace(config, train=replace(config.train, channels_last=False))
    method = build_method(config, names, weights=False).train().to("meta")
    if config.train.precision == "bf16":
        _cast_networks(method)
    optimizer = build_optimizer(method.parameter_groups(), config.optim)
    there = [*method.parameters(), *method.buffers()]
    fixed = sum(tensor.numel() * tensor.element_size() for tensor in there)
    flops = moved = 0
    with Traffic(*there) as traffic, fused_attention():
        for _ in range(COUNTED):
            flops, moved = traffic.flops, traffic.moved
            _step(config, method, optimizer, 0 if warm_up else config.train.steps - 1)
    return Cost(traffic.flops - flops, traffic.moved - moved, traffic.peak + fixed)


def _step(config: Config, method: Method, optimizer: Optimizer, number: int) -> None:
    train = config.train
    shares = train.accumulate * train.devices  # of a batch
    clock = Clock(number, train.steps, torch.Generator())
    for _ in range(train.accumulate):
        count = train.batch_labeled // shares
        labeled = LabeledBatch(_meta(config, count, 3), _meta(config, count, dtype=torch.long), _index(count))
        unlabeled = _unlabeled(config, train.batch_unlabeled // shares) if method.uses_unlabeled else None
        if unlabeled is not None and isinstance(method, WantsImages):
            unlabeled = unlabeled._replace(partner=_unlabeled(config, len(unlabeled.image)))
        method(labeled, unlabeled, clock).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.after_step(clock)


def _unlabeled(config: Config, count: int) -> UnlabeledBatch:
    return UnlabeledBatch(_meta(config, count, 3), _meta(config, count, dtype=torch.bool), _index(count))


def _index(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long, device="meta")


def _meta(config: Config, *first: int, dtype: torch.dtype = torch.float32) -> Tensor:
    size = (*first, config.augment.crop_height, config.augment.crop_width)
    return torch.zeros(size, dtype=dtype, device="meta")


def _cast_networks(method: Method) -> None:
    """bf16 as autocast has it, nearly: the networks compute in it, losses and prototypes do not.

    There is no autocast on the meta device. The weights, which it keeps in fp32, are small beside what a step stores;
    what a method has beside its networks, small too, computes in fp32.
    """
    networks = [module for module in method.modules() if isinstance(module, Segmentor)]
    inside = {part for network in networks for part in network.to(torch.bfloat16).modules()}
    others = [part for part in method.modules() if part not in inside]
    layers = [part for part in others if next(part.parameters(False), None) is not None]
    for module in [*(network.encoder for network in networks), *layers]:
        module.register_forward_pre_hook(_cast_arguments)


def _cast_arguments(module: nn.Module, arguments: tuple) -> tuple:
    """Tensors in the precision of the module's weights."""
    dtype = next(module.parameters()).dtype
    return tuple(each.to(dtype) if isinstance(each, Tensor) else each for each in arguments)


def estimate(config: Config, device: str = "here") -> dict[str, Any]:
    """Operations and bytes of a step, memory, seconds and hours of a run, on a PUBLISHED device or the one `here`.

    Of each of `train.devices`, with its share of the batch. All steps count as steps with unlabelled images, though a
    warm-up's take less. Data, evaluation and exchange between devices are left out. Raises ValueError for an unknown
    device.
    """
    cost, precision = count_step(config), config.train.precision
    here = device == "here"
    speed = measured_speed(pick_device(config.train.device), precision) if here else published_speed(device, precision)
    seconds = speed.seconds(cost)
    return {
        "method": config.method,
        "devices": config.train.devices,
        "TFLOP per step": cost.flops / 1e12,
        "GB moved per step": cost.bytes / 1e9,
        "peak memory GB": cost.memory / 1e9,
        "TFLOP/s": speed.flops / 1e12,
        "GB/s": speed.bytes / 1e9,
        "speed is": speed.source,
        "seconds per step": seconds,
        "steps": config.train.steps,
        "hours": seconds * config.train.steps / 3600,
    }
