"""From image sets to batches: batch t of a run is a pure function of (seed, t).

It depends neither on the number of workers nor on where the run was resumed, and the labelled part does not depend on
whether the method takes unlabelled images.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from semiseg.config.options import AugmentOptions, DataOptions, TrainOptions
from semiseg.data.bands import Mapped, at_size
from semiseg.data.dataset import Dataset, ImageSet, Pixels
from semiseg.data.order import Order, Stream
from semiseg.parts.augment import as_batch, normalise, weak_view
from semiseg.runtime.distributed import own_slots
from semiseg.runtime.stopping import SIGNALS
from semiseg.types import IGNORE, LabeledBatch, UnlabeledBatch

WholeImage = tuple[str, Tensor, Tensor | None]  # name, image (1, N, H, W) float32 normalised, label (H, W) int64
Step = tuple[LabeledBatch, UnlabeledBatch | None]

log = logging.getLogger(__name__)

_TRIES = 10  # damaged images after one another that are passed over
LOAD_AHEAD = 4  # whole images that wait decoded
LOAD_THREADS = 2
PARTNER_THREADS = 4


class ViewKey(NamedTuple):
    """Everything that decides one weak view, apart from the seed."""

    stream: Stream  # LABELED_VIEW, UNLABELED_VIEW or PARTNER_VIEW
    step: int
    slot: int  # position in the batch
    position: int  # in the image set


class Sample(NamedTuple):
    """One weak view, as `weak_view` makes it, and the image it shows."""

    image: Tensor  # (H, W, 3) uint8, or (H, W, N) float32 of bands
    label: Tensor | None  # (H, W) uint8, None for an unlabelled image
    valid: Tensor  # (H, W) bool
    position: int  # in the image set


class Crops(NamedTuple):
    """A batch of weak views as the loading processes hand them over: in bytes, not yet normalised.

    A tuple, so that a loader can pin it.
    """

    image: Tensor  # (B, H, W, 3) uint8, or (B, H, W, N) float32 of bands
    label: Tensor | None  # (B, H, W) uint8, None for unlabelled images
    valid: Tensor  # (B, H, W) bool
    index: Tensor  # pyright: ignore  # (B,) int64, position in the image set; hides tuple.index, which nobody needs

    def batch(self, device: torch.device, channels_last: bool) -> LabeledBatch | UnlabeledBatch:
        """The batch on `device`, normalised there; the frame is 0, the mean colour.

        The bytes travel, from pinned memory without waiting: 32 crops of 513 x 513 are 42 MB, 2 ms on a PCIe 4 link.
        """
        image, valid, index = (part.to(device, non_blocking=True) for part in (self.image, self.valid, self.index))
        image = normalise(image).mul_(valid[:, None])
        image = image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        if self.label is None:
            return UnlabeledBatch(image, valid, index)
        return LabeledBatch(image, self.label.to(device, non_blocking=True).long(), index)


class StepKeys:
    """The keys of each step from `start`, labelled ones first; of several processes, each has the keys of its slots."""

    def __init__(self, dataset: Dataset, train: TrainOptions, seed: int, start: int, use_unlabeled: bool) -> None:
        self.steps = range(start, train.steps)
        labeled = Order(len(dataset.labeled), seed, Stream.LABELED_ORDER)
        self.parts = train.accumulate
        self.orders = [(Stream.LABELED_VIEW, labeled, train.batch_labeled)]
        if use_unlabeled:
            unlabeled = Order(len(dataset.unlabeled), seed, Stream.UNLABELED_ORDER)
            self.orders.append((Stream.UNLABELED_VIEW, unlabeled, train.batch_unlabeled))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[ViewKey]]:
        for step in self.steps:
            yield [
                ViewKey(stream, step, slot, positions[slot])
                for stream, order, size in self.orders
                for positions in [order.batch(step, size)]
                for slot in own_slots(size, self.parts)
            ]


class Views(TorchDataset):
    """Weak views by key; what a worker process receives a copy of."""

    def __init__(
        self, dataset: Dataset, augment: AugmentOptions, pad_label: int, seed: int, skip: bool = False
    ) -> None:
        self.labeled, self.unlabeled = dataset.labeled, dataset.unlabeled
        self.augment, self.pad_label, self.seed, self.skip = augment, pad_label, seed, skip

    def __getitem__(self, key: ViewKey) -> Sample | ValueError:
        try:
            return self.sample(key)
        except ValueError as error:
            return error  # a worker's exception arrives with its traceback as its text; the user gets the message

    def sample(self, key: ViewKey) -> Sample:
        """The weak view of one key. Raises ValueError where the image or the mask cannot be read."""
        rng = np.random.default_rng([self.seed, *key[:3]])
        labeled = key.stream == Stream.LABELED_VIEW
        images = self.labeled if labeled else self.unlabeled
        mask = images.mask(key.position) if labeled else None
        position, image = (key.position, images.image(key.position)) if labeled else self._unlabeled(key.position)
        return Sample(*weak_view(image, mask, self.augment, self.pad_label, rng), position)

    def _unlabeled(self, position: int) -> tuple[int, Pixels | Mapped]:
        """An unlabelled image, or with `skip` the next that can be read: those in shards were not looked at before."""
        for place in range(position, position + _TRIES):
            try:
                return place % len(self.unlabeled), self.unlabeled.image(place % len(self.unlabeled))
            except ValueError as error:
                if not self.skip or place == position + _TRIES - 1:
                    raise
                log.warning("left out (data.on_error: skip), with the next image in its place: %s", error)
        raise AssertionError("one of them returns or raises")


def training_batches(
    dataset: Dataset,
    data: DataOptions,
    augment: AugmentOptions,
    train: TrainOptions,
    *,
    seed: int,
    start: int,
    use_unlabeled: bool,
    device: torch.device,
) -> Iterator[Step]:
    """The batches of steps start, ..., train.steps - 1 on `device`, made ahead by train.workers processes.

    `start` is more than 0 in a run that is resumed, `seed` the run's; of `data`, pad_label is read. Without
    `use_unlabeled` the second part of each pair is None. Raises ValueError, while iterating, where an image or a mask
    cannot be read.
    """
    loader = DataLoader(
        Views(dataset, augment, data.pad_label, seed, data.on_error == "skip"),
        batch_sampler=StepKeys(dataset, train, seed, start, use_unlabeled),
        num_workers=train.workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # the loader draws a seed that nothing uses; not from the global generator
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        labeled, unlabeled = (crops and crops.batch(device, train.channels_last) for crops in batch)
        yield labeled, unlabeled


def collate(samples: list[Sample | ValueError]) -> tuple[Crops, Crops | None] | ValueError:
    """A step's samples -> its labelled and its unlabelled crops, or the first error among them."""
    views = [sample for sample in samples if isinstance(sample, Sample)]
    if len(views) < len(samples):
        return next(sample for sample in samples if isinstance(sample, ValueError))
    labeled = [view for view in views if view.label is not None]
    unlabeled = views[len(labeled) :]
    return _stacked(labeled), _stacked(unlabeled) if unlabeled else None


class PartnerLoader:
    """Weak views of unlabelled images that a method asks for while it trains.

    Called with a step and the positions for all its slots, in order, it starts to load this process's slots, by
    threads, and gives what waits for the batch. A view depends on (seed, step, slot, position) alone.
    """

    def __init__(self, views: Views, train: TrainOptions, device: torch.device) -> None:
        self.views, self.train, self.device = views, train, device
        self.pool = ThreadPoolExecutor(PARTNER_THREADS)  # which starts none before there is something to load

    def __call__(self, step: int, positions: Sequence[int]) -> Callable[[], UnlabeledBatch]:
        """What waits raises ValueError where an image cannot be read."""
        slots = own_slots(len(positions), self.train.accumulate)
        keys = [ViewKey(Stream.PARTNER_VIEW, step, slot, positions[slot]) for slot in slots]
        futures = [self.pool.submit(self.views.sample, key) for key in keys]
        return lambda: self._batch([future.result() for future in futures])

    def _batch(self, samples: list[Sample]) -> UnlabeledBatch:
        crops = _stacked(samples)
        if self.device.type == "cuda":
            crops = Crops(crops.image.pin_memory(), None, crops.valid.pin_memory(), crops.index.pin_memory())
        found = crops.batch(self.device, self.train.channels_last)
        assert isinstance(found, UnlabeledBatch)
        return found


def whole_images(
    images: ImageSet, *, with_label: bool = True, indices: Iterable[int] | None = None
) -> Iterator[WholeImage]:
    """The images at `indices` (None: every one), in order, at their own size; a few are loaded ahead by threads.

    Yields (name, image (1, N, H, W) float32 normalised, label (H, W) int64, or None without `with_label`).
    Raises ValueError where an image or a mask cannot be read.
    """

    def load(index: int) -> WholeImage:
        image, label = images.image(index), None
        if with_label:
            mask = images.mask(index)
            if image.dtype != np.uint8:
                mask = np.where(at_size(np.isnan(image[..., 0]), mask.shape), np.uint8(IGNORE), mask)
            label = torch.from_numpy(mask.astype(np.int64))
        return images.names[index], as_batch(image), label

    with ThreadPoolExecutor(LOAD_THREADS) as pool:
        waiting: deque[Future[WholeImage]] = deque()
        for index in range(len(images)) if indices is None else indices:
            waiting.append(pool.submit(load, index))
            if len(waiting) > LOAD_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def labeled_images(images: ImageSet) -> Iterable[LabeledBatch]:
    """Batches of one whole, unaugmented image each, for the K-means start; may be iterated again."""
    return _LabeledImages(images)


class _LabeledImages:
    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabeledBatch]:
        for index, (_, image, label) in enumerate(whole_images(self.images)):
            assert label is not None
            yield LabeledBatch(image, label[None], torch.tensor([index]))


def _stacked(views: list[Sample]) -> Crops:
    """All labelled, or all unlabelled."""
    images, labels, valids, positions = zip(*views, strict=True)
    label = None if labels[0] is None else torch.stack(labels)
    return Crops(torch.stack(images), label, torch.stack(valids), torch.tensor(positions))


def _start_worker(_: int) -> None:
    """One thread per worker, and what asks for an end is the parent's to answer: it takes one more step, and saves."""
    torch.set_num_threads(1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
