"""Analyses of the runs of a table, beside their scores: variances, embeddings, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semiseg.report.runs import under
from semiseg.studies.published import DISCRIMINATION
from semiseg.studies.result import Analysed, Result
from semiseg.studies.study import Study

FIGURES: dict[str, dict[str, tuple[str, ...]]] = {
    "discrimination": {
        "inter / intra": ("raw", "ratio"),
        "inter": ("raw", "inter"),
        "intra": ("raw", "intra"),
        "inter / intra, classes alike": ("balanced", "ratio"),
        "inter / intra, length 1": ("unit", "ratio"),
    },
    "embedding": {"silhouette": ("silhouette",)},
    "pictures": {
        "boundary mIoU": ("boundary_iou", "mean"),
        "consistency": ("consistency", "mean"),
        "right": ("consistency", "right"),
    },
}
"""Columns of the page, and where the analysis has their figures."""

_MEANINGS = {
    "discrimination": "Traces of the variances between and within classes of the features before the classifier; raw "
    "ones grow with the features' length, those at length 1 do not.",
    "embedding": "t-SNE of pixels' features. Silhouette: how much closer a pixel is to its own class than to the "
    "next, on the features at length 1, from -1 to 1.",
    "pictures": "Boundary mIoU: of the bands along the masks' edges. Consistency: the chance that two pixels of an "
    "object get the same class, whichever. Right: the share of an object's pixels that get its class. In per cent.",
}


def analyse(made: Study, result: Result) -> Analysed | None:
    """Analyse the runs of the first set of labels into OUT/TABLE/seedN; None without an analysis, or if a run lacks."""
    asked = made.table.analysis
    if asked is None or any(row.missing for row in result.labeled[0].rows):
        return None
    kind = "pictures" if asked in ("boundary", "consistency") else asked
    rows, pictures = [], []
    for seed in made.seeds:
        out = made.out / made.table.name / f"seed{seed}"
        runs = [made.runs[row.key, made.labels[0], seed].config.run_folder for row in made.rows]
        found, files = _made(asked, runs, out, [row.title for row in made.rows], made.config.data.root)
        for row, each in zip(made.rows, found, strict=True):
            figures = [f"{under(each, *keys):.4g}" for keys in FIGURES[kind].values()]
            if kind == "discrimination":
                figures += [f"{value:.2f}" for value in DISCRIMINATION.get(row.key, ())] or ["–"] * 3
            rows.append([row.title, str(seed), *figures])
        pictures += [str(path.relative_to(made.out)) for path in files]
    head = ["row", "seed", *FIGURES[kind]]
    if kind == "discrimination":
        names = ("inter / intra", "inter", "intra")
        head += [f"{name}, published ({made.table.paper}, 92 labels)" for name in names]
    return Analysed(kind, _MEANINGS[kind], head, rows, pictures)


def _made(
    asked: str, runs: list[Path], out: Path, labels: list[str], root: Path
) -> tuple[list[dict[str, Any]], list[Path]]:
    """The results of each run, and the pictures."""
    from semiseg.analysis import discriminate, embed, picture

    if asked == "discrimination":
        return discriminate(runs, out, root=root, labels=labels)["rows"], []
    if asked == "embedding":
        files = {path.suffix: path for path in embed(runs, out, root=root, labels=labels)}
        return json.loads(files[".json"].read_text("utf-8"))["rows"], [files[".svg"]]
    return picture(runs, out, root=root, rule=asked, labels=labels)["rows"], [out / f"pictures-{asked}.png"]
