"""How much a computation keeps for its backward pass."""

from collections.abc import Callable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(compute: Callable[[], object], *there: Tensor) -> int:
    """Bytes that are kept for the backward pass of what `compute` gives, once each; `there` are kept anyway."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    assert result is not None
    return sum(size for key, size in sizes.items() if key not in {each.untyped_storage()._cdata for each in there})
