"""A step asks for no value: on a GPU each would wait until everything before it is computed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import tiny, tiny_trainer
from support.ranks import SCENARIOS, method_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semiseg.data.loading import Crops

VALUE = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__")
# Operations whose result's shape, or whose result on the host, is a value: what the above and `tensor[mask]` come to.
ASKING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "equal",
    "unique_dim",
    "_unique2",
    "bincount",
)


class Waited(AssertionError):
    """A value was asked for."""


class Watch(TorchDispatchMode):
    """Refuses the operations that wait, also where torch's own code calls them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)
        )
        if name in ASKING or masked:
            raise Waited(name)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def nothing_waits() -> Iterator[None]:
    """Whoever asks a tensor for its value in here is refused."""

    def refuse(name):
        def asked(self, *arguments, **options):
            raise Waited(name)

        return asked

    with pytest.MonkeyPatch.context() as patch, Watch():
        for name in VALUE:
            patch.setattr(Tensor, name, refuse(name))
        yield


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: bool(x.sum()),
        lambda x: int(x.sum()),
        lambda x: float(x.sum()),
        lambda x: range(x.long().sum()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.ops.aten._local_scalar_dense(x[0]),
        lambda x: x.index_put((x > 0,), x),
        lambda x: 1.0 in x,
    ],
)
def test_every_way_of_asking_is_noticed(ask):
    x = torch.ones(3)
    ask(x)  # allowed outside
    with nothing_waits(), pytest.raises(Waited):
        ask(x)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalising_waits_for_nothing(channels_last):
    crops = Crops(
        torch.zeros(2, 8, 9, 3).byte(), torch.zeros(2, 8, 9).byte(), torch.ones(2, 8, 9).bool(), torch.ones(2)
    )
    with nothing_waits():
        crops.batch(torch.device("meta"), channels_last)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_step_asks_for_a_value(tmp_path: Path, name):
    """In the warm-up, with unlabelled images, and everything after the loss; batches and methods of all kinds."""
    scenario = SCENARIOS[name]
    run = tiny_trainer.trainer(tmp_path, method_of(scenario, batch_norm=True), accumulate=scenario.accumulate, steps=6)
    run.optimizer.parts.pop("adam", None)  # torch reads its count of steps, which lies on the host
    for step in range(6):
        clock = run.clock(step)
        if step == run.method.prepare_at:
            run.prepare(clock)
        with nothing_waits():
            run.step(*tiny.batches(8, 8, seed=step), clock)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch notices waits on a GPU only")
@pytest.mark.parametrize("name", SCENARIOS)
def test_on_a_gpu_torch_notices_no_wait_either(tmp_path: Path, name):
    scenario, device = SCENARIOS[name], torch.device("cuda")
    run = tiny_trainer.trainer(
        tmp_path, method_of(scenario, batch_norm=True).to(device), accumulate=scenario.accumulate
    )
    run.device = device
    run.method.to(device)  # the trainer has taken it to its own
    for step in range(6):
        batches = [batch.to(device) for batch in tiny.batches(8, 8, seed=step)]
        if step == run.method.prepare_at:
            run.prepare(run.clock(step))
        torch.cuda.set_sync_debug_mode("error")
        try:
            run.step(*batches, run.clock(step))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_values_are_read_at_once_every_so_many_steps(tmp_path, monkeypatch):
    reads = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: reads.append(len(tensor)) or tolist(tensor))
    for name in ("item", "__float__", "__bool__"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, _counted(original, reads))
    run = tiny_trainer.trainer(tmp_path, method_of(SCENARIOS["prototype"]), steps=6)
    for step in range(6):
        if step == run.method.prepare_at:
            run.prepare(run.clock(step))
            reads.clear()
        run.step(*tiny.batches(8, 8, seed=step), run.clock(step))
    assert reads == []
    run.log()
    assert len(reads) == 1


def _counted(original, reads):
    return lambda tensor, *arguments: reads.append(1) or original(tensor, *arguments)
