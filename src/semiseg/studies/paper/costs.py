"""What a step of each row costs: counted beforehand and kept in costs.json, or counted now.

A ResNet-101 takes seconds to count, and Table 1 has eleven methods. `python -m semiseg.studies.paper.costs` counts what
Tables 1 to 3 need at full and cpu scale and costs.json lacks; where a method's step changed, delete the file first.
Tests count again what is kept.

No torch here unless something is counted now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from semiseg.config.checks import COUNTED, NOT_COUNTED
from semiseg.config.fields import marked
from semiseg.config.layers import flatten
from semiseg.config.recipe import Config, config_to_dict
from semiseg.studies.paper.settings import Scale

if TYPE_CHECKING:
    from semiseg.costs.speed import Cost

COSTS = Path(__file__).with_name("costs.json")

_KEPT: tuple[tuple[str, Scale], ...] = tuple(product(("table1", "table3", "table2"), ("full", "cpu")))
_CLASSES = {"voc": ("background", *map(str, range(1, 21))), "cityscapes": tuple(map(str, range(19)))}
_FEW = ("background", "1")  # where nothing tells

_COUNTED_SECTIONS = ("method.", "prototypes", "network.", "loss.")  # but for what is marked NOT_COUNTED


def cost_of(config: Config) -> tuple[Cost, bool]:
    """The cost of a step with unlabelled images, and whether it was known beforehand."""
    from semiseg.costs.speed import Cost

    key = key_of(config)
    if key in _known():
        return Cost(*_known()[key]["cost"]), True
    if key not in _counted:
        from semiseg.costs.estimate import count_step

        _counted[key] = count_step(config, classes_of(config))
    return _counted[key], False


def key_of(config: Config) -> str:
    """The same for configs whose steps cost the same."""
    flat = flatten(config_to_dict(config))
    others, free = marked(config.method, COUNTED), marked(config.method, NOT_COUNTED)
    counted = {
        key: value
        for key, value in flat.items()
        if (key.startswith(_COUNTED_SECTIONS) or key in others) and key not in free
    }
    names = classes_of(config)
    words = json.dumps([len(names), names[0].lower() == "background", counted], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def classes_of(config: Config) -> tuple[str, ...]:
    """Names of the classes as far as a step depends on them, told without opening the data."""
    names = config.data.root / "classes.txt"
    if config.data.dataset == "folder" and names.is_file():
        return tuple(line.strip() for line in names.read_text("utf-8").splitlines() if line.strip())
    return _CLASSES.get(config.data.dataset, _FEW)


@lru_cache(maxsize=1)
def _known() -> Mapping[str, dict]:
    return json.loads(COSTS.read_text("utf-8")) if COSTS.is_file() else {}


_counted: dict[str, Cost] = {}


def write_costs() -> None:
    """Count the steps of Tables 1 to 3 that COSTS lacks, and write it."""
    from semiseg.runtime.files import write_json
    from semiseg.studies.paper.grid import make_reproduction

    found = dict(_known())
    for name, scale in _KEPT:
        for cell in make_reproduction(name, scale=scale).cells:
            key = key_of(cell.config)
            if key not in found:
                cost, _ = cost_of(cell.config)
                step = f"{cell.method}, {cell.config.network.encoder}, {cell.config.augment.crop_height}"
                found[key] = {"step": step, "cost": [cost.flops, cost.bytes, cost.memory]}
                write_json(COSTS, found)
                print(step, cost, flush=True)


if __name__ == "__main__":
    write_costs()
