"""What is made of the runs of a table beside their scores: variances, embeddings, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg.comparison.table import Document
from semiseg.reproduction.grid import Reproduction
from semiseg.reproduction.rows import DISCRIMINATION


def analyse(made: Reproduction, document: Document) -> dict[str, Any] | None:
    """Analyse the runs of the first set of labels into OUT/TABLE/; None where there is nothing to, or a run is missing.

    Variances are of every seed's run, pictures of the first seed's.
    """
    kind, section = made.table.analysis, document["labeled"][0]
    if kind is None or any(row["missing"] for row in section["rows"]):
        return None
    out = made.out / made.table.name
    seeds = made.seeds if kind == "discrimination" else made.seeds[:1]
    chosen = [(row, seed) for row in made.rows for seed in seeds]
    runs = [made.runs[row.key, made.labels[0], seed].config.run_folder for row, seed in chosen]
    labels = [row.title + (f", seed {seed}" if len(seeds) > 1 else "") for row, seed in chosen]
    return {
        "kind": kind,
        "folder": made.table.name,
        **_made(kind, runs, out, labels, made.config.data.root),
        **({"published": DISCRIMINATION} if kind == "discrimination" else {}),
    }


def _made(kind: str, runs: list[Path], out: Path, labels: list[str], root: Path) -> dict[str, Any]:
    from semiseg import analysis

    if kind == "discrimination":
        return analysis.discriminate(runs, out, root=root, labels=labels)
    if kind == "embedding":
        return {"files": [path.name for path in analysis.embed(runs, out, root=root, labels=labels)]}
    return analysis.picture(runs, out, root=root, rule=kind, labels=labels)
