"""The tables and figures of Xu et al., NeurIPS 2022, row by row, and two sweeps that it lacks: literal data.

Published figures are mIoU in per cent. Those of Tables 1 to 3, for each method and split, stand in
`semiseg.comparison.published`; those of the ablations, all on VOC's classic lists, stand here.

No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from semiseg.config import Flat
from semiseg.method_options import METHOD_OPTIONS
from semiseg.option_types import ConfigError, nearest

PAPER = "Xu et al., NeurIPS 2022"

Predictor = Literal["headline", "linear", "prototype"]
Analysis = Literal["discrimination", "embedding", "boundary", "consistency"]


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


@dataclass(frozen=True)
class Columns:
    """What a table shows of one dataset."""

    recipe: str
    splits: tuple[str, ...] = ()
    """Sets of labels, as `--labeled` takes them. None: the folder's smallest that fills a batch."""


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper, or a sweep of the same form."""

    name: str
    title: str
    data: Mapping[str, Columns]
    """By dataset, the paper's first."""
    rows: tuple[Row, ...]
    reference: str
    """The row that others are held against."""
    paper: str
    """On what the published figures are."""
    axis: str | None = None
    """Of a sweep: what is swept."""
    analysis: Analysis | None = None
    """What is made of the runs, beside their scores."""
    notes: tuple[str, ...] = ()


def find_table(name: str) -> Table:
    """The table of a name. Raises ConfigError with the nearest name."""
    if name not in TABLES:
        raise ConfigError(f"there is no table or figure {name!r}; {nearest(name, TABLES)}")
    return TABLES[name]


# Tables 1 to 3 --------------------------------------------------------------------------------------------------------

CLASSIC = ("u2pl/pascal/92", "u2pl/pascal/183", "u2pl/pascal/366", "u2pl/pascal/732", "u2pl/pascal/1464")
BLENDER = ("u2pl/pascal/662", "u2pl/pascal/1323", "u2pl/pascal/2646", "u2pl/pascal/5291")
CPS_BLENDER = ("unimatch/pascal/1_16", "unimatch/pascal/1_8", "unimatch/pascal/1_4")
CITYSCAPES = ("u2pl/cityscapes/186", "u2pl/cityscapes/372", "u2pl/cityscapes/744", "u2pl/cityscapes/1488")

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


def _main_rows(*methods: str) -> tuple[Row, ...]:
    """The paper's rows, the supervised one twice, and those of methods that came after it."""
    short = Row("supervised-short", "Supervised only, as few steps as U2PL's code", "supervised", short=True)
    rows = [Row(method, _TITLES[method], method) for method in ("supervised", *methods, "u2pl", "prototype")]
    later = [Row(method, f"{_TITLES[method]} (later than the paper)", method) for method in _LATER]
    return (rows[0], short, *rows[1:], *later)


_MAIN_NOTES = (
    "The published supervised figures are those of U2PL's code, which trains this row for far fewer steps than the "
    "others (480 of 52,480 with 92 labels): row supervised-short does the same. Row supervised has as many steps as "
    "all others, and is what they are held against.",
    "Methods that came after the paper stand apart, at this paper's network, steps and crops, not at their own.",
)

# Ablations ------------------------------------------------------------------------------------------------------------

_92, _183 = CLASSIC[:2]
_ON_VOC = "VOC, ResNet-101"
_ABLATION = {
    "voc": Columns("voc-classic", (_92, _183)),
    "cityscapes": Columns("cityscapes", CITYSCAPES[:2]),
    "folder": Columns("folder"),
    "camvid": Columns("camvid"),
}
_SIXTEENTH = _ABLATION | {"voc": Columns("voc-classic", (_92,)), "cityscapes": Columns("cityscapes", CITYSCAPES[:1])}
_WITHOUT: Flat = {"method.prototype": False}
_FIGURES = {_92: 70.06, _183: 74.71}

_COMPONENTS = (
    Row("linear", "Linear predictor only", "prototype", _WITHOUT, {_92: 67.95, _183: 70.99}),
    Row(
        "prototype",
        "Prototype predictor only, updated",
        "prototype",
        {"method.linear": False},
        {_92: 65.15, _183: 66.10},
    ),
    Row("frozen", "Both, prototypes frozen", "prototype", {"method.update": False}, {_92: 67.53, _183: 71.89}),
    Row("full", "Both, prototypes updated (ours)", "prototype", {}, _FIGURES),
)


def _mixed(mix: str, name: str, u2pl: float, without: float, ours: float) -> tuple[Row, ...]:
    """The three rows of one strong augmentation."""
    option: Flat = {"method.mix": mix}
    held = f"{mix}/without"
    return (
        Row(f"{mix}/u2pl", f"{name}: U2PL", "u2pl", option, {_92: u2pl}, reference=held),
        Row(held, f"{name}: {_BARE.lower()}", "prototype", option | _WITHOUT, {_92: without}, reference=held),
        Row(f"{mix}/ours", f"{name}: ours", "prototype", option, {_92: ours}, reference=held),
    )


_THRESHOLDS = {  # by linear and by prototype predictor, 92 labels
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


def _swept(option: str, values: Mapping[str, float | int | None], default: str) -> tuple[Row, ...]:
    """A row for each value of an option of the paper's method; that of the paper has Table 4's figures."""
    return tuple(
        Row(key, f"{option} {key}", "prototype", {f"method.{option}": value}, _FIGURES if key == default else {})
        for key, value in values.items()
    )


# Runs that are looked at ----------------------------------------------------------------------------------------------

_SUPERVISED = Row("supervised", _TITLES["supervised"], "supervised")
_U2PL = Row("u2pl", _TITLES["u2pl"], "u2pl", published={_92: 67.98})
_LINEAR = Row("without", _BARE, "prototype", _WITHOUT, {_92: 67.95})
_FULL = Row("ours", _OURS, "prototype", published={_92: 70.06})

DISCRIMINATION: dict[str, tuple[float, float, float]] = {
    "u2pl": (0.48, 80.78, 168.30),
    "without": (0.45, 76.01, 168.92),
    "ours": (2.22, 283.43, 127.63),
}
"""Table 5 by row, 92 labels: inter over intra, traces of the inter-class and of the intra-class variance."""

_LOOKED_AT = ("Pictures and variances are of the first set of labels; pictures, which show one run each, of one seed.",)


def _looked_at(name: str, title: str, analysis: Analysis, *rows: Row) -> Table:
    return Table(name, title, _SIXTEENTH, rows, "without", _ON_VOC, analysis=analysis, notes=_LOOKED_AT)


# All of them ----------------------------------------------------------------------------------------------------------

_ALL = (
    Table(
        "table1",
        f"{PAPER}, Table 1: VOC 2012, classic lists",
        {"voc": Columns("voc-classic", CLASSIC)},
        _main_rows("mean_teacher", "cutmix", "pseudoseg", "pc2seg"),
        "supervised",
        "VOC, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table(
        "table2",
        f"{PAPER}, Table 2: VOC 2012, blender lists",
        {"voc": Columns("voc-blender", (*BLENDER, *CPS_BLENDER))},
        _main_rows("mean_teacher", "cutmix", "cct", "gct", "cps", "ael"),
        "supervised",
        "VOC, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table(
        "table3",
        f"{PAPER}, Table 3: Cityscapes",
        {"cityscapes": Columns("cityscapes", CITYSCAPES)},
        _main_rows("mean_teacher", "cutmix", "cct", "gct", "cps", "ael"),
        "supervised",
        "Cityscapes, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table("table4", f"{PAPER}, Table 4: predictors and update", _ABLATION, _COMPONENTS, "full", _ON_VOC),
    _looked_at(
        "table5",
        f"{PAPER}, Table 5: intra- and inter-class variance",
        "discrimination",
        *(_SUPERVISED, _U2PL, _LINEAR, _FULL),
    ),
    Table(
        "table6",
        f"{PAPER}, Table 6: strong augmentation",
        _SIXTEENTH,
        (*_mixed("cutout", "Cutout", 66.82, 66.86, 69.24), *_mixed("classmix", "ClassMix", 67.77, 66.93, 69.36)),
        "cutout/without",
        _ON_VOC,
    ),
    Table(
        "table7",
        f"{PAPER}, Table 7: confidence threshold and predictor",
        _SIXTEENTH,
        tuple(row for words, figures in _THRESHOLDS.items() for row in _threshold_rows(words, *figures)),
        "0.80/linear",
        _ON_VOC,
        notes=("A prototype row is the other predictor of the linear row's own runs, and is held against that row.",),
    ),
    _looked_at("figure2", f"{PAPER}, Figure 2: pixel features", "embedding", _SUPERVISED, _LINEAR, _FULL),
    Table(
        "figure3",
        f"{PAPER}, Figure 3: prototypes per class",
        _ABLATION,
        _swept("prototypes", {str(k): k for k in (1, 2, 3, 4, 5, 6, 8)}, "4"),
        "1",
        _ON_VOC,
        axis="prototypes per class",
        notes=(
            "The paper draws a curve without figures and says that it saturates at 4; 1 to 6, and 8, are our choice.",
        ),
    ),
    _looked_at("figure4", f"{PAPER}, Figure 4: boundaries", "boundary", _LINEAR, _FULL),
    _looked_at("figure5", f"{PAPER}, Figure 5: within objects", "consistency", _LINEAR, _FULL),
    Table(
        "temperature",
        "Temperature of the prototype predictor, a sweep the paper lacks",
        _SIXTEENTH,
        _swept("temperature", {words: float(words) for words in ("0.02", "0.05", "0.1", "0.2", "0.5", "1")}, "0.1"),
        "0.1",
        _ON_VOC,
        axis="temperature",
        notes=("The paper has 0.1 throughout.",),
    ),
    Table(
        "points",
        "Points per image in the prototype losses, a sweep the paper lacks",
        _SIXTEENTH,
        _swept("grid", {"8": 8, "16": 16, "32": 32, "64": 64, "dense": None}, "32"),
        "32",
        _ON_VOC,
        axis="cells a side, one point in each",
        notes=("The authors' configuration has 32; the text's sums run over every pixel, which is dense.",),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""Every name that `semiseg reproduce` takes."""

assert all(row.method in METHOD_OPTIONS for table in _ALL for row in table.rows)
