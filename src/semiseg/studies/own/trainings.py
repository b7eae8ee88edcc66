"""The trainings below one folder, each an ordinary run, and the file that says what was planned."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from semiseg.config.checks import shown
from semiseg.config.layers import Flat
from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.config.recipe import Config, config_from_dict, config_text, config_to_dict
from semiseg.runtime.files import write_atomically, write_json
from semiseg.studies.own.folds import Fold
from semiseg.studies.own.schedule import EVALUATIONS
from semiseg.training.record import PLAN

RECIPE_FILE = "recipe.yaml"
LISTS = "lists"
_WIDTH = 116  # of a comment in the recipe, and of a line on the screen


@dataclass(frozen=True)
class Plan:
    """What is trained: the method's config without a run folder, and what stands around it."""

    config: Config
    reasons: tuple[tuple[str, str], ...]
    folds: tuple[Fold, ...]
    """Empty: the split's validation images."""
    baseline: bool
    asked: Mapping[str, Any]
    """Folder, options and words of the command: what a resumed one must repeat."""
    details: Mapping[str, Any]
    """Machine, speed and expected seconds, for the record."""

    @property
    def lines(self) -> list[str]:
        """What was chosen and why, for people."""
        return [f"{name:<10} {words}" for name, words in self.reasons]


@dataclass(frozen=True)
class Training:
    """One ordinary run."""

    title: str
    config: Config

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.config.run_folder


def with_steps(config: Config, steps: int, given: Flat) -> Config:
    """`config` with so many steps, and what follows from them unless it was given."""
    every = math.ceil(steps / EVALUATIONS)
    follows = {"steps": steps, "evaluate_every": every, "checkpoint_every": every, "log_every": min(20, every)}
    return replace(
        config, train=replace(config.train, **{k: v for k, v in follows.items() if f"train.{k}" not in given})
    )


def in_folds(plan: Plan, run: Path) -> list[tuple[Training, Training | None]]:
    """Method and baseline of each fold, or of the split."""
    if not plan.folds:
        return [_pair(plan, run, "", "", plan.config)]
    pairs = []
    for number in range(1, len(plan.folds) + 1):
        config = _on_lists(plan.config, run, f"fold{number}-labeled.txt", f"fold{number}-val.txt")
        pairs.append(_pair(plan, run / "folds", f"fold{number}-", f"fold {number} of {len(plan.folds)}, ", config))
    return pairs


def _pair(plan: Plan, folder: Path, name: str, where: str, config: Config) -> tuple[Training, Training | None]:
    beside = (
        Training(f"{where}masks alone (baseline)", as_baseline(config, folder / f"{name}baseline"))
        if plan.baseline
        else None
    )
    if beside is not None:  # the monitor holds the method against it
        config = replace(config, train=replace(config.train, baseline=beside.folder))
    return Training(f"{where}{config.method}", replace(config, run=folder / f"{name}method")), beside


def as_baseline(config: Config, run: Path) -> Config:
    """The same training on the labelled images alone: same network, data, steps, seed."""
    return replace(config, run=run, method="supervised", method_options=SupervisedOptions())


def last_training(plan: Plan, run: Path, chosen: str) -> Training:
    """The training of the chosen model on every mask, behind the folds."""
    config = _on_lists(plan.config, run, "all.txt", "all.txt")
    config = replace(config, data=replace(config.data, val_trains=True), run=run / "final")
    every = replace(config.train, evaluate_every=config.train.steps)  # none can choose by images that train
    config = replace(config, train=every)
    return Training("all masks, the model to use", config if chosen == "method" else as_baseline(config, run / "final"))


def _on_lists(config: Config, run: Path, labeled: str, val: str) -> Config:
    lists = {"labeled": str(run / LISTS / labeled), "val": str(run / LISTS / val)}
    return replace(config, data=replace(config.data, labeled_count=None, **lists))


# The files of a plan --------------------------------------------------------------------------------------------------


def write_plan(plan: Plan, run: Path) -> None:
    """Write lists, recipe.yaml and, last, plan.json."""
    for number, fold in enumerate(plan.folds, 1):
        for name in ("labeled", "val"):
            _write(run / LISTS / f"fold{number}-{name}.txt", "".join(f"{id_}\n" for id_ in getattr(fold, name)))
    if plan.folds:
        ids = sorted(id_ for fold in plan.folds for id_ in fold.val)
        _write(run / LISTS / "all.txt", "".join(f"{id_}\n" for id_ in ids))
    _write(run / RECIPE_FILE, recipe_text(plan, run))
    write_json(
        run / PLAN,
        {
            "config": config_to_dict(plan.config),
            "asked": dict(plan.asked),
            "reasons": dict(plan.reasons),
            "baseline": plan.baseline,
            "folds": [asdict(fold) for fold in plan.folds],
            **plan.details,
        },
    )


def recipe_text(plan: Plan, run: Path) -> str:
    """The recipe with the reasons over it, as YAML that `load_config` reads back to the plan's config."""
    opening = [
        f"Planned for the pictures in {plan.config.data.root}; edit it, and train by it.",
        f"Command: semiseg train {run / RECIPE_FILE}",
        *plan.lines,
    ]
    return "".join(f"# {shown_line(line)}\n" for line in opening) + config_text(plan.config)


def shown_line(line: str) -> str:
    """A line whose characters are all drawn, as a comment of YAML must be."""
    return line if line.isprintable() else shown(line, 1000)


def read_plan(run: Path) -> Plan:
    """The plan in a folder. Raises ValueError, with the file and the repair, where it is damaged.

    recipe.yaml is not read: it may be edited, and trainings by two recipes must not be held against each other.
    """
    try:
        document = json.loads((run / PLAN).read_text("utf-8"))
        return Plan(
            config=config_from_dict(document.pop("config"), {}),
            reasons=tuple((str(name), str(words)) for name, words in document.pop("reasons").items()),
            folds=tuple(Fold(tuple(fold["labeled"]), tuple(fold["val"])) for fold in document.pop("folds")),
            baseline=bool(document.pop("baseline")),
            asked=dict(document.pop("asked")),
            details=document,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{run / PLAN} is damaged ({type(error).__name__}): restore it from a copy, or train again with another "
            "--run"
        ) from None


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def pairs_flat(pairs: list[tuple[Training, Training | None]]) -> Iterator[Training]:
    """Every training in its order: the baseline before the method."""
    for method, baseline in pairs:
        yield from (each for each in (baseline, method) if each is not None)
