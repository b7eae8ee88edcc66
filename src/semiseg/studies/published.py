"""What others published for a method and a split, as literal tables with their sources.

Only figures that were read in the paper's own tables, or in a repository's readme or training logs, stand here. mIoU on
the validation images in per cent, of the best epoch on these images; on ResNet-101 unless the source says otherwise.

No torch when this is imported: rows are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Xu et al., NeurIPS 2022"


@dataclass(frozen=True)
class Published:
    """One figure and where it stands."""

    miou: float  # per cent
    source: str


def published(method: str, split: str | None) -> Published | None:
    """The figure of a method on a published split; None where there is none, or it was not checked."""
    for splits, source, rows in _TABLES:
        if split in splits and method in rows:
            miou = rows[method][splits.index(split)]
            return None if miou is None else Published(miou, source)
    return None


def meaning(split: str) -> str:
    """The labelled images of a published split: two lists of one name and size may be nothing alike."""
    from semiseg.data.splits import PUBLISHED

    for splits, words in _MEANINGS.items():
        if split in splits:
            return words[splits.index(split)]
    count = PUBLISHED[split].labeled.count
    return f"{count} labelled images, U2PL's list" + (" of 13 May 2022" if split.endswith("/372") else "")


def paper_methods() -> set[str]:
    """Methods that the paper's tables list."""
    return {method for _, source, rows in _TABLES if source.startswith(PAPER) for method in rows}


def is_blender(split: str | None) -> str | None:
    """Whose meaning of `blender` a split has, `U2PL` or `CPS`; None for other splits."""
    return "U2PL" if split in U2PL_BLENDER else "CPS" if split in CPS_BLENDER else None


CLASSIC = ("u2pl/pascal/92", "u2pl/pascal/183", "u2pl/pascal/366", "u2pl/pascal/732", "u2pl/pascal/1464")
U2PL_BLENDER = ("u2pl/pascal/662", "u2pl/pascal/1323", "u2pl/pascal/2646", "u2pl/pascal/5291")
CPS_BLENDER = ("unimatch/pascal/1_16", "unimatch/pascal/1_8", "unimatch/pascal/1_4")
CITYSCAPES = ("u2pl/cityscapes/186", "u2pl/cityscapes/372", "u2pl/cityscapes/744", "u2pl/cityscapes/1488")

# By counting the ids of the published lists that are in the 1,464 of VOC's own `train`.
_MEANINGS = {
    CLASSIC: tuple(
        f"classic: {count} labelled images, all from VOC's own 1,464, which are finely annotated"
        for count in (92, 183, 366, 732, 1464)
    ),
    U2PL_BLENDER: tuple(
        f"blender as U2PL released it: of {count} labelled images {fine} are finely annotated ({share}); figures on "
        "other papers' blender lists do not compare"
        for count, fine, share in ((662, 662, "all"), (1323, 1323, "all"), (2646, 1464, "55 %"), (5291, 1464, "28 %"))
    ),
    CPS_BLENDER: tuple(
        f"blender as CPS, ST++ and UniMatch have it: drawn from all 10,582, so that of {count} labelled images {fine} "
        "are finely annotated (14 to 15 %); figures on U2PL's blender lists do not compare"
        for count, fine in ((662, 93), (1323, 193), (2646, 388))
    ),
}

_PAPER = f"{PAPER}, Table {{}}"
_AS_ON_CPS = f"{_PAPER.format(2)}; close to what was published on CPS's lists, so perhaps of those"
_SHORT = f"{PAPER}, Table {{}}; U2PL's code trains this row for far fewer steps than the others"
_UNIMATCH = "UniMatch, readme: 321 x 321 crops; a list of this size, not checked to be the same images"
_CORRMATCH = "CorrMatch, readme; a list of this size, not checked to be the same images"
_V2 = "UniMatch V2, training logs: DINOv2-B and DPT; a list of this size, not checked to be the same images"

_TABLES: tuple[tuple[tuple[str, ...], str, dict[str, tuple[float | None, ...]]], ...] = (
    (
        CLASSIC,
        _PAPER.format(1),
        {
            "mean_teacher": (51.72, 58.93, 63.86, 69.51, 70.96),
            "cutmix": (52.16, 63.47, 69.46, 73.73, 76.54),
            "pseudoseg": (57.60, 65.50, 69.14, 72.41, 73.23),
            "pc2seg": (57.00, 66.28, 69.78, 73.05, 74.15),
            "u2pl": (67.98, 69.15, 73.66, 76.16, 79.49),
            "prototype": (70.06, 74.71, 77.16, 78.49, 80.65),
        },
    ),
    (
        U2PL_BLENDER,
        _PAPER.format(2),
        {
            "mean_teacher": (70.51, 71.53, 73.02, 76.58),
            "cutmix": (71.66, 75.51, 77.33, 78.21),
            "u2pl": (77.21, 79.01, 79.30, 80.50),
            "prototype": (78.60, 80.71, 80.78, 80.91),
        },
    ),
    (
        U2PL_BLENDER,
        _AS_ON_CPS,
        {
            "cct": (71.86, 73.68, 76.51, 77.40),
            "gct": (70.90, 73.29, 76.66, 77.98),
            "cps": (74.48, 76.44, 77.68, 78.64),
            "ael": (77.20, 77.57, 78.06, 80.29),
        },
    ),
    (
        CITYSCAPES,
        _PAPER.format(3),
        {
            "mean_teacher": (69.03, 72.06, 74.20, 78.15),
            "cutmix": (67.06, 71.83, 76.36, 78.25),
            "cct": (69.32, 74.12, 75.99, 78.10),
            "gct": (66.75, 72.66, 76.11, 78.34),
            "cps": (69.78, 74.31, 74.58, 76.81),
            "ael": (74.45, 75.55, 77.48, 79.01),
            "u2pl": (70.30, 74.37, 76.47, 79.05),
            "prototype": (73.41, 76.31, 78.40, 79.11),
        },
    ),
    (CLASSIC, _SHORT.format(1), {"supervised": (45.77, 54.92, 65.88, 71.69, 72.50)}),
    (U2PL_BLENDER, _SHORT.format(2), {"supervised": (67.87, 71.55, 75.80, 77.13)}),
    (CITYSCAPES, _SHORT.format(3), {"supervised": (65.74, 72.53, 74.43, 77.83)}),
    (CLASSIC, _UNIMATCH, {"unimatch": (75.2, 77.2, 78.8, 79.9, 81.2)}),
    (CLASSIC, _CORRMATCH, {"corrmatch": (76.4, 78.5, 79.4, 80.6, 81.8)}),
    (CLASSIC, _V2, {"unimatch_v2": (86.3, 87.9, 88.9, 90.0, 90.8), "fixmatch": (84.1, 87.4, 88.4, 90.0, 90.2)}),
    (U2PL_BLENDER, "UniMatch, training logs: U2PL's lists, 513 x 513 crops", {"unimatch": (80.94, 81.92, 80.43, None)}),
    (CPS_BLENDER, "UniMatch, training logs: 321 x 321 crops, mean of 3", {"unimatch": (77.0, 77.4, 77.4)}),
    (
        CITYSCAPES,
        "UniMatch, readme; a list of this size, not checked to be the same images",
        {"unimatch": (76.6, 77.9, 79.2, 79.5)},
    ),
    (CITYSCAPES, _CORRMATCH, {"corrmatch": (77.3, 78.5, 79.4, 80.4)}),
    (CITYSCAPES, _V2, {"unimatch_v2": (83.6, 84.3, 84.5, 85.1)}),
)

ABLATIONS: dict[int, dict[str, tuple[float, ...]]] = {
    4: {"linear": (67.95, 70.99), "prototype": (65.15, 66.10), "frozen": (67.53, 71.89), "full": (70.06, 74.71)},
    6: {
        f"{mix}/{row}": (miou,)
        for mix, *figures in (("cutout", 66.82, 66.86, 69.24), ("classmix", 67.77, 66.93, 69.36))
        for row, miou in zip(("u2pl", "without", "ours"), figures, strict=True)
    },
    7: {
        f"{threshold}/{predictor}": (miou,)
        for threshold, *figures in (
            ("0.95", 71.01, 70.72),
            ("0.90", 70.97, 70.74),
            ("0.85", 70.30, 70.10),
            ("0.80", 70.06, 69.89),
            ("0.75", 69.43, 68.92),
            ("0.70", 64.89, 64.68),
        )
        for predictor, miou in zip(("linear", "prototype"), figures, strict=True)
    },
}
"""The paper's tables on VOC's first classic lists, by table and row: 92 labels, then 183."""

DISCRIMINATION: dict[str, tuple[float, float, float]] = {
    "u2pl": (0.48, 80.78, 168.30),
    "without": (0.45, 76.01, 168.92),
    "ours": (2.22, 283.43, 127.63),
}
"""Table 5 by row, 92 labels: inter over intra, traces of the inter-class and of the intra-class variance."""
