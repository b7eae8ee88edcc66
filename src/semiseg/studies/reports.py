"""Reports of a comparison: curves, calibration, confusion and pictures of its runs, those of one seed side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semiseg.report import write_comparison
from semiseg.studies.grid import file_name
from semiseg.studies.table import Document


def report_name(section: Mapping[str, Any]) -> str:
    """The file of a section's report."""
    return f"report-{file_name(section['name'])}.html"


def shown_seed(section: Mapping[str, Any], reference: str) -> str | None:
    """The seed whose runs are shown: of those that the reference has finished, the first that most methods have too.

    None where there is nothing to be held against the reference.
    """
    folders = {row["method"]: row["folders"] for row in section["rows"]}
    counts = {seed: sum(seed in found for found in folders.values()) for seed in folders[reference]}
    seed = max(counts, key=counts.__getitem__, default=None)
    return None if seed is None or counts[seed] < 2 else seed


def write_reports(document: Document, out: Path) -> list[Path]:
    """Write one page for each set of labels that has runs to show into `out`, where the runs lie; returns the paths.

    The reference comes first, then the methods from the lowest mIoU to the highest: pictures are chosen by the last.
    """
    found = []
    for section in document["labeled"]:
        seed = shown_seed(section, document["reference"])
        if seed is not None:
            rows = [row for row in section["rows"] if seed in row["folders"]]
            rows.sort(key=lambda row: (row["method"] != document["reference"], row["last"]["by_seed"][seed]))
            runs = [out / row["folders"][seed] for row in rows]
            title = f"Comparison: {document['recipe']}, {section['name']} labels, seed {seed}"
            found.append(write_comparison(runs, out / report_name(section), title, _verdict(rows[0], rows[-1], seed)))
    return found


def _verdict(first: Mapping[str, Any], last: Mapping[str, Any], seed: str) -> str:
    """What the page opens with."""
    gain = last["last"]["by_seed"][seed] - first["last"]["by_seed"][seed]
    if gain <= 0:
        return f"No method is above {first['method']} with this seed"
    return f"Highest with this seed is {last['method']}: {gain:+.1f} mIoU over {first['method']}"
