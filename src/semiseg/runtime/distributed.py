"""What several processes share; with one process every function is the identity.

Each process takes its slots of every batch, and what is random about a batch is drawn for all its slots in every
process alike, so that N processes do what one would do with the whole batch:

    one step's batch of 8 in 2 micro-batches, 2 processes
    slots          0 1 2 3 | 4 5 6 7
    process        0 0 1 1 | 0 0 1 1
    partner (mix)  1 2 3 0 | 5 6 7 4      the last image's is the next process's first

A mean over pixels is each process's sum over the mean of all processes' counts (`mean_over_ranks`): DDP averages the
gradients, so the gradient belongs to the mean over all pixels, however unevenly they are spread.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from semiseg.runtime.launch import is_launched, local_rank, started_processes
from semiseg.runtime.precision import full_precision

Value = TypeVar("Value")

PATIENCE = timedelta(minutes=30)  # of a process that waits for the others; one that dies is noticed at once


# Who is there ---------------------------------------------------------------------------------------------------------

_on_its_own = False  # see `alone`


def is_active() -> bool:
    """Whether a process group is running, and this process takes part in it."""
    return not _on_its_own and dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 with one process."""
    return dist.get_rank() if is_active() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if is_active() else 1


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The group of the processes that were started together, while in here; nothing for a process on its own."""
    if is_active() or not is_launched():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    if rank() > 0:
        logging.getLogger("semiseg").setLevel(logging.ERROR)  # the first warns for all
    yield
    dist.destroy_process_group()  # not after an exception: it would wait for the others


def pick_device(name: str) -> torch.device:
    """The device an option names: `auto` is a GPU if there is one, and of several processes each has its own.

    Raises ValueError for a device this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"train.device is {name!r}; expected auto, cpu or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"train.device is {name!r}, which was never tried; expected auto, cpu or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"train.device is {name!r}, but torch sees no GPU here; use --train.device cpu or auto")
    if device.type == "cpu" or not is_launched():
        return device
    if device.index is not None:
        if started_processes() > 1:
            raise ValueError(f"train.device is {device}, one GPU for several processes; use --train.device auto")
        return device
    number, there = local_rank(), torch.cuda.device_count()
    if number >= there:
        raise ValueError(
            f"process {number + 1} on this machine finds no GPU for itself, for torch sees {there}: start {there} "
            "processes here (--devices, torchrun --nproc-per-node), or use --train.device cpu"
        )
    return torch.device("cuda", number)


@contextlib.contextmanager
def alone(module: nn.Module) -> Iterator[None]:
    """In here this process does what one process does with its share: it waits for no other, so it may fail alone.

    SyncBatchNorm in `module` would wait, so it normalises by its running statistics.
    """
    global _on_its_own
    waiting = [part for part in module.modules() if isinstance(part, nn.SyncBatchNorm) and part.training]
    try:
        _on_its_own = True
        for part in waiting:
            part.eval()
        yield
    finally:
        _on_its_own = False
        for part in waiting:
            part.train()


# A process's share ----------------------------------------------------------------------------------------------------


def own_slots(size: int, parts: int) -> list[int]:
    """This process's slots of a batch of `size` that is taken in `parts` micro-batches: its share of each of them."""
    return [slot for part in torch.arange(size).chunk(parts) for slot in own_rows(part).tolist()]


def own_rows(tensor: Tensor) -> Tensor:
    """This process's rows of what was made for the whole (micro-)batch."""
    count = len(tensor) // world_size()
    return tensor[rank() * count :][:count]


def rolled(maps: Tensor) -> Tensor:
    """Row i + 1 of the whole batch in place of row i, a ring: `maps.roll(-1, 0)` over all processes. No gradient."""
    with full_precision(maps.device):  # autocast to bf16 joins no float16, which confidences are, nor rolls it
        if world_size() == 1:
            return maps.roll(-1, 0)
        first = maps[:1].detach().contiguous()
        following = torch.empty_like(first)
        sent = dist.P2POp(dist.isend, first, (rank() - 1) % world_size())
        received = dist.P2POp(dist.irecv, following, (rank() + 1) % world_size())
        for request in dist.batch_isend_irecv([sent, received]):
            request.wait()
        return torch.cat([maps[1:], following])


# Sums and copies ------------------------------------------------------------------------------------------------------


def sum_over_ranks_(tensor: Tensor) -> Tensor:
    """`tensor` summed over all processes, in place."""
    if is_active():
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of all processes' `tensor`."""
    return sum_over_ranks_(tensor) / world_size() if is_active() else tensor


def joined(tensor: Tensor) -> Tensor:
    """All processes' `tensor`, of one shape, after one another along the first dimension. No gradient."""
    if not is_active():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def gathered(value: Value, patience: timedelta | None = None) -> list[Value]:
    """The `value` of every process, by rank; any small object. `patience`: how long to wait, None: PATIENCE."""
    if not is_active():
        return [value]
    values: list[Value] = [value] * world_size()
    group: Any = None if patience is None else dist.new_group(timeout=patience, backend="gloo")
    dist.all_gather_object(values, value, group=group)
    return values


def copy_from_first(module: nn.Module) -> None:
    """Every process's `module` becomes the first one's: parameters and buffers."""
    if is_active():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


# Training -------------------------------------------------------------------------------------------------------------


def replicated(module: nn.Module) -> nn.Module:
    """`module` under DDP, which averages the gradients of all processes in the backward pass; itself with one.

    Its parameters and buffers become the first process's.
    """
    if not is_active():
        return module
    copy_from_first(module)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # the older torch has no other name
        return DistributedDataParallel(_Replica(module), broadcast_buffers=False, find_unused_parameters=True)


class _Replica(nn.Module):
    """A module with one parameter more, which nothing uses.

    Some methods leave parameters out of some steps, so DDP has to look for those; where it finds none, it warns in
    every process. It always finds this one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.idle = nn.Parameter(next(module.parameters()).new_zeros(1))

    def forward(self, *arguments: object) -> object:
        return self.module(*arguments)


def averaging(module: nn.Module, wanted: bool) -> AbstractContextManager:
    """Backward passes in here average the gradients if `wanted`; else they stay with their process."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not wanted else contextlib.nullcontext()


def average_statistics(module: nn.Module) -> None:
    """Every process's BatchNorm statistics become the mean of all.

    On GPUs nothing is left to do: SyncBatchNorm has normalised by the whole batch. It does not run on a CPU, where each
    process normalises by its own images.
    """
    if not is_active() or dist.get_backend() == "nccl":
        return
    own = [buffer for name, buffer in module.named_buffers() if name.endswith(("running_mean", "running_var"))]
    if own:
        mean = mean_over_ranks(torch.cat([buffer.flatten() for buffer in own]))
        for buffer, part in zip(own, mean.split([buffer.numel() for buffer in own]), strict=True):
            buffer.copy_(part.view_as(buffer))
