"""Unlabelled images that have masks all the same: pseudo-labels are measured on them, and nothing is learnt from them.

A benchmark hides the masks of most of its images to call them unlabelled. How many pseudo-labels are right can then be
known, and is worth knowing while a run trains. Nothing of it reaches the training: loaders read `Dataset.unlabeled`,
which has no masks, no checkpoint is chosen by it, and none of the run's random numbers is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from semiseg.data.bands import Mapped
from semiseg.data.dataset import Dataset, ImageSet, Pixels, scored_mask
from semiseg.types import IGNORE

PROBED = 4096  # masks that are looked for at most, however many images there are


class HiddenPool(ImageSet):
    """The images at `places` of `source`."""

    def __init__(self, source: ImageSet, places: Sequence[int]) -> None:
        self.source, self.places = source, places
        self.name, self.has_masks, self.bands = "hidden", True, source.bands
        self.names = [source.names[place] for place in places]

    def image(self, index: int) -> Pixels | Mapped:
        return self.source.image(self.places[index])

    def mask(self, index: int) -> Pixels:
        return self.source.mask(self.places[index])


def hidden_pool(dataset: Dataset, count: int) -> HiddenPool | None:
    """At most `count` unlabelled images with a mask, always the same ones of a list; None where there are none.

    They are drawn by a fixed seed, not taken from the list's start, where images of one place or look may stand
    together. A mask that is missing, cannot be read or has no labelled pixel where its image has data is passed
    over.
    """
    if count == 0 or dataset.hidden is None:
        return None
    source = dataset.hidden
    order = np.random.default_rng(0).permutation(len(source))[:PROBED].tolist()
    places = sorted(islice((place for place in order if _has_labels(source, place)), count))
    return HiddenPool(source, places) if places else None


def _has_labels(images: ImageSet, place: int) -> bool:
    try:
        return bool((scored_mask(images, place) != IGNORE).any())
    except ValueError:  # a run that does not need the mask must not end by it
        return False
