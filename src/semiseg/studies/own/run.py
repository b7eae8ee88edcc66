"""The trainings of a plan, one after another, the verdict on them, and the better model."""

from __future__ import annotations

import gc
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from semiseg.runtime.files import write_atomically, write_json
from semiseg.runtime.screen import say
from semiseg.studies.own.page import conclude, write_page
from semiseg.studies.own.state import open_unscaled, state_of, unlearnt
from semiseg.studies.own.trainings import Plan, Training, in_folds, last_training, pairs_flat
from semiseg.studies.own.verdict import as_dict, judge, sentences
from semiseg.training import experiment
from semiseg.training.record import CONFUSIONS, RESULT, VERDICT


def run_plan(plan: Plan, run: Path, console: Console) -> None:
    """Train what is not finished, judge, and keep the better model."""
    began, pairs = time.monotonic(), in_folds(plan, run)
    every = [*pairs_flat(pairs)]
    total = len(every) + bool(plan.folds)
    for number, training in enumerate(every, 1):
        _train(training, f"Training {number} of {total}", console)
    verdict = judge([method.folder for method, _ in pairs], [beside.folder for _, beside in pairs if beside])
    state = plan.details.get("data") or state_of(open_unscaled(plan.config.data))  # a plan of an older version has none
    verdict = replace(verdict, unlearnt=unlearnt(plan.folds, state))
    words = sentences(verdict)
    if plan.details.get("short"):
        words.append(f"{plan.config.train.steps} steps are few: with more --minutes it may be otherwise.")
    if plan.folds:
        final = last_training(plan, run, verdict.chosen)
        _train(final, f"Training {total} of {total}", console)
        chosen = final.folder
        words.append(f"It was trained once more, on all {len(verdict.method.names)} masks.")
    else:
        chosen = run / verdict.chosen
    for name in ("model.safetensors", "model.json"):  # the description last: it has the sha256 of the weights
        with (chosen / "model" / name).open("rb") as source:
            write_atomically(run / "model" / name, lambda file, source=source: shutil.copyfileobj(source, file))
    write_json(run / VERDICT, as_dict(verdict, str(chosen.relative_to(run))) | {"words": words})
    write_page(run)
    conclude(plan, run, verdict, words, time.monotonic() - began, console)


def _train(training: Training, where: str, console: Console) -> None:
    """Train, or go on; a finished run stays as it is."""
    finished = (training.folder / RESULT).is_file() and (training.folder / CONFUSIONS).is_file()
    steps = training.config.train.steps
    say(console, f"\n{where}: {training.title}, {steps:,} steps" + (": finished before" if finished else ""))
    if training.config.data.val_trains and not finished:
        say(console, "No mask is left to score it by: what stands here as its score is of masks that it learns.")
    if not finished:
        experiment.train(training.config, resume=True, console=console, brief=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
