"""What several processes share; with one process every function is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def is_active() -> bool:
    """Whether a process group is running."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 with one process."""
    return dist.get_rank() if is_active() else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """`tensor` summed over all processes, in place."""
    if is_active():
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def pick_device(name: str) -> torch.device:
    """The device an option names: `auto` is a GPU if there is one.

    Raises ValueError for a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"train.device is {name!r}; expected auto, cpu or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"train.device is {name!r}, which was never tried; expected auto, cpu or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"train.device is {name!r}, but torch sees no GPU here; use --train.device cpu or auto")
    return device
