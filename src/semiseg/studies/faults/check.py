"""Whether a run that was disturbed ended as the run that was left alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from semiseg.evaluation.model import load_model
from semiseg.report.runs import read_run
from semiseg.training.checkpoint import BEST, LAST, load_checkpoint
from semiseg.training.record import METRICS, RESULT

CLOCKS = {"seconds", "evaluating"}
"""What a clock tells, and so differs."""
PATHS = {"config.run", "config.data.root", "config.train.workers"}
"""Where the run and its data lie, and who loads."""
RECORDED = ("train", "evaluation")
"""Kinds of lines that both runs have alike."""


def losses(found: Path, expected: Path) -> list[str]:
    """What differs between two finished run folders, in words; nothing where they are equal to the bit."""
    problems: list[str] = []
    try:
        for problem in _losses(found, expected):
            problems.append(problem)
    except Exception as error:  # of a damaged folder anything may come
        problems.append(f"the run folder cannot be read: {type(error).__name__}: {error}")
    return problems


def _losses(found: Path, expected: Path) -> Iterator[str]:
    names, wanted = _names(found), _names(expected)
    yield from (f"{name} is missing" for name in sorted(wanted - names))
    yield from (f"{name} is left over" for name in sorted(names - wanted))
    for name in (LAST, BEST):
        ours, theirs = (load_checkpoint(folder / "checkpoints" / name) for folder in (found, expected))
        yield from list(_differences(ours, theirs, ""))[:3]
    yield from _record_losses(found / METRICS, expected / METRICS)
    for name in ("model/model.safetensors", "model/model.json", "confusions.npz"):
        if (found / name).read_bytes() != (expected / name).read_bytes():
            yield f"{name} differs"
    results = [json.loads((folder / RESULT).read_text("utf-8")) for folder in (found, expected)]
    for part in ("last", "best"):
        yield from list(_differences(results[0][part], results[1][part], f"result.{part}"))[:3]
    load_model(found)
    read_run(found)


def open_losses(run: Path) -> list[str]:
    """What is wrong in the folder of a run that was stopped: a checkpoint that is there must be whole."""
    wrong = []
    for name in (LAST, BEST):
        path = run / "checkpoints" / name
        try:
            if path.exists():
                load_checkpoint(path)
        except ValueError as error:
            wrong.append(str(error))
    return wrong


def step_of(run: Path) -> int:
    """The step of the last checkpoint; 0 where there is none that can be read."""
    try:
        return load_checkpoint(run / "checkpoints" / LAST)["state"]["step"]
    except ValueError:
        return 0


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _record_losses(found: Path, expected: Path) -> Iterator[str]:
    """A record has whole lines, each step of a kind once and in order, and the figures of the other."""
    lines, wanted = (
        [entry for line in path.read_text("utf-8").splitlines() if (entry := json.loads(line))["kind"] in RECORDED]
        for path in (found, expected)
    )
    steps, all_steps = ([(entry["kind"], entry["step"]) for entry in entries] for entries in (lines, wanted))
    again = [f"{kind} of step {step}" for (kind, step), count in Counter(steps).items() if count > 1]
    yield from (f"the record repeats {words}" for words in again[:3])
    lost = [f"{kind} of step {step}" for kind, step in all_steps if (kind, step) not in steps]
    yield from (f"the record lost {words}" for words in lost[:3])
    if steps != all_steps:
        yield "the record has other lines, or another order"
        return
    for ours, theirs in zip(lines, wanted, strict=True):
        yield from list(_differences(ours, theirs, f"record.{ours['kind']} of step {ours['step']}"))[:3]


def _differences(ours: Any, theirs: Any, place: str) -> Iterator[str]:
    """Places at which two nested values differ, to the bit; clocks and paths left out."""
    if place in PATHS:
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            if key not in CLOCKS:
                deeper = f"{place}.{key}".lstrip(".")
                yield from _differences(ours.get(key), theirs.get(key), deeper)
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(*pair, f"{place}[{number}]")
    elif isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            yield f"{place} differs"
    elif ours != theirs and not (ours != ours and theirs != theirs):
        yield f"{place} differs: {str(ours)[:60]} instead of {str(theirs)[:60]}"
