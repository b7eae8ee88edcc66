"""Reports of a study: curves, calibration, confusion and pictures of its runs, one seed side by side."""

from __future__ import annotations

from pathlib import Path

from semiseg.report import write_comparison
from semiseg.studies.result import Result, Section
from semiseg.studies.study import file_name


def report_name(section: Section) -> str:
    """The file of a section's report."""
    return f"report-{file_name(section.name)}.html"


def shown_seed(section: Section, reference: str) -> int | None:
    """The seed whose runs are shown: of the seeds that the reference has finished, the first that most rows have too.

    None where there is nothing to be held against the reference.
    """
    folders = {row.key: row.folders for row in section.rows}
    counts = {seed: sum(seed in found for found in folders.values()) for seed in folders[reference]}
    most = max(counts.values(), default=0)
    return next((seed for seed, count in counts.items() if count == most), None) if most >= 2 else None


def write_reports(result: Result, out: Path) -> list[Path]:
    """Write one page for each set of labels that has runs to show into `out`, where the runs lie; returns the paths.

    The reference comes first, then the rows from the lowest mIoU to the highest: pictures are chosen by the last.
    """
    found = []
    for section in result.labeled:
        seed = shown_seed(section, result.reference)
        if seed is None:
            continue
        scores = {row.key: row.last.by_seed[seed] for row in section.rows if seed in row.folders}
        rows = [row for row in section.rows if row.key in scores]
        rows.sort(key=lambda row: (row.key != result.reference, scores[row.key]))
        first, last = rows[0], rows[-1]
        gain = scores[last.key] - scores[first.key]
        verdict = f"Highest with this seed is {last.title}: {gain:+.1f} mIoU over {first.title}"
        if gain <= 0:
            verdict = f"No method is above {first.title} with this seed"
        title = f"Comparison: {result.recipe}, {section.name} labels, seed {seed}"
        runs = [out / row.folders[seed] for row in rows]
        found.append(write_comparison(runs, out / report_name(section), title, verdict))
    return found
