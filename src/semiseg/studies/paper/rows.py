"""The rows of the paper's tables and figures: methods, options, and what the paper says of each. Literal data.

Published figures are mIoU in per cent. Those of Tables 1 to 3, for each method and split, stand in
`semiseg.studies.published`; those of the ablations, all on VOC's classic lists, stand here.

No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from semiseg.config.layers import Flat

Predictor = Literal["headline", "linear", "prototype"]


@dataclass(frozen=True)
class Row:
    """One row: a method, and what sets its runs apart."""

    key: str
    """What `--only` takes; `0.95` takes all rows whose keys begin with `0.95/`."""
    title: str
    method: str
    options: Flat = field(default_factory=dict)
    """Over those of the recipe, of scale and of the command line."""
    published: Mapping[str, float] = field(default_factory=dict)
    """By published split, per cent."""
    predictor: Predictor = "headline"
    """Whose score it is: rows of one run may differ in this alone."""
    reference: str | None = None
    """The row it is held against. None: the table's."""
    short: bool = False
    """Trained for as few steps as U2PL's code trains its supervised baseline; at full scale only."""


CLASSIC = ("u2pl/pascal/92", "u2pl/pascal/183", "u2pl/pascal/366", "u2pl/pascal/732", "u2pl/pascal/1464")
BLENDER = ("u2pl/pascal/662", "u2pl/pascal/1323", "u2pl/pascal/2646", "u2pl/pascal/5291")
CPS_BLENDER = ("unimatch/pascal/1_16", "unimatch/pascal/1_8", "unimatch/pascal/1_4")
CITYSCAPES = ("u2pl/cityscapes/186", "u2pl/cityscapes/372", "u2pl/cityscapes/744", "u2pl/cityscapes/1488")

# Tables 1 to 3 --------------------------------------------------------------------------------------------------------

_TITLES = {
    "supervised": "Supervised only",
    "mean_teacher": "Mean Teacher",
    "cutmix": "CutMix-Seg",
    "pseudoseg": "PseudoSeg",
    "cct": "CCT",
    "gct": "GCT",
    "cps": "CPS",
    "pc2seg": "PC2Seg",
    "ael": "AEL",
    "u2pl": "U2PL",
    "prototype": "Ours",
    "fixmatch": "FixMatch",
    "unimatch": "UniMatch",
    "unimatch_v2": "UniMatch V2",
    "corrmatch": "CorrMatch",
}
_OURS, _BARE = _TITLES["prototype"], "Ours without prototype predictor"
_LATER = ("fixmatch", "unimatch", "unimatch_v2", "corrmatch")


def main_rows(*methods: str) -> tuple[Row, ...]:
    """The paper's rows, the supervised one twice, and those of methods that came after it."""
    short = Row("supervised-short", "Supervised only, as few steps as U2PL's code", "supervised", short=True)
    rows = [Row(method, _TITLES[method], method) for method in ("supervised", *methods, "u2pl", "prototype")]
    later = [Row(method, f"{_TITLES[method]} (later than the paper)", method) for method in _LATER]
    return (rows[0], short, *rows[1:], *later)


# Ablations ------------------------------------------------------------------------------------------------------------

_92, _183 = CLASSIC[:2]
_OFF: Flat = {"prototypes": False}
_FIGURES = {_92: 70.06, _183: 74.71}

COMPONENTS = (
    Row("linear", "Linear predictor only", "prototype", _OFF, {_92: 67.95, _183: 70.99}),
    Row(
        "prototype",
        "Prototype predictor only, updated",
        "prototype",
        {"method.linear": False},
        {_92: 65.15, _183: 66.10},
    ),
    Row("frozen", "Both, prototypes frozen", "prototype", {"prototypes.update": "none"}, {_92: 67.53, _183: 71.89}),
    Row("full", "Both, prototypes updated (ours)", "prototype", {}, _FIGURES),
)
"""Table 4."""


def _mixed(mix: str, name: str, u2pl: float, without: float, ours: float) -> tuple[Row, ...]:
    """The three rows of one strong augmentation."""
    option: Flat = {"method.mix": mix}
    held = f"{mix}/without"
    return (
        Row(f"{mix}/u2pl", f"{name}: U2PL", "u2pl", option, {_92: u2pl}, reference=held),
        Row(held, f"{name}: {_BARE.lower()}", "prototype", option | _OFF, {_92: without}, reference=held),
        Row(f"{mix}/ours", f"{name}: ours", "prototype", option, {_92: ours}, reference=held),
    )


MIXES = (*_mixed("cutout", "Cutout", 66.82, 66.86, 69.24), *_mixed("classmix", "ClassMix", 67.77, 66.93, 69.36))
"""Table 6."""

_BY_THRESHOLD = {  # by linear and by prototype predictor, 92 labels
    "0.95": (71.01, 70.72),
    "0.90": (70.97, 70.74),
    "0.85": (70.30, 70.10),
    "0.80": (70.06, 69.89),
    "0.75": (69.43, 68.92),
    "0.70": (64.89, 64.68),
}


def _threshold_rows(words: str, linear: float, prototype: float) -> tuple[Row, Row]:
    """The two rows of one run."""
    option: Flat = {"method.threshold": float(words)}
    first = f"{words}/linear"
    return (
        Row(first, f"threshold {words}, linear predictor", "prototype", option, {_92: linear}, "linear"),
        Row(
            f"{words}/prototype",
            f"threshold {words}, prototype predictor",
            "prototype",
            option,
            {_92: prototype},
            "prototype",
            reference=first,
        ),
    )


THRESHOLDS = tuple(row for words, figures in _BY_THRESHOLD.items() for row in _threshold_rows(words, *figures))
"""Table 7."""


def swept(option: str, title: str, values: Mapping[str, float | int | None], default: str) -> tuple[Row, ...]:
    """A row for each value of an option of the paper's method; that of the paper has Table 4's figures."""
    return tuple(
        Row(key, f"{title} {key}", "prototype", {option: value}, _FIGURES if key == default else {})
        for key, value in values.items()
    )


# Runs that are looked at ----------------------------------------------------------------------------------------------

SUPERVISED = Row("supervised", _TITLES["supervised"], "supervised")
U2PL = Row("u2pl", _TITLES["u2pl"], "u2pl", published={_92: 67.98})
WITHOUT = Row("without", _BARE, "prototype", _OFF, {_92: 67.95})
OURS = Row("ours", _OURS, "prototype", published={_92: 70.06})

DISCRIMINATION: dict[str, tuple[float, float, float]] = {
    "u2pl": (0.48, 80.78, 168.30),
    "without": (0.45, 76.01, 168.92),
    "ours": (2.22, 283.43, 127.63),
}
"""Table 5 by row, 92 labels: inter over intra, traces of the inter-class and of the intra-class variance."""
