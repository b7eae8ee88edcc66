"""What a person sees of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from semiseg.runtime.screen import printable

QUIET_SECONDS = 10.0  # between two plain lines


class Progress:
    """Live progress of `total` steps under `title`; use it as a context."""

    def __init__(self, title: str, total: int, start: int = 0, console: Console | None = None) -> None:
        self.title, self.total, self.start = printable(title), total, start
        self.console = console or Console()
        self.live = self.console.is_terminal
        self.miou: float | None = None
        self.began = self.last_line = time.monotonic()
        self.bar = Bar(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(self.title, total=total, completed=start, figures="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(printable(text, "\n"), markup=False, highlight=False, soft_wrap=not self.live)

    def step(self, step: int, values: Mapping[str, float], note: str = "", now: bool = False) -> None:
        """Show the step's losses, the share of pseudo-labels kept, the last mIoU, and the time left; before, `note`.

        A plain line is written with `now`, at the last step, or where the last one is some seconds old.
        """
        words = [printable(note)] if note else []
        words += [f"{name} {value:.0%}" if name == "kept" else f"{name} {value:.3f}" for name, value in values.items()]
        figures = " ".join(words) + ("" if self.miou is None else f" mIoU {self.miou:.1f}")
        self.bar.update(self.task, completed=step, figures=figures)
        time_now = time.monotonic()
        if not self.live and (now or time_now - self.last_line >= QUIET_SECONDS or step == self.total):
            self.last_line = time_now
            left = (time_now - self.began) / max(step - self.start, 1) * (self.total - step)
            minutes, seconds = divmod(round(left), 60)
            estimate = f" left {minutes}:{seconds:02d}" if step > self.start else ""
            self.say(f"{self.title} step {step}/{self.total} {figures}{estimate}")

    def evaluation(self, step: int, miou: float, warnings: list[str]) -> None:
        """Show a score and what the method warns of."""
        self.miou = miou
        self.say(f"{self.title} step {step}: val mIoU {miou:.2f}")
        for warning in warnings:
            self.say(f"{self.title} step {step}: warning: {warning}")
