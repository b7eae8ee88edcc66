"""What the finished runs of a reproduction say, beside what the paper says: the source of all its views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from semiseg.data.splits import PUBLISHED
from semiseg.studies.folders import is_finished
from semiseg.studies.paper.differences import Difference, differences, paper_split, warning
from semiseg.studies.paper.grid import Key, Reproduction
from semiseg.studies.paper.rows import Row
from semiseg.studies.paper.tables import PAPER
from semiseg.studies.published import meaning, published
from semiseg.studies.table import (
    NOT_YET,
    Document,
    Outcome,
    check_same_images,
    difference_of,
    distinct,
    how_sure,
    mean_of,
    merged,
    read_outcome,
    scores_of,
)

VERDICTS = {"helped": "higher", "hurt": "lower", "no reliable difference": "no reliable difference"}
"""A row is not held against supervised-only training, so it neither helped nor hurt."""


def build_document(made: Reproduction, failures: Mapping[str, str], places: int) -> Document:
    """The table of what is finished. `failures` says why runs failed, by name; `places` how many ran at a time.

    Raises ValueError where runs of one set of labels were trained or scored on different images.
    """
    outcomes = {
        (row.key, labels, seed): read_outcome(cell, None if row.predictor == "headline" else row.predictor)
        for row in made.rows
        for labels in made.labels
        for seed in made.seeds
        if is_finished(cell := made.runs[row.key, labels, seed])
    }
    check_same_images(list(outcomes.values()))
    results = list({outcome.cell.name: outcome.result for outcome in outcomes.values()}.values())
    found = differences(made)
    return {
        "table": made.table.name,
        "title": made.table.title,
        "dataset": made.dataset,
        "scale": made.scale,
        "preset": made.config.preset,
        "warning": warning(found),
        "differences": [asdict(each) for each in found],
        "seeds": list(made.seeds),
        "axis": made.table.axis,
        "runs": {"finished": len(results), "of": len(made.cells), "at_a_time": places},
        "labeled": [_section(made, labels, outcomes, failures, found) for labels in made.labels],
        "analysis": None,
        "notes": _notes(made),
        "command": made.command,
        "versions": distinct(results, "versions"),
        "hardware": distinct(results, "hardware"),
        "commit": merged(result["commit"] for result in results),
        "date": {
            name: pick((result["date"] for result in results), default=None)
            for name, pick in (("first", min), ("last", max))
        },
    }


# One set of labels ----------------------------------------------------------------------------------------------------


def _section(
    made: Reproduction,
    labels: str,
    outcomes: Mapping[Key, Outcome],
    failures: Mapping[str, str],
    found: list[Difference],
) -> Document:
    split = made.splits[labels]
    beside = paper_split(made.table, split)
    rows = [_row(made, row, labels, outcomes, failures, beside) for row in made.rows]
    own = next((outcome for key, outcome in outcomes.items() if key[1] == labels), None)
    return {
        "name": labels,
        "published_split": split,
        "meaning": meaning(split) if split in PUBLISHED else None,
        "published_header": _header(made, beside, found),
        "split": own.result["split"] if own is not None else None,
        "rows": rows,
    }


def _header(made: Reproduction, beside: str, found: list[Difference]) -> str:
    """Of the published column: on what, unless it is this very setting."""
    if warning(found) is None:
        return "published"
    return f"published ({made.table.paper}, {PUBLISHED[beside].labeled.count} labels)"


def _row(
    made: Reproduction,
    row: Row,
    labels: str,
    outcomes: Mapping[Key, Outcome],
    failures: Mapping[str, str],
    split: str,
) -> Document:
    reference = row.reference or made.table.reference
    ours, theirs = (
        {seed: outcomes[key, labels, seed] for seed in made.seeds if (key, labels, seed) in outcomes}
        for key in (row.key, reference)
    )
    cells = {seed: made.runs[row.key, labels, seed] for seed in made.seeds}
    difference = None if reference == row.key else difference_of(ours, theirs)
    if difference is not None:
        difference["verdict"] = VERDICTS[difference["verdict"]]
    return {
        "key": row.key,
        "title": row.title,
        "method": row.method,
        "options": dict(row.options),
        "predictor": row.predictor,
        "runs": [cell.name for cell in cells.values()],
        "steps": cells[made.seeds[0]].config.train.steps,
        "last": scores_of(ours, "last"),
        "best": scores_of(ours, "best"),
        "reference": None if reference == row.key else reference,
        "difference": difference,
        **_published(made, row, reference, split),
        "seconds": mean_of([outcome.result["seconds"] for outcome in ours.values()]),
        "missing": [
            {"seed": seed, "why": failures.get(cell.name, NOT_YET)} for seed, cell in cells.items() if seed not in ours
        ],
    }


def _published(made: Reproduction, row: Row, reference: str, split: str) -> dict[str, Any]:
    """What the paper says of the row, and its difference to what it says of the reference."""
    known = published_figure(row, split)
    held = next((each for each in made.table.rows if each.key == reference), row)
    theirs = published_figure(held, split)
    both = known is not None and theirs is not None and reference != row.key
    return {
        "published": None if known is None else {"miou": known[0], "source": known[1]},
        "published_difference": known[0] - theirs[0] if both and known and theirs else None,
    }


def published_figure(row: Row, split: str) -> tuple[float, str] | None:
    """The figure of a row for one of the paper's splits, per cent, and where it stands; None where there is none."""
    if split in row.published:
        return row.published[split], PAPER
    known = None if row.options or row.published else published(row.method, split)
    return None if known is None else (known.miou, known.source)


# What is said beside the rows -----------------------------------------------------------------------------------------


def _notes(made: Reproduction) -> list[str]:
    return [
        *made.table.notes,
        "mIoU in per cent on the validation images. Last: after the last step, which no score chose. Best: of the "
        "evaluation with the highest score on these same images, so it flatters; published figures are of this kind.",
        how_sure(len(made.seeds), "the row that is named", "Higher or lower"),
        "Published difference: the same difference between the published figures of the two rows.",
    ]
