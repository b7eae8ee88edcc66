"""Images as a loader reads them: at the working scale, decoded anew, or kept in memory or in files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg.data.bands import Mapped
from semiseg.data.dataset import ImageSet, Pixels
from semiseg.data.decode_cache import DecodeCache


class Prepared(ImageSet):
    """An image set at `data.scale`, its decoded pictures kept in memory or in files, or not: what a loader reads.

    A set in memory decodes everything here, in the parent process, so that forked workers share the arrays. A set with
    `disk` decodes a picture when it is first asked for; pixels from a file cannot be written to.
    """

    def __init__(
        self,
        source: ImageSet,
        scale: float = 1.0,
        cache: bool = False,
        *,
        disk: DecodeCache | None = None,
        draft: bool = False,
    ) -> None:
        """`draft` lets JPEGs be decoded smaller, where `scale` is at most a half."""
        self.source, self.scale, self.disk, self.draft = source, scale, disk, draft
        self.name, self.names, self.has_masks = source.name, source.names, source.has_masks
        self.bands, self.first = source.bands, source.first
        self.in_memory = cache
        indices = range(len(source)) if cache else ()
        self._images: list[Pixels | Mapped] = [self._read_image(index) for index in indices]
        self._masks: list[Pixels] = [self._read_mask(index) for index in indices if source.has_masks]

    def image(self, index: int) -> Pixels | Mapped:
        return self._images[index] if self._images else self._kept(index, "image", self._read_image)

    def mask(self, index: int) -> Pixels:
        return self._masks[index] if self._masks else self._kept(index, "mask", self._read_mask)

    def file(self, index: int) -> str:
        return self.source.file(index)

    def _kept(self, index: int, what: str, read: Callable[[int], Any]) -> Any:
        banded = what == "image" and self.bands is not None  # floats, which the files do not hold
        files = None if self.disk is None or banded else self.source.files_key(index, what)
        if self.disk is None or files is None:
            return read(index)
        return self.disk.pixels(f"{what} {self.scale!r} {self.draft}\0{files}", lambda: read(index))

    def _read_image(self, index: int) -> Pixels | Mapped:
        pixels, size = self.source.reduced(index, self.scale) if self.draft else (self.source.image(index), None)
        # Areas are averaged when shrinking, so that thin things fade instead of flickering.
        return resized(pixels, self.scale, cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR, size)

    def _read_mask(self, index: int) -> Pixels:
        return resized(self.source.mask(index), self.scale, cv2.INTER_NEAREST_EXACT)


def resized(
    pixels: NDArray[Any], scale: float, interpolation: int, size: tuple[int, int] | None = None
) -> NDArray[Any]:
    """`pixels` (h, w[, N]) at round(scale * H) x round(scale * W), at least 1 x 1; H x W is `size`, or h x w."""
    if scale == 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in size or pixels.shape[:2])
    found = np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation), dtype=pixels.dtype)
    return found.reshape(height, width, *pixels.shape[2:])  # OpenCV drops the axis of one band
