"""What a run has learnt of its images' bands, in its config."""

from __future__ import annotations

from dataclasses import replace

from semiseg.config.options import require
from semiseg.config.recipe import Config
from semiseg.data.bands import Bands


def with_learnt(config: Config, bands: Bands | None) -> Config:
    """`config` with the bands and the range of the dataset that it opened; None: RGB of 8 bits, and nothing changes.

    Raises ValueError where network.bands was given and the images have other ones.
    """
    count = 3 if bands is None else bands.count
    require(
        config.network.bands in (3, count),
        f"network.bands is {config.network.bands}, and the images have {count}: leave it out, it follows the images",
    )
    if bands is None:
        return config
    learnt = replace(config.data.bands, count=count, low=bands.low, high=bands.high)
    data, network = replace(config.data, bands=learnt), replace(config.network, bands=count)
    return replace(config, data=data, network=network)


def as_before(config: Config, before: Config) -> Config:
    """`config` with what the run `before` learnt, where it does not say otherwise."""
    asked, learnt = config.data.bands, before.data.bands
    if asked.low is None and asked.count in (None, learnt.count) and asked.percentiles == learnt.percentiles:
        config = replace(config, data=replace(config.data, bands=learnt))
    if config.network.bands == 3:
        config = replace(config, network=replace(config.network, bands=before.network.bands))
    return config
