"""Whether a step fits into the device's memory, tried before the first one; smaller parts where it does not."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semiseg.runtime.distributed import world_size
from semiseg.types import Clock

LEAST = 2  # images in a part: the decoder's image pooling normalises over them


class MemoryShortError(ValueError):
    """The device's memory is too small for a step; the message says what to do."""


def probe(
    passes: Callable[[int], object], method: nn.Module, clock: Clock, sizes: Sequence[int], parts: int, slots: int
) -> int:
    """The number of micro-batches with which a step fits: `parts`, doubled until it does.

    passes: forward and backward pass of all of a step in so many micro-batches, the largest that the run will take.
    sizes: images of each of the step's batches. slots: tensors of every parameter's size that the optimizer will keep;
    they are held meanwhile. Nothing of the method is changed. Raises MemoryShortError where no number of parts fits;
    with several ranks already where `parts` does not, for the passes of one rank wait for those of the others.
    """
    while True:
        if _fits(passes, method, clock, parts, slots):
            return parts
        obstacle = _obstacle(sizes, parts)
        if obstacle is not None:
            raise MemoryShortError(advice(sizes, parts, obstacle))
        parts *= 2


def _fits(passes: Callable[[int], object], method: nn.Module, clock: Clock, parts: int, slots: int) -> bool:
    """Whether the passes fit. Behind this the error is gone, and with it the activations that its frames held."""
    before = Before.of(method, clock.generator)
    try:
        reserved = [torch.empty_like(each) for each in method.parameters() for _ in range(slots) if each.requires_grad]
        passes(parts)
        del reserved
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        before.restore()


def _obstacle(sizes: Sequence[int], parts: int) -> str | None:
    """Why the step cannot be taken in twice as many parts; None where it can."""
    if world_size() > 1:
        return "of several processes none can take smaller parts than the others"
    for size in sizes:
        if size % (2 * parts):
            return f"a batch of {size} images has no {2 * parts} parts of one size"
        if size // (2 * parts) < LEAST:
            return f"in {2 * parts} parts, a batch of {size} images leaves fewer than {LEAST} for each"
    return None


def advice(sizes: Sequence[int], parts: int, why: str, last_good: str = "") -> str:
    """What was too large, and what needs less memory; `last_good` tells of the last checkpoint."""
    images = " and ".join(str(size // parts) for size in sizes)
    return (
        f"the device's memory is too small for a step with {images} images at a time: {why}. What needs less: "
        "--network.checkpoint true (the same numbers, and --resume takes it), a larger --train.accumulate, a smaller "
        f"--augment.crop_height and --augment.crop_width, or smaller batches. {last_good}"
    ).rstrip()


@contextlib.contextmanager
def explained(sizes: Sequence[int], parts: int, last_good: Callable[[], str]) -> Iterator[None]:
    """Raises MemoryShortError where memory runs out in here, in a step that did fit when it was tried."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        why = "a step of this size was tried before the first, so something else may be using the memory"
        raise MemoryShortError(advice(sizes, parts, why, last_good())) from error


@dataclass(frozen=True)
class Before:
    """What the passes of a step change, as it was before them. There are no gradients then."""

    module: nn.Module
    buffers: list[tuple[Tensor, Tensor]]  # each with its value
    generators: list[tuple[torch.Generator, Tensor]]  # each with its state

    @classmethod
    def of(cls, module: nn.Module, generator: torch.Generator) -> Before:
        """Buffers of `module`, and the states of `generator` and of torch's own, from which dropout draws."""
        generators = [generator, torch.default_generator]
        if torch.cuda.is_initialized():
            generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        return cls(module, buffers, [(each, each.get_state()) for each in generators])

    @torch.no_grad()
    def restore(self) -> None:
        """Take the passes back, and give the memory back that they held."""
        for buffer, value in self.buffers:
            buffer.copy_(value)
        for generator, state in self.generators:
            generator.set_state(state)
        self.module.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
