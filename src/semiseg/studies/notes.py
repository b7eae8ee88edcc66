"""Words beside the rows of a study: its headline, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence

from semiseg.evaluation.statistics import DRAWS, HELD
from semiseg.studies.published import is_blender
from semiseg.studies.result import Section
from semiseg.studies.study import Study, Table

_NAMED = 4  # of so many rows, the headline names each
_MINUS = "−"

_SCORES = (
    "mIoU in per cent on the validation images, of the headline predictor unless the row names another. Last: after "
    "the last step, which no score chose. Best: of the evaluation with the highest score on these same images, so it "
    "flatters."
)
_BLENDERS = (
    "This table holds both meanings of `blender`: U2PL's lists, and the lists of CPS, ST++ and UniMatch. Their rows do "
    "not compare, even where the number of labels is the same."
)
_PUBLISHED = (
    "Published: what the source says of this row and split, with its own code, network and steps, of its best epoch "
    "on the validation images; on ResNet-101 unless the source says otherwise."
)
_PUBLISHED_DIFFERENCE = "Published difference: the same difference between the published figures of the two rows."
_COSTS = (
    "Seconds are of training with its evaluations, images/s of training alone (labelled and unlabelled images), memory "
    "is the most a run held; means over seeds. Parameters: trained / in the predictor that is scored."
)


def added(study: Study) -> str:
    """The note where the reference was not asked for."""
    return f"{study.table.reference} was added: the others are held against it"


def notes(study: Study, sections: Sequence[Section]) -> list[str]:
    """How to read the table."""
    table, rows = study.table, [row for section in sections for row in section.rows]
    reference = "the row that is named" if "reference" in table.columns else table.reference
    blenders = {is_blender(section.published_split) for section in sections} - {None}
    said = {
        **dict.fromkeys(table.notes, True),
        _SCORES: True,
        f"{added(study)}.": study.reference_added,
        how_sure(len(study.seeds), reference, table.verdicts): True,
        _BLENDERS: len(blenders) > 1,
        _PUBLISHED: any(row.published for row in rows),
        _PUBLISHED_DIFFERENCE: "published difference" in table.columns,
        _COSTS: "costs" in table.columns and any(row.folders for row in rows),
        _to_reference(study): any(row.reached for row in rows),
    }
    return [note for note, holds in said.items() if holds]


def _to_reference(study: Study) -> str:
    """The meaning of the costs until the reference's score."""
    every, images = study.config.train.evaluate_every, study.config.evaluation.images
    few = "" if images is None else f" All are scored on the first {images:,} validation images, as during training."
    return (
        f"Seconds and TFLOP to {study.table.reference}: what a run had spent at its first evaluation with at least the "
        "last mIoU of the reference's run with the same seed; means over seeds where all reached it, else how many did."
        f"{few} Runs are evaluated every {every:,} steps and after the last, so the score may have been reached up to "
        f"{every:,} steps earlier, and one lucky evaluation is enough. Seconds hold the evaluations before that one. "
        "TFLOP, 10^12 operations, are of the training steps, counted as `semiseg estimate` does, or – where they "
        "cannot be counted."
    )


def how_sure(seeds: int, reference: str, verdicts: tuple[str, str]) -> str:
    """The meaning of the differences to `reference`, their intervals and verdicts with so many seeds."""
    drawn = "images and the seeds" if seeds > 1 else "images"
    words = (
        f"Difference: to {reference}, last against last, with a 95 % interval from {DRAWS:,} draws of the validation "
        f"{drawn} with replacement, the same draws for both (paired bootstrap). {' or '.join(verdicts).capitalize()}: "
        "the interval lies wholly above or below 0."
    )
    if seeds == 1:
        return f"{words} There is one seed: the interval is over images alone, and another seed may lie outside of it."
    held = HELD[max(known for known in HELD if known <= seeds)]
    return (
        f"{words} With {seeds} seeds it is too narrow where seeds decide more than images do: in the worst case it "
        f"holds the truth in about {held} of 100 cases, not in 95."
    )


def headline(table: Table, sections: Sequence[Section]) -> str:
    """The verdicts in one sentence for each set of labels."""
    return ". ".join(f"{section.title}: {_verdicts(table, section)}" for section in sections)


def _verdicts(table: Table, section: Section) -> str:
    above, below = table.verdicts
    found: dict[str, list[str]] = {above: [], "no reliable difference": [], below: []}
    for row in section.rows:
        if row.difference is not None:
            found[row.difference.verdict].append(f"{row.title} {signed(row.difference.miou)}")
    count = sum(map(len, found.values()))
    if count > _NAMED:
        first, neither, last = (len(names) for names in found.values())
        return f"{first} of {count} methods {above}, {neither} made no reliable difference, {last} {below}"
    words = [f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names]
    return "; ".join(words) or "nothing to compare yet"


def signed(value: float) -> str:
    """`value` with its sign; 0.00 has none."""
    text = f"{value:+.2f}".replace("-", _MINUS)
    return text[1:] if text[1:] == "0.00" else text
