"""The tables and figures of Xu et al., NeurIPS 2022, and two sweeps that it lacks: on which data, of which rows.

No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from semiseg.config.fields import ConfigError, nearest
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.studies.paper.rows import (
    BLENDER,
    CITYSCAPES,
    CLASSIC,
    COMPONENTS,
    CPS_BLENDER,
    MIXES,
    OURS,
    SUPERVISED,
    THRESHOLDS,
    U2PL,
    WITHOUT,
    Row,
    main_rows,
    swept,
)

PAPER = "Xu et al., NeurIPS 2022"

Analysis = Literal["discrimination", "embedding", "boundary", "consistency"]


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


# Their data -----------------------------------------------------------------------------------------------------------

_MAIN_NOTES = (
    "The published supervised figures are those of U2PL's code, which trains this row for far fewer steps than the "
    "others (480 of 52,480 with 92 labels): row supervised-short does the same. Row supervised has as many steps as "
    "all others, and is what they are held against.",
    "Methods that came after the paper stand apart, at this paper's network, steps and crops, not at their own.",
)

_ON_VOC = "VOC, ResNet-101"
_ABLATION = {
    "voc": Columns("voc-classic", CLASSIC[:2]),
    "cityscapes": Columns("cityscapes", CITYSCAPES[:2]),
    "folder": Columns("folder"),
    "camvid": Columns("camvid"),
}
_SIXTEENTH = _ABLATION | {
    "voc": Columns("voc-classic", CLASSIC[:1]),
    "cityscapes": Columns("cityscapes", CITYSCAPES[:1]),
}

_LOOKED_AT = ("Pictures and variances are of the first set of labels; pictures, which show one run each, of one seed.",)


def _looked_at(name: str, title: str, analysis: Analysis, *rows: Row) -> Table:
    return Table(name, title, _SIXTEENTH, rows, "without", _ON_VOC, analysis=analysis, notes=_LOOKED_AT)


# All of them ----------------------------------------------------------------------------------------------------------

_ALL = (
    Table(
        "table1",
        f"{PAPER}, Table 1: VOC 2012, classic lists",
        {"voc": Columns("voc-classic", CLASSIC)},
        main_rows("mean_teacher", "cutmix", "pseudoseg", "pc2seg"),
        "supervised",
        "VOC, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table(
        "table2",
        f"{PAPER}, Table 2: VOC 2012, blender lists",
        {"voc": Columns("voc-blender", (*BLENDER, *CPS_BLENDER))},
        main_rows("mean_teacher", "cutmix", "cct", "gct", "cps", "ael"),
        "supervised",
        "VOC, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table(
        "table3",
        f"{PAPER}, Table 3: Cityscapes",
        {"cityscapes": Columns("cityscapes", CITYSCAPES)},
        main_rows("mean_teacher", "cutmix", "cct", "gct", "cps", "ael"),
        "supervised",
        "Cityscapes, ResNet-101",
        notes=_MAIN_NOTES,
    ),
    Table("table4", f"{PAPER}, Table 4: predictors and update", _ABLATION, COMPONENTS, "full", _ON_VOC),
    _looked_at(
        "table5",
        f"{PAPER}, Table 5: intra- and inter-class variance",
        "discrimination",
        *(SUPERVISED, U2PL, WITHOUT, OURS),
    ),
    Table(
        "table6",
        f"{PAPER}, Table 6: strong augmentation",
        _SIXTEENTH,
        MIXES,
        "cutout/without",
        _ON_VOC,
    ),
    Table(
        "table7",
        f"{PAPER}, Table 7: confidence threshold and predictor",
        _SIXTEENTH,
        THRESHOLDS,
        "0.80/linear",
        _ON_VOC,
        notes=("A prototype row is the other predictor of the linear row's own runs, and is held against that row.",),
    ),
    _looked_at("figure2", f"{PAPER}, Figure 2: pixel features", "embedding", SUPERVISED, WITHOUT, OURS),
    Table(
        "figure3",
        f"{PAPER}, Figure 3: prototypes per class",
        _ABLATION,
        swept("prototypes.per_class", "prototypes", {str(k): k for k in (1, 2, 3, 4, 5, 6, 8)}, "4"),
        "1",
        _ON_VOC,
        axis="prototypes per class",
        notes=(
            "The paper draws a curve without figures and says that it saturates at 4; 1 to 6, and 8, are our choice.",
        ),
    ),
    _looked_at("figure4", f"{PAPER}, Figure 4: boundaries", "boundary", WITHOUT, OURS),
    _looked_at("figure5", f"{PAPER}, Figure 5: within objects", "consistency", WITHOUT, OURS),
    Table(
        "temperature",
        "Temperature of the prototype predictor, a sweep the paper lacks",
        _SIXTEENTH,
        swept(
            "prototypes.temperature",
            "temperature",
            {words: float(words) for words in ("0.02", "0.05", "0.1", "0.2", "0.5", "1")},
            "0.1",
        ),
        "0.1",
        _ON_VOC,
        axis="temperature",
        notes=("The paper has 0.1 throughout.",),
    ),
    Table(
        "points",
        "Points per image in the prototype losses, a sweep the paper lacks",
        _SIXTEENTH,
        swept("prototypes.grid", "grid", {"8": 8, "16": 16, "32": 32, "64": 64, "dense": None}, "32"),
        "32",
        _ON_VOC,
        axis="cells a side, one point in each",
        notes=("The authors' configuration has 32; the text's sums run over every pixel, which is dense.",),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""Every name that `semiseg reproduce` takes."""

assert all(row.method in METHOD_OPTIONS for table in _ALL for row in table.rows)
