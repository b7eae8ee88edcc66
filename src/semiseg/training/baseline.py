"""The evaluations of a training from the labelled images alone, to hold another run against at equal step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.training.concern import Concern
from semiseg.training.reading import read_entries
from semiseg.training.record import METRICS


@dataclass(frozen=True)
class Baseline:
    """Its evaluations by step."""

    evaluations: dict[int, dict[str, Any]]

    @classmethod
    def read(cls, run: Path, evaluate_every: int, steps: int) -> Baseline:
        """Of a run folder. Raises ValueError where it has no evaluation at a step at which this run has one."""
        path = run / METRICS
        if not path.is_file():
            raise ValueError(f"train.baseline is {run}, which has no {METRICS}; expected the run folder of a training")
        found = {entry["step"]: entry for entry in read_entries(path) if entry["kind"] == "evaluation"}
        if not any(step % evaluate_every == 0 or step == steps for step in found):
            raise ValueError(
                f"train.baseline is {run}, evaluated at the steps {', '.join(map(str, found)) or 'of nothing'}, and "
                f"this run at every {evaluate_every}: give both one train.evaluate_every, or leave train.baseline out"
            )
        return cls(found)

    def concerns(self, values: Mapping[str, Any], step: int, behind: float) -> list[Concern]:
        """A concern where `values` of an evaluation are more than `behind` points below the baseline's at `step`."""
        theirs = self.evaluations.get(step)
        if theirs is None or theirs["miou"] is None or not theirs["miou"] - values["miou"] > behind:
            return []
        words = (
            f"worse than the labelled images alone at the same step: {values['miou']:.1f} mIoU, "
            f"{theirs['miou']:.1f} without the unlabelled ones"
        )
        lost = most_lost(headline_iou(values), headline_iou(theirs))
        return [Concern("baseline", theirs["miou"] - values["miou"], words + lost)]


def headline_iou(values: Mapping[str, Any]) -> dict[str, float]:
    """The headline's IoU by class in an evaluation, per cent; without the classes that have none."""
    iou = (values.get(values.get("headline", "")) or {}).get("iou", {})
    return {name: float(value) for name, value in iou.items() if value is not None and math.isfinite(value)}


def most_lost(now: Mapping[str, float], before: Mapping[str, float]) -> str:
    """The three classes that lost most IoU, in words to go on with; empty where none lost a point."""
    lost = sorted(((before[name] - now[name], name) for name in now.keys() & before.keys()), reverse=True)[:3]
    words = [f"{name!r} {before[name]:.0f} to {now[name]:.0f}" for size, name in lost if size > 1]
    return f"; IoU of {', '.join(words)}" if words else ""
