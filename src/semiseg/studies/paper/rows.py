"""The rows of the paper's tables and figures: methods, options, and the paper's figures.

Figures stand in `semiseg.studies.published`. No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Flat
from semiseg.studies.published import ABLATIONS, CLASSIC, PAPER, Published, paper_methods
from semiseg.studies.study import Row

# Tables 1 to 3 --------------------------------------------------------------------------------------------------------


def title_of(method: str) -> str:
    """The first words of what a method's options say of it: `Mean Teacher`."""
    options = METHOD_OPTIONS[method]
    words = re.split(r"[(:,.\n]", options.__doc__ or "")[0].strip()
    return method if words in ("", options.__name__) else words  # a dataclass without words says its name


def main_rows(*methods: str) -> tuple[Row, ...]:
    """The paper's rows, the supervised one twice."""
    plain, *others = (Row(name, title_of(name), name) for name in ("supervised", *methods, "u2pl", "prototype"))
    short = Row("supervised-short", f"{plain.title}, as few steps as U2PL's code", "supervised", short=True)
    return (plain, short, *others)


def other_rows() -> tuple[Row, ...]:
    """A row for each method that none of the paper's tables lists, also for methods registered since."""
    names = [method for method in METHOD_OPTIONS if method not in paper_methods()]
    return tuple(Row(name, f"{title_of(name)} (not in the paper)", name) for name in names)


# Ablations ------------------------------------------------------------------------------------------------------------

_OFF: Flat = {"prototypes": False}
_BARE = "Ours without prototype predictor"


def _figures(number: int, key: str) -> dict[str, Published]:
    source = f"{PAPER}, Table {number}"
    return {split: Published(miou, source) for split, miou in zip(CLASSIC, ABLATIONS[number][key], strict=False)}


def _component(key: str, title: str, options: Flat) -> Row:
    return Row(key, title, "prototype", options, _figures(4, key))


COMPONENTS = (
    _component("linear", "Linear predictor only", _OFF),
    _component("prototype", "Prototype predictor only, updated", {"method.linear": False}),
    _component("frozen", "Both, prototypes frozen", {"prototypes.update": "none"}),
    _component("full", "Both, prototypes updated (ours)", {}),
)
"""Table 4."""


def _mixed(mix: str, name: str) -> tuple[Row, ...]:
    """The three rows of one strong augmentation."""
    held = f"{mix}/without"
    rows = {
        f"{mix}/u2pl": ("U2PL", "u2pl", {}),
        held: (_BARE.lower(), "prototype", _OFF),
        f"{mix}/ours": ("ours", "prototype", {}),
    }
    return tuple(
        Row(key, f"{name}: {title}", method, {"method.mix": mix, **own}, _figures(6, key), reference=held)
        for key, (title, method, own) in rows.items()
    )


MIXES = (*_mixed("cutout", "Cutout"), *_mixed("classmix", "ClassMix"))
"""Table 6."""


def _threshold_row(key: str) -> Row:
    """One predictor of a run; the prototype's is held against the linear one's."""
    words, _, predictor = key.partition("/")
    return Row(
        key,
        f"threshold {words}, {predictor} predictor",
        "prototype",
        {"method.threshold": float(words)},
        _figures(7, key),
        "linear" if predictor == "linear" else "prototype",
        None if predictor == "linear" else f"{words}/linear",
    )


THRESHOLDS = tuple(map(_threshold_row, ABLATIONS[7]))
"""Table 7."""


def swept(option: str, values: Mapping[str, float | int | None], default: str) -> tuple[Row, ...]:
    """A row for each value of an option (`prototypes.grid`) of the paper's method; its own has Table 4's figures."""
    name = option.rpartition(".")[2]
    return tuple(
        Row(key, f"{name} {key}", "prototype", {option: value}, _figures(4, "full") if key == default else {})
        for key, value in values.items()
    )


# Runs that are looked at ----------------------------------------------------------------------------------------------

SUPERVISED, U2PL = (Row(name, title_of(name), name) for name in ("supervised", "u2pl"))
WITHOUT = Row("without", _BARE, "prototype", _OFF, _figures(4, "linear"))
OURS = Row("ours", "Ours", "prototype")
