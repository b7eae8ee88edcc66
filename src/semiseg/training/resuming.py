"""Whether a run may go on where its folder says it is, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg.config.changes import changed_options, check_same_run
from semiseg.config.recipe import Config, config_from_dict
from semiseg.data.dataset import LIST_NAMES, Dataset, check_same_lists
from semiseg.evaluation.same_classes import check_same_classes
from semiseg.training.bands import as_before
from semiseg.training.checkpoint import BEST, LAST, load_checkpoint
from semiseg.training.keeping import State
from semiseg.training.optim import learning_rate
from semiseg.training.record import METRICS, RESULT


def find_checkpoint(config: Config, resume: bool, longer: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from; None where the folder holds nothing of a run that took a step.

    With `longer` more train.steps may be asked for than the run was begun for. Raises ValueError where the folder holds
    a run and `resume` is False, where the run is another, and where its checkpoint is gone or damaged: what is there is
    never written over.
    """
    folder = config.run_folder
    last, record = folder / "checkpoints" / LAST, folder / METRICS
    traces = [record, last.with_name(BEST), folder / RESULT, folder / "model"]
    left = next((path for path in traces if path.is_dir() or (path.is_file() and path.stat().st_size)), None)
    if not last.exists() and left is None:
        return None
    if not resume:
        raise ValueError(
            f"{folder} already holds a run: go on with it by --resume, choose another folder by --run, or delete it"
        )
    if not last.exists():
        best = last.with_name(BEST)
        other = f", or copy {best} there to go on from the best evaluation" if best.exists() else ""
        raise ValueError(
            f"{last} is not there, but {left} is of a run, which would be lost: restore it from a copy{other}, "
            "or train again with another --run"
        )
    saved = load_checkpoint(last)
    state, before = State.read(saved["state"], last), saved_config(saved, last)
    lists = [saved["split"].get(name) for name in LIST_NAMES if name != "test"]
    if state.step > before.train.steps or not all(isinstance(each, dict) and "sha256" in each for each in lists):
        raise ValueError(
            f"{last} is damaged: its step is {state.step} of {before.train.steps}, with the lists "
            f"{', '.join(saved['split']) or 'of nothing'}. Restore it from a copy, or train again with another --run"
        )
    if not record.is_file():
        raise ValueError(
            f"{record} is not there, the record of the steps before {state.step}: restore it from a copy, or make an "
            "empty file of that name to go on without it"
        )
    if longer and config.train.steps > before.train.steps:
        before = replace(before, train=replace(before.train, steps=config.train.steps))
        saved["state"]["first_steps"] = state.first_steps or saved["config"]["train"]["steps"]
    check_same_run(as_before(config, before), before, folder)
    return saved


def saved_config(saved: Mapping[str, Any], path: Path) -> Config:
    """The config in the checkpoint `path`. Raises ValueError that names the file where it is none."""
    try:
        return config_from_dict(saved["config"])
    except ValueError as error:
        raise ValueError(f"{path} was written by another version of semiseg, or is damaged: {error}") from error


def where_it_goes_on(config: Config, state: State, before: int) -> str:
    """A line for the screen: the step, and how the schedule changes in a run that was to end at step `before`."""
    step, steps = state.step, config.train.steps
    text = f"resumed from step {step} of {steps} ({config.run_folder})"
    if steps == before:
        return text
    rates = [state.rate_factor * learning_rate(min(step, total - 1), total, config.optim) for total in (before, steps)]
    return (
        f"{text}; it was begun for {state.first_steps} steps. The schedule is now of {steps}: the learning "
        f"rate goes on at {rates[1]:.2g} where it was {rates[0]:.2g}, and warm-up keeps its number of steps"
    )


def load_best(path: Path, config: Config, dataset: Dataset, step: int) -> Mapping[str, Any]:
    """The method's weights in the best checkpoint, `path`, of a run whose best evaluation was at `step`.

    Raises ValueError where the file is damaged, or of another run or step.
    """
    best = load_checkpoint(path)
    check_best(best, path, config, step)
    check_same_lists(best["split"], dataset.split, best["split"], path)
    check_same_classes(best["classes"], dataset, path)
    return best["method"]


def check_best(best: Mapping[str, Any], path: Path, config: Config, step: int) -> None:
    """Refuse a best checkpoint, `best` of the file `path`, of another run than `config`'s, or of another step."""
    theirs = saved_config(best, path)
    other = changed_options(config, replace(theirs, train=replace(theirs.train, steps=config.train.steps)))
    if best["state"].get("step") != step:
        other.append(f"its step is {best['state'].get('step')}, the run's best {step}")
    if other:
        raise ValueError(
            f"{path} is not of this run: {', '.join(other[:5])}. Restore it from a copy, or delete it: then --resume "
            "takes the weights of the last step"
        )
