"""The plan of a training on one's own folder: what follows from the data and the machine, with its reason.

No file, network or clock here: the same facts, machine and wishes give the same plan.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from semiseg.config.layers import Flat
from semiseg.config.options import DataOptions
from semiseg.config.recipe import Config, load_config, option_values
from semiseg.studies.own.facts import ABOVE, MICROSCOPE, Facts

RECIPE = "folder"
"""The recipe that a plan departs from."""
LADDER = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.09375, 0.0625)
"""Working scales."""
OBJECT = 8  # pixels that the side of the smallest objects keeps
SEEN = 0.25  # share of a picture's area that a crop is to show
UNIT = 32  # pixels that crops are multiples of: the encoder's deepest stride
ROOMY, TIGHT = 6e9, 2e9  # bytes of GPU memory, and of main memory, below which crops and batches are half as large
NO_UP = 0.15  # of `Facts.up_down`, above which pictures have an up, whatever they are called
RARE, VERY_RARE = 0.1, 0.02  # shares of the labelled pixels
PARTED = 256  # pixels of the shorter side, from which a crop is not all of a picture
HUE = 0.05
FEW = 20  # masks, below which their colours are learnt by heart

Reasons = tuple[tuple[str, str], ...]
"""What was chosen, in a word, and the value with its reason."""


@dataclass(frozen=True)
class Machine:
    """What trains."""

    cores: int
    memory: int
    """Bytes that are free."""
    gpu: str | None = None
    """Its name; None: there is none, or the user wants the CPU."""
    gpu_memory: int = 0
    """Bytes."""
    presets: frozenset[str] = frozenset({"pretrained"})
    """Of the recipe, those whose first weights are here: nothing has to be downloaded."""


@dataclass(frozen=True)
class Settings:
    """Everything but the number of steps."""

    config: Config
    reasons: Reasons


def settle(facts: Facts, machine: Machine, data: DataOptions, given: Flat) -> Settings:
    """The recipe's settings for these data on this machine. `data` reads them; options `given` by the user win.

    Raises ConfigError where `given` does not fit.
    """
    preset = "gpu" if machine.gpu and "gpu" in machine.presets else "pretrained"
    base: dict[str, object] = {"preset": preset if preset in machine.presets else None}
    if not facts.unlabeled:
        base["method"] = "supervised"
    base |= {"recipe": facts.name} | _of_data(data)
    return _Chooser(facts, machine, base, given).settings()


def _of_data(data: DataOptions) -> Flat:
    """The options that differ from their defaults."""
    found: Flat = {}
    for item in fields(data):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        value = getattr(data, item.name)
        if value != default and item.name != "scenes":
            found[f"data.{item.name}"] = str(value) if isinstance(value, Path) else value
    return found


class _Chooser:
    """Settings, one after another: each sees those before it, as planned or as given."""

    def __init__(self, facts: Facts, machine: Machine, base: Mapping[str, object], given: Flat) -> None:
        self.facts, self.machine, self.given = facts, machine, {k: v for k, v in given.items() if k != "run"}
        self.planned: dict[str, Any] = dict(base)
        config = load_config(RECIPE, {**base, **self.given})
        self.values: dict[str, Any] = dict(option_values(config))
        self.network = config.network
        self.reasons: dict[str, str] = {}

    def choose(self, key: str, value: Any) -> Any:
        """The value that holds: the one given, else `value`."""
        if key not in self.given:
            self.planned[key] = self.values[key] = value
        return self.values.get(key)

    def settings(self) -> Settings:
        """All of them, in the order in which they depend on each other."""
        self._scale()
        self._crop()
        self._batch()
        self._network()
        self._views()
        self._rare_classes()
        self._scores()
        self._loading()
        config = load_config(RECIPE, {**self.planned, **self.given})
        return Settings(replace(config, recipe=self.facts.name, run=None), tuple(self.reasons.items()))

    @property
    def small(self) -> bool:
        """Whether memory is short: crops and batches are half as large."""
        return self.machine.memory < TIGHT or (self.machine.gpu is not None and self.machine.gpu_memory < ROOMY)

    @property
    def area(self) -> int:
        """Pixels of a crop."""
        return (512 * 512 if self.machine.gpu else 240 * 320) // (2 if self.small else 1)

    @property
    def working(self) -> tuple[int, int]:
        """Height and width of the median picture at the working scale."""
        scale = self.values["data.scale"]
        return max(1, round(scale * self.facts.height)), max(1, round(scale * self.facts.width))

    def _scale(self) -> None:
        facts, side = self.facts, self.facts.object_side
        wanted = math.sqrt(self.area / SEEN / (facts.height * facts.width))
        view = next((scale for scale in LADDER if scale <= wanted), LADDER[-1])
        least = 0.0 if side is None else min([s for s in LADDER if s * side >= OBJECT], default=1.0)
        scale = self.choose("data.scale", max(view, least))
        size = f"{facts.width} x {facts.height} pixels"
        why = "small enough to be taken at full size" if scale == 1 else f"a crop shows more of {size}"
        if scale == least > view:
            why = f"the smallest objects, {side:.0f} pixels a side, would be lost at a smaller one"
        height, width = self.working
        self._say("scale", "data.scale", f"{scale:g}, pictures of {width} x {height}", why)

    def _crop(self) -> None:
        height, width = self.working
        patch = re.search(r"patch(\d+)", self.network.encoder) if self.network.name == "dpt" else None
        unit = int(patch[1]) if patch else UNIT
        aspect, area = min(max(height / width, 0.5), 2), self.area
        if (
            height * width <= area and min(height, width) >= PARTED
        ):  # more pictures in a step teach more than whole ones
            area = round(SEEN * height * width)
        high = min(height, math.sqrt(area * aspect))
        wide = min(width, area / high)
        high = min(height, area / wide)
        crop = [max(math.ceil(32 / unit), int(side // unit)) * unit for side in (high, wide)]
        high, wide = (self.choose(f"augment.crop_{name}", crop[name == "width"]) for name in ("height", "width"))
        share = min(1.0, high / height) * min(1.0, wide / width)
        self._say("crop", "augment.crop_height", f"{wide} x {high} pixels", f"{share:.0%} of a picture")

    def _batch(self) -> None:
        pixels = self.values["augment.crop_height"] * self.values["augment.crop_width"]
        budget = 8 * 512 * 512 if self.machine.gpu else 300_000 if self.machine.cores <= 4 else 600_000
        parts = 2 if self.small else 1  # of a crop, which is half as large then, and of the batch
        batch = min(8, max(4, budget // (pixels * parts) // 2 * 2)) // parts
        labeled = self.choose("train.batch_labeled", batch)
        unlabeled = self.choose("train.batch_unlabeled", batch)
        where = self.machine.gpu or f"{self.machine.cores} CPU core{'s' * (self.machine.cores > 1)}"
        words = f"{labeled} labelled" + (f" and {unlabeled} unlabelled" if self.facts.unlabeled else "")
        self._say("batch", "train.batch_labeled", f"{words} crops a step", f"for {where}")
        self.choose("train.precision", "bf16" if self.machine.gpu else "fp32")

    def _network(self) -> None:
        values = self.values
        weights = {"package": "ImageNet weights that came with semiseg", "none": "random weights"}
        first = weights.get(values["network.weights"], f"weights: {values['network.weights']}")
        words = f"{values['network.encoder']} with {values['network.name']}, {first}"
        why = "nothing is downloaded" if values["network.weights"] in weights else ""
        self._say("network", "network.encoder", words, why)
        guarded = self.facts.unlabeled and values.get("train.guard") == "lower"
        why = "" if self.facts.unlabeled else "there are no images without masks"
        words = f"{values['method']}, watched: unlabelled images count less where they mislead" if guarded else ""
        self._say("method", "method", words or values["method"], why)

    def _views(self) -> None:
        words, up = self.facts.words & (MICROSCOPE | ABOVE), self.facts.up_down > NO_UP
        upright = up or not words
        self.choose("augment.flip_vertical", 0.0 if upright else 0.5)
        self.choose("augment.turn", 0.0 if upright else 0.5)
        hue = self.choose("augment.hue", HUE)
        if not words:
            why = "nothing says that the pictures have no up"
        elif up:
            why = f"the name {min(words)} speaks for more, but top and bottom of the masks differ"
        else:
            why = f"the name {min(words)} says that there is no up; if there is, --augment.flip_vertical 0"
        vertical = self.values["augment.flip_vertical"] > 0
        directions = "left to right and top to bottom" if vertical else "left to right only"
        self._say("flips", "augment.flip_vertical", directions, why)
        masks = len(self.facts.masks)
        recoloured = self.choose("augment.labeled_colors", 0.8 if masks < FEW else 0.0)
        colours, why = f"hue within {hue:g} of a turn", "colour may be what tells classes apart"
        if recoloured:
            colours += f"; {recoloured:.0%} of the labelled crops change theirs"
            why += f", but colours of {masks} masks must not be learnt by heart"
        self._say("colours", "augment.hue", colours, why)

    def _rare_classes(self) -> None:
        if not self.facts.shares:
            return
        ground = max(self.facts.shares)
        others = {n: s for n, s in zip(self.facts.classes, self.facts.shares, strict=True) if 0 < s < ground}
        rarest = min(others, key=others.__getitem__, default="")
        share = others.get(rarest, 1.0)
        focus = self.choose("augment.focus", 0.33 if share < RARE else 0.0)
        weights = self.choose("loss.class_weights", "sqrt" if share < VERY_RARE else "none")
        words = [f"{focus:.0%} of the labelled crops around them"] * (focus > 0)
        words += [f"their loss weighs more ({weights})"] * (weights != "none")
        if words:
            self._say("rare", "augment.focus", ", ".join(words), f"{rarest} has {share:.2%} of the labelled pixels")

    def _scores(self) -> None:
        height, width = self.working
        high, wide = (self.values[f"augment.crop_{name}"] for name in ("height", "width"))
        pools = self.values["network.name"] != "fpn"  # most other decoders average over the whole image
        whole = height * width <= (2 if pools else 5) * high * wide
        protocol = self.choose("evaluation.protocol", "whole" if whole else "slide")
        words, why = "whole pictures", "they are not much larger than a crop"
        if protocol == "slide":
            window = self.choose("evaluation.window", max(high, wide))
            stride = self.choose("evaluation.stride", max(1, window * 3 // 4))
            words, why = f"windows of {window} pixels, {stride} apart", "pictures are much larger than a crop"
        self._say("scores", "evaluation.protocol", words, why)

    def _loading(self) -> None:
        cores = self.machine.cores
        self.choose("train.workers", min(8, max(1, cores - 1)) if self.machine.gpu else 1 if cores <= 4 else 2)

    def _say(self, name: str, key: str, words: str, why: str) -> None:
        why = "as asked" if key in self.given else why
        self.reasons[name] = f"{words}: {why}" if why else words
