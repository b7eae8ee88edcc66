"""Reports of a study: curves, calibration, confusion and pictures of its runs, one seed side by side."""

from __future__ import annotations

from pathlib import Path

from semiseg.report import write_comparison
from semiseg.studies.result import Result, RowResult, Section
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
        if seed is not None:
            rows = [row for row in section.rows if seed in row.folders]
            scores = {row.key: row.last.by_seed[seed] for row in rows}
            rows.sort(key=lambda row: (row.key != result.reference, scores[row.key]))
            runs = [out / row.folders[seed] for row in rows]
            title = f"Comparison: {result.recipe}, {section.name} labels, seed {seed}"
            found.append(write_comparison(runs, out / report_name(section), title, _verdict(rows[0], rows[-1], seed)))
    return found


def _verdict(first: RowResult, last: RowResult, seed: int) -> str:
    """What the page opens with."""
    gain = last.last.by_seed[seed] - first.last.by_seed[seed]
    if gain <= 0:
        return f"No method is above {first.title} with this seed"
    return f"Highest with this seed is {last.title}: {gain:+.1f} mIoU over {first.title}"
