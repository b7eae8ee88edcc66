"""What a person sees of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from semiseg.runtime.screen import printable, terminal

QUIET_SECONDS = 10.0  # between two plain lines
LIVE_SECONDS = 1.0  # between two looks at a step's values, on a terminal
FIRST_STEPS = 3  # of a run, each with a line of its own
RECENT = 64  # steps shown, over which the speed is taken

SHARES = {"kept": "pseudo-labels", "agreed": "agreed", "flawed": "flawed"}
"""Values of a step that are shares, and how they are called."""

Item = TypeVar("Item")


class Progress:
    """Live progress of `total` steps under `title`; use it as a context."""

    def __init__(
        self, title: str, total: int, start: int = 0, console: Console | None = None, images: int | None = None
    ) -> None:
        """`images` are the images of a step; None: no speed is told."""
        self.title, self.total, self.start, self.images = printable(title), total, start, images
        self.console = console or terminal()
        self.live = self.console.is_terminal
        self.miou: float | None = None
        self.began = self.last_line = self.last_shown = time.monotonic()
        self.shown = 0  # steps that were shown
        self.recent: deque[tuple[float, int]] = deque([(self.began, start)], maxlen=RECENT)
        self.bar = Bar(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="cyan", markup=False),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(self.title, total=total, completed=start, figures="", left="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(printable(text, "\n"), markup=False, highlight=False, soft_wrap=not self.live)

    def is_due(self, step: int) -> bool:
        """Whether `step`, which nobody logs, is worth a look: one of the first, or the last look was long ago."""
        seconds = LIVE_SECONDS if self.live else QUIET_SECONDS
        return step - self.start <= FIRST_STEPS or time.monotonic() - self.last_shown >= seconds

    def step(self, step: int, values: Mapping[str, float], note: str = "") -> None:
        """Show the step's losses, the share of pseudo-labels kept, the last mIoU, and the time left; before, `note`."""
        now = self.last_shown = time.monotonic()
        self.recent.append((now, step))
        words = [printable(note)] if note else []
        words += [_word(name, value) for name, value in values.items()]
        words += [] if self.miou is None else [f"val mIoU {self.miou:.1f}"]
        since, first = self.recent[0]
        if self.images is not None and step > first and now > since:
            words.append(f"{self.images * (step - first) / (now - since):.3g} images/s")
        left = self._left(now, step)
        self.bar.update(self.task, completed=step, figures=" ".join(words), left=left)
        self.shown += 1
        early = self.images is not None and self.shown <= FIRST_STEPS
        if not self.live and (early or now - self.last_line >= QUIET_SECONDS or step == self.total):
            self.last_line = now
            self.say(" ".join([f"{self.title} step {step}/{self.total}", *words, left]).rstrip())

    def _left(self, now: float, step: int) -> str:
        """The time left, as far as this process can tell."""
        if step <= self.start:
            return ""
        seconds = round((now - self.began) / (step - self.start) * (self.total - step))
        hours, minutes = divmod(seconds // 60, 60)
        return f"left {hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"left {minutes}:{seconds % 60:02d}"

    def part(self, words: str, done: int, of: int) -> None:
        """How far something inside a step is, such as an evaluation."""
        text, now = f"{printable(words)} {done}/{of}", time.monotonic()
        self.bar.update(self.task, figures=text)
        if not self.live and now - self.last_line >= QUIET_SECONDS:
            self.last_line = now
            self.say(f"{self.title}: {text}")

    def counted(self, items: Iterable[Item], words: str) -> Counted[Item]:
        """`items`, whose number is known; whoever takes them is followed by `part`."""
        return Counted(self, items, words)

    def evaluation(self, step: int, miou: float, warnings: list[str]) -> None:
        """Show a score and what the method warns of."""
        self.miou = miou
        self.recent = deque([(time.monotonic(), step)], maxlen=RECENT)  # scoring counts for no step's speed
        self.say(f"{self.title} step {step}: val mIoU {miou:.2f}")
        for warning in warnings:
            self.say(f"{self.title} step {step}: warning: {warning}")


@dataclass(frozen=True)
class Counted(Generic[Item]):
    """Items whose taking is shown; may be iterated again if they may."""

    progress: Progress
    items: Iterable[Item]
    words: str

    def __len__(self) -> int:
        return len(self.items)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[Item]:
        for done, item in enumerate(self.items, 1):
            self.progress.part(self.words, done, len(self))
            yield item


def _word(name: str, value: float) -> str:
    return f"{SHARES[name]} {value:.0%}" if name in SHARES else f"{name} {value:.3f}"
