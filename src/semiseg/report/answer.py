"""What opens a page: the answer for a person who has not read the paper, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """Whether the unlabelled images helped, and how sure that is."""

    words: str
    """`helped`, `no reliable difference`, `hurt`, or a sentence of one's own; it opens the page."""
    difference: float
    """mIoU with unlabelled images minus without, points of 100."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    images: int
    """Labelled images that both were scored on, of all folds together."""
    taken: str
    """Which model `predict` takes, and why, in words; empty where there is no choice."""


@dataclass(frozen=True)
class Answer:
    """The runs that a page answers from.

    `runs` are one training, or one of each fold: every validation image is scored by the run that did not learn it.
    """

    title: str
    runs: tuple[Path, ...]
    """Run folders of the method, one or one a fold."""
    baselines: tuple[Path, ...] = ()
    """Run folders of the labelled images alone, in the same order; empty: none was trained."""
    chosen: Path | None = None
    """The run folder whose model `predict` takes; None: the last of `runs`. It predicts unlabelled pictures."""
    verdict: Verdict | None = None
    """None: none can be given, and the page says why."""
    plan: tuple[str, ...] = ()
    """What was chosen and why, a line each."""
    command: str = ""
    """The next command to type, such as the one that trains the baseline."""
