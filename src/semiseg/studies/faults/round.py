"""One round: a run is disturbed in one way, resumed to the end, and held against the run that was left alone."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from semiseg.studies.faults import hooks
from semiseg.studies.faults.check import losses, open_losses, step_of
from semiseg.studies.faults.process import Ending, Hook, Main, Running
from semiseg.studies.faults.subject import Subject, write_data, write_recipe


class NotPossibleError(Exception):
    """This system does not let a fault be made; the message says why."""


@dataclass(frozen=True)
class Reference:
    """A run that was left alone."""

    run: Path
    seconds: float  # from start to end, with nobody else at work
    writes: int  # files that it wrote whole or not at all


class Bench:
    """The drawn data, the recipe and the runs that were left alone, in one folder."""

    def __init__(self, folder: Path, main: Main) -> None:
        self.folder, self.main = folder, main
        self.data, self.recipe = folder / "data", folder / "recipe.yaml"
        self._references: dict[Subject, Reference] = {}
        write_data(self.data)
        write_recipe(self.recipe)

    def reference(self, subject: Subject) -> Reference:
        """The subject's run left alone; trained when it is first asked for. Raises ValueError where that fails."""
        if subject not in self._references:
            run = self.folder / "alone" / f"{subject.method}-{subject.steps}-{subject.devices}"
            counted = run.with_suffix(".writes")
            counted.parent.mkdir(exist_ok=True)
            words = subject.command(self.recipe, self.data, run, workers=0)
            process = Running(self.main, words, run.with_suffix(".log"), Counting(counted))
            ending = process.end()
            if ending.code or ending.problems:
                raise ValueError(f"the run that was left alone failed: {ending.output[-500:]} {ending.problems}")
            self._references[subject] = Reference(run, process.seconds, int(counted.read_text("utf-8")))
        return self._references[subject]


@dataclass(frozen=True)
class Counting:
    """`hooks.count_writes` with its argument."""

    into: Path

    def __call__(self) -> None:
        """Lay the trap."""
        hooks.count_writes(self.into)


@dataclass
class Round:
    """What a kind of fault works with. `problems` collects what was lost, `story` what was done."""

    bench: Bench
    rng: random.Random
    folder: Path
    devices: int = 1
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.subject = Subject.draw(self.rng, self.devices)
        self.reference = self.bench.reference(self.subject)
        self.run, self.data = self.folder / "disk" / "run", self.folder / "data"
        self.workers = self.rng.choice((0, 0, 1, 2))
        shutil.copytree(self.bench.data, self.data)

    def start(self, hook: Hook | None = None) -> Running:
        """Train, or go on."""
        words = self.subject.command(self.bench.recipe, self.data, self.run, self.workers)
        return Running(self.bench.main, words, self.folder / f"log{len(self.story)}.txt", hook)

    def moment(self, first: float = 0.0, last: float = 1.0) -> float:
        """Seconds after a start: a random part of the time that the whole run takes."""
        return self.reference.seconds * self.rng.uniform(first, last)

    def tell(self, words: str) -> None:
        """Add to the story, with the step that is safe by now."""
        self.story.append(f"{words}, safe at step {step_of(self.run)}")

    def expect(self, ending: Ending, codes: Iterable[int], words: Iterable[str] = (), traceback: bool = False) -> None:
        """Note what is wrong with an ending: other codes, a message without `words` (patterns), or a traceback.

        With `traceback` there may be one.
        """
        shown = " ".join(ending.output.strip().splitlines()[-3:])[-300:]
        self.problems += ending.problems
        if ending.code not in codes:
            self.problems.append(f"exit status {ending.code}, expected {' or '.join(map(str, codes))}: {shown}")
        if ending.code > 0 and "Traceback" in ending.output and not traceback:
            self.problems.append(f"a traceback: {shown}")
        elif ending.code != 0:
            missing = [word for word in words if not re.search(word, ending.output)]
            self.problems += [f"the message lacks /{word}/: {shown}" for word in missing]
        self.problems += open_losses(self.run)

    def finish(self) -> None:
        """Go on to the end, and hold the run against the other."""
        ending = self.start().end()
        self.problems += ending.problems
        if ending.code:
            self.problems.append(f"does not go on: exit status {ending.code}: {ending.output.strip()[-400:]}")
            return
        self.problems += losses(self.run, self.reference.run)


Disturb = Callable[[Round], None]
