"""Whether a step fits into the device's memory, tried before the first one; smaller parts where it does not."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from semiseg.runtime.distributed import alone, gathered
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
    they are held meanwhile. Nothing of the method is changed. Each rank tries its share by itself; a step fits where it
    fits on every rank. Raises MemoryShortError where no number of parts fits.
    """
    while not all(gathered(_fits(passes, method, clock, parts, slots))):
        obstacle = _obstacle(sizes, parts)
        if obstacle is not None:
            raise MemoryShortError(advice(sizes, parts, obstacle))
        parts *= 2
    return parts


def _fits(passes: Callable[[int], object], method: nn.Module, clock: Clock, parts: int, slots: int) -> bool:
    """Whether the passes fit. Behind this the error is gone, and with it the activations that its frames held."""
    reserved: list[Tensor] = []
    with undone(method, clock.generator):
        try:
            with alone(method):
                reserved += (torch.empty_like(p) for p in method.parameters() for _ in range(slots) if p.requires_grad)
                passes(parts)
            return True
        except torch.OutOfMemoryError:
            return False
        finally:
            reserved.clear()


def _obstacle(sizes: Sequence[int], parts: int) -> str | None:
    """Why the step cannot be taken in twice as many parts; None where it can."""
    for size in sizes:
        if size % (2 * parts):
            return f"a batch of {size} images has no {2 * parts} parts of one size"
        if size // (2 * parts) < LEAST:
            return f"in {2 * parts} parts, a batch of {size} images leaves fewer than {LEAST} for each"
    return None


def advice(sizes: Sequence[int], parts: int, why: str, last_good: str = "") -> str:
    """The message: the size that failed, and remedies; `last_good` tells of the last checkpoint."""
    images = " and ".join(str(size // parts) for size in sizes)
    return (
        f"the device's memory is too small for a step with {images} images at a time: {why}. What needs less: "
        "--network.checkpoint true (the same numbers, and --resume takes it), a larger --train.accumulate, a smaller "
        f"--augment.crop_height and --augment.crop_width, or smaller batches. {last_good}"
    ).rstrip()


@contextlib.contextmanager
def explained(sizes: Sequence[int], parts: int, last_good: str) -> Iterator[None]:
    """Raises MemoryShortError where memory runs out in here, in a step like the tried one."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        why = "it did fit when the run began, so this device may be smaller, or something else may be using its memory"
        raise MemoryShortError(advice(sizes, parts, why, last_good)) from error


@contextlib.contextmanager
def undone(module: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Takes back what passes in here change, and gives their memory back. `module` has no gradients before and after.

    Buffers, and the states of `generator` and of torch's own generators, from which dropout draws.
    """
    generators = [generator, torch.default_generator]
    if torch.cuda.is_initialized():
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    states = [(each, each.get_state()) for each in generators]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.detach().copy_(value)
        for each, state in states:
            each.set_state(state)
        module.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()  # what was only tried is no part of the run's peak
