"""Which bands a dataset has, by its first labelled image, and the range of their values, learnt from its images."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from semiseg.config.bands import BandOptions
from semiseg.config.options import require
from semiseg.data.bands import Bands, blank_pixels
from semiseg.data.dataset import Dataset, ImageSet
from semiseg.data.deep import Stored

log = logging.getLogger(__name__)

IMAGES = 32  # labelled, and as many unlabelled, from which a range is learnt
PIXELS = 65_536  # of an image: all of a smaller one, else evenly spaced ones


def with_bands(dataset: Dataset, options: BandOptions, seed: int) -> Dataset:
    """`dataset` whose images are read as the first labelled one is stored; of RGB of 8 bits it stays as it is.

    A range that `options` do not state is learnt from labelled and unlabelled images, of many from IMAGES of each that
    `seed` draws. Raises ValueError where the images have other bands than the options say, or cannot be read.
    """
    rgb = options.count in (None, 3) and options.low is None
    place, stored = _first(dataset.labeled)
    if stored is None:
        require(rgb, "data.bands is set, but no labelled image is a file or an array of other than RGB: leave it out")
        return _read_as(dataset, None, place)
    if stored.plain and stored.nodata is None and rgb:
        return _read_as(dataset, None, place)
    first, count = dataset.labeled.file(place), stored.count(options.count)
    require(
        options.count in (None, count),
        f"data.bands.count is {options.count}, and {first} has {stored}"
        f"{' and alpha' if stored.alpha else ''}. Leave it out, or save the images with that many bands",
    )
    low, high = options.low, options.high
    if low is None or high is None:
        raw = Bands(stored.dtype, (0.0,) * count, (1.0,) * count, first)
        whole = ((0.0,) * count, (255.0,) * count)
        low, high = (
            whole if stored.dtype == "uint8" else learn(_read_as(dataset, raw, place), options.percentiles, seed)
        )
    require(
        len(low) in (1, count),
        f"data.bands.low has {len(low)} values, and {first} {count} bands; expected 1 or {count}",
    )
    if len(low) == 1:
        low, high = low * count, high * count
    return _read_as(dataset, Bands(stored.dtype, low, high, first), place)


def learn(dataset: Dataset, percentiles: tuple[float, float], seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The percentiles of each band's values in training images, pixels without data left out: lows, and highs.

    Where both are one value the band's least and greatest stand in their place; a band of one value is warned of.
    """
    rng = np.random.default_rng(seed)
    samples = [*_samples(dataset.labeled, rng), *_samples(dataset.unlabeled, rng)]  # each (P, N)
    values = np.concatenate(samples) if samples else np.zeros((0, 1))
    require(len(values) > 0, f"{dataset.labeled.file(0)} and the other training images have no pixel with data")
    low, high = (np.percentile(values, each, axis=0) for each in percentiles)  # (N,)
    flat = low >= high
    low, high = np.where(flat, values.min(0), low), np.where(flat, values.max(0), high)
    constant = low >= high
    if constant.any():
        bands = ", ".join(str(place + 1) for place in np.flatnonzero(constant))
        log.warning(
            "band %s has one value in all training images that were looked at: nothing is learnt from it", bands
        )
    high = np.where(constant, low + 1, high)
    low, high = ([float(f"{value:.6g}") for value in values] for values in (low, high))  # for people to read
    return tuple(low), tuple(high)


def _samples(images: ImageSet, rng: np.random.Generator) -> Iterator[NDArray]:
    for place in sorted(rng.permutation(len(images))[:IMAGES].tolist()):
        try:
            values, nodata = images.values(place)
        except ValueError as error:  # a damaged one is told of, or left out, when all are looked at
            log.info("no range is learnt from an image: %s", error)
            continue
        assert images.bands is not None
        images.bands.check(values.shape[2], str(values.dtype), images.file(place))
        pixels = values[~blank_pixels(values, nodata)]  # (P, N)
        yield pixels[:: max(1, -(-len(pixels) // PIXELS))].astype(np.float64)


def _first(images: ImageSet) -> tuple[int, Stored | None]:
    """The first image whose header can be read; damaged ones are told of, or left out, when all are looked at."""
    for place in range(len(images)):
        with suppress(ValueError):
            return place, images.stored(place)
    return 0, None


def _read_as(dataset: Dataset, bands: Bands | None, place: int) -> Dataset:
    """Copies of the sets: a dataset that was given stays as it was."""
    first = dataset.labeled.file(place) if len(dataset.labeled) else ""
    sets = {name: copy.copy(getattr(dataset, name)) for name in ("labeled", "unlabeled", "val", "test", "hidden")}
    for images in filter(None, sets.values()):
        images.bands, images.first = bands, first
    return replace(dataset, bands=bands, **sets)
