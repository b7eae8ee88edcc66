"""Where the device's memory is too small for a step: smaller parts while a run begins, a clear error later.

How much a step needs shows in the first steps of a process, and in the first with unlabelled images. One of these that
does not fit is taken back and done again in twice as many micro-batches, to the bit as if it had begun so.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from semiseg.runtime.distributed import world_size
from semiseg.types import Clock

Result = TypeVar("Result")

FIRST_STEPS = 10  # by then gradients, the optimizer's state and the allocator's blocks are all there
LEAST = 2  # images in a part: the decoder's image pooling normalises over them


class MemoryShortError(ValueError):
    """The device's memory is too small for a step; the message says what to do."""


@dataclass
class Attempt:
    """A step that is taken in `parts` micro-batches or, where memory is short and the step is among the first, more."""

    method: nn.Module
    clock: Clock
    sizes: Sequence[int]  # images of each of the step's batches
    starts: Sequence[int]  # steps with which something begins: the process, the unlabelled images
    parts: int

    def take(self, passes: Callable[[int], Result]) -> Result:
        """What `passes(parts)` gives, with `parts` doubled until it fits. Raises torch.OutOfMemoryError if it cannot.

        passes: all of a step until the weights change; it changes nothing but gradients, buffers and generators.
        """
        while self.obstacle() is None:
            before = Before.of(self.method, self.clock.generator)
            result = _unless_short(lambda: passes(self.parts))
            if result is not None:
                return result
            before.restore()
            self.parts *= 2
        return passes(self.parts)

    def obstacle(self) -> str | None:
        """Why the step cannot be taken in twice as many parts; None where it can."""
        if not any(0 <= self.clock.step - start < FIRST_STEPS for start in self.starts):
            return "steps of this size did fit before, so something else may be using the memory"
        if world_size() > 1:
            return "of several processes none can take smaller parts than the others"
        for size in self.sizes:
            if size % (2 * self.parts):
                return f"a batch of {size} images has no {2 * self.parts} parts of one size"
            if size // (2 * self.parts) < LEAST:
                return f"in {2 * self.parts} parts, a batch of {size} images leaves fewer than {LEAST} for each"
        return None

    @contextlib.contextmanager
    def explained(self, last_good: Callable[[], str]) -> Iterator[None]:
        """Raises MemoryShortError where memory is too small in here; `last_good` tells of the last checkpoint."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            images = " and ".join(str(size // self.parts) for size in self.sizes)
            raise MemoryShortError(
                f"the device's memory is too small for step {self.clock.step + 1} with {images} images at a time: "
                f"{self.obstacle() or 'it ran out behind the passes, where smaller parts are no help'}. What needs "
                "less: --network.checkpoint true (the same numbers, and --resume takes it), a larger "
                "--train.accumulate, a smaller --augment.crop_height and --augment.crop_width, or "
                f"smaller batches. {last_good()}"
            ) from error


@dataclass(frozen=True)
class Before:
    """What the passes of a step change, as it was before them. Gradients there are none then."""

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


def _unless_short(call: Callable[[], Result]) -> Result | None:
    """None where memory was too small. Behind this the error is gone, and with it the activations its frames held."""
    try:
        return call()
    except torch.OutOfMemoryError:
        return None
