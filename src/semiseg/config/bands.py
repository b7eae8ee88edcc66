"""Options of images that are not RGB of 8 bits. No torch here: `semiseg --help` reads this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from semiseg.config.checks import Options, Range, require

MOST_BANDS = 16
Value = Annotated[float, Range(-1e38, 1e38)]
_Percent = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
class BandOptions(Options):
    """Which values the images have, and which of them the network sees as 0 and as 1."""

    section: ClassVar[str] = "data.bands"

    count: Annotated[int, Range(1, MOST_BANDS)] | None = None
    """Bands of the images. None: as the first labelled one has; pictures of 8 bits, grey too, are read as RGB."""
    low: tuple[Value, ...] | None = None
    """Value that becomes 0, of all bands or one for each. None: 0 of 8-bit files, of others learnt from the images."""
    high: tuple[Value, ...] | None = None
    """Value that becomes 1, likewise; None: 255 of 8-bit files, else learnt. A run's config has what was learnt."""
    percentiles: tuple[_Percent, _Percent] = (0.5, 99.5)
    """Of each band's values in training images: what is learnt as `low` and `high`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.low, self.high
        require((low is None) == (high is None), "give both data.bands.low and data.bands.high, or neither")
        if low is not None and high is not None:
            fits = 0 < len(low) == len(high) and all(a < b for a, b in zip(low, high, strict=True))
            require(fits, f"data.bands.low is {low} and high {high}; expected as many, each low below its high")
            require(
                self.count is None or len(low) in (1, self.count),
                f"data.bands.low has {len(low)} values for {self.count} bands; expected 1, or one for each band",
            )
        require(
            self.percentiles[0] < self.percentiles[1],
            f"data.bands.percentiles are {self.percentiles}; expected the lower one first",
        )
