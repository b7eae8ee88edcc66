"""Many rounds, a line for each, and a table of what was tried."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from semiseg.config.options import require
from semiseg.studies.faults.kinds import KINDS
from semiseg.studies.faults.process import Main
from semiseg.studies.faults.round import Bench, NotPossibleError, Round


@dataclass(frozen=True)
class Outcome:
    """What came of a round."""

    kind: str
    seed: int
    subject: str
    story: tuple[str, ...]
    problems: tuple[str, ...]
    skipped: str | None  # why the fault could not be made
    seconds: float

    @property
    def word(self) -> str:
        """`kept`, `lost` or `skipped`."""
        return "skipped" if self.skipped is not None else "lost" if self.problems else "kept"


def run_rounds(
    main: Main, rounds: int, seed: int = 0, kinds: Sequence[str] = (), console: Console | None = None
) -> list[Outcome]:
    """Disturb `rounds` runs of the command line `main`, and print a line for each and a table.

    Round i has the seed `seed` + i, which alone decides its kind (of `kinds`; none: all), its run and its moments. So
    one round is repeated by its seed and the same kinds, as far as moments go by the clock. Folders of rounds in which
    something was lost are kept, and named. Raises ValueError for an unknown kind or no round.
    """
    require(rounds >= 1, f"rounds is {rounds}; expected 1 or more")
    unknown = [name for name in kinds if name not in KINDS]
    require(not unknown, f"there is no kind of fault {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
    console, top = console or Console(), Path(tempfile.mkdtemp(prefix="semiseg-faults-"))
    bench, outcomes = Bench(top, main), []
    try:
        for number in range(rounds):
            outcome = run_round(bench, seed + number, kinds or tuple(KINDS))
            outcomes.append(outcome)
            _print_line(console, f"{number + 1}/{rounds}", outcome, top)
        _print_table(console, outcomes)
    finally:
        if any(outcome.problems for outcome in outcomes):
            console.print(f"the folders of lost rounds are in {top}", soft_wrap=True)
        else:
            shutil.rmtree(top, ignore_errors=True)
    return outcomes


def run_round(bench: Bench, seed: int, kinds: Sequence[str]) -> Outcome:
    """One round in a folder of its own below the bench's, which is deleted unless something was lost."""
    began, rng = time.monotonic(), random.Random(seed)
    name = rng.choices(kinds, [KINDS[each].weight for each in kinds])[0]
    folder = bench.folder / f"round-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made, skipped = Round(bench, rng, folder, KINDS[name].devices), None
    try:
        KINDS[name].disturb(made)
        made.finish()
    except NotPossibleError as error:
        skipped = str(error)
    if not made.problems:
        shutil.rmtree(folder)
    return Outcome(
        name,
        seed,
        str(made.subject),
        tuple(made.story),
        tuple(dict.fromkeys(made.problems)),
        skipped,
        time.monotonic() - began,
    )


def _print_line(console: Console, place: str, outcome: Outcome, top: Path) -> None:
    words = "; ".join(outcome.story) if outcome.skipped is None else outcome.skipped
    line = f"{place} seed {outcome.seed} {outcome.kind} ({outcome.subject}): {words}: {outcome.word}"
    for text in (f"{line}, {outcome.seconds:.1f} s", *(f"    {problem}" for problem in outcome.problems)):
        console.print(text.replace(f"{top}/", ""), markup=False, highlight=False, soft_wrap=True)


def _print_table(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table("kind", "rounds", "kept", "lost", "skipped", "seeds of lost rounds")
    for name in KINDS:
        own = [outcome for outcome in outcomes if outcome.kind == name]
        if not own:
            continue
        counts = [sum(outcome.word == word for outcome in own) for word in ("kept", "lost", "skipped")]
        seeds = " ".join(str(outcome.seed) for outcome in own if outcome.word == "lost")
        table.add_row(name, str(len(own)), *map(str, counts), seeds)
    console.print(table)
