"""The tables and figures of Xu et al., NeurIPS 2022, and two sweeps that it lacks: on which data, of which rows.

No torch here: a mistyped name is answered at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from semiseg.config.fields import ConfigError, nearest
from semiseg.studies.paper.rows import (
    COMPONENTS,
    MIXES,
    OURS,
    SUPERVISED,
    THRESHOLDS,
    U2PL,
    WITHOUT,
    main_rows,
    other_rows,
    swept,
)
from semiseg.studies.published import CITYSCAPES, CLASSIC, CPS_BLENDER, PAPER, U2PL_BLENDER
from semiseg.studies.study import Columns, Row, Table


def find_table(name: str) -> Table:
    """The table of a name, with a row for every method. Raises ConfigError with the nearest name."""
    if name not in TABLES:
        raise ConfigError(f"there is no table or figure {name!r}; {nearest(name, TABLES)}")
    table = TABLES[name]
    return replace(table, rows=(*table.rows, *other_rows())) if table.all_methods else table


# Their data -----------------------------------------------------------------------------------------------------------

_MAIN_NOTES = (
    "The published supervised figures come from U2PL's code, which trains this row for far fewer steps than the "
    "others (480 of 52,480 with 92 labels): row supervised-short does the same. Row supervised has as many steps as "
    "all others, and they are held against it.",
    "Methods that are not in the paper stand apart, at its network, steps and crops, not at their own.",
)
_LOOKED_AT = ("Pictures and variances are of the first set of labels; pictures, which show one run each, of one seed.",)

_ABLATION = {
    "voc": Columns("voc-classic", CLASSIC[:2]),
    "cityscapes": Columns("cityscapes", CITYSCAPES[:2]),
    "folder": Columns("folder"),
    "camvid": Columns("camvid"),
}
_SIXTEENTH = {dataset: replace(columns, splits=columns.splits[:1]) for dataset, columns in _ABLATION.items()}


def _table(name: str, headline: str, rows: tuple[Row, ...], **fields: Any) -> Table:
    """A table of the paper; `fields` as `Table` has them, over the usual ones."""
    usual = {"reference": "without", "data": _SIXTEENTH, "paper": "VOC, ResNet-101"}
    usual["notes"] = _LOOKED_AT if "analysis" in fields else ()
    return Table(name=name, title=f"Reproduction of {name}", headline=headline, rows=rows, **usual | fields)


def _main(number: int, words: str, dataset: str, columns: Columns, *methods: str) -> Table:
    return _table(
        f"table{number}",
        f"{PAPER}, Table {number}: {words}",
        main_rows(*methods),
        reference="supervised",
        data={dataset: columns},
        paper=f"{'VOC' if dataset == 'voc' else 'Cityscapes'}, ResNet-101",
        notes=_MAIN_NOTES,
        all_methods=True,
    )


# All of them ----------------------------------------------------------------------------------------------------------

_TABLE_1 = ("mean_teacher", "cutmix", "pseudoseg", "pc2seg")
_TABLES_2_3 = ("mean_teacher", "cutmix", "cct", "gct", "cps", "ael")
_ALL = (
    _main(1, "VOC 2012, classic lists", "voc", Columns("voc-classic", CLASSIC), *_TABLE_1),
    _main(2, "VOC 2012, blender lists", "voc", Columns("voc-blender", (*U2PL_BLENDER, *CPS_BLENDER)), *_TABLES_2_3),
    _main(3, "Cityscapes", "cityscapes", Columns("cityscapes", CITYSCAPES), *_TABLES_2_3),
    _table("table4", f"{PAPER}, Table 4: predictors and update", COMPONENTS, reference="full", data=_ABLATION),
    _table(
        "table5",
        f"{PAPER}, Table 5: intra- and inter-class variance",
        (SUPERVISED, U2PL, WITHOUT, OURS),
        analysis="discrimination",
    ),
    _table("table6", f"{PAPER}, Table 6: strong augmentation", MIXES, reference="cutout/without"),
    _table(
        "table7",
        f"{PAPER}, Table 7: confidence threshold and predictor",
        THRESHOLDS,
        reference="0.80/linear",
        notes=("A prototype row is the other predictor of the linear row's own runs, and is held against that row.",),
    ),
    _table("figure2", f"{PAPER}, Figure 2: pixel features", (SUPERVISED, WITHOUT, OURS), analysis="embedding"),
    _table(
        "figure3",
        f"{PAPER}, Figure 3: prototypes per class",
        swept("prototypes.per_class", {str(k): k for k in (1, 2, 3, 4, 5, 6, 8)}, "4"),
        reference="1",
        data=_ABLATION,
        axis="prototypes per class",
        notes=(
            "The paper draws a curve without figures and says that it saturates at 4; 1 to 6, and 8, are our choice.",
        ),
    ),
    _table("figure4", f"{PAPER}, Figure 4: boundaries", (WITHOUT, OURS), analysis="boundary"),
    _table("figure5", f"{PAPER}, Figure 5: within objects", (WITHOUT, OURS), analysis="consistency"),
    _table(
        "temperature",
        "Temperature of the prototype predictor, a sweep the paper lacks",
        swept(
            "prototypes.temperature",
            {words: float(words) for words in ("0.02", "0.05", "0.1", "0.2", "0.5", "1")},
            "0.1",
        ),
        reference="0.1",
        axis="temperature",
        notes=("The paper has 0.1 throughout.",),
    ),
    _table(
        "points",
        "Points per image in the prototype losses, a sweep the paper lacks",
        swept("prototypes.grid", {"8": 8, "16": 16, "32": 32, "64": 64, "dense": None}, "32"),
        reference="32",
        axis="cells a side, one point in each",
        notes=("The authors' configuration has 32; the text's sums run over every pixel, which is dense.",),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""Every name that `semiseg reproduce` takes."""
