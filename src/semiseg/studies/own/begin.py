"""`semiseg train FOLDER`: look at the data and the machine, plan, and train by the plan.

What trains is imported when the data are known: a person sees at once what was found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from semiseg.config.checks import require
from semiseg.config.layers import Flat, flatten
from semiseg.config.recipe import load_config
from semiseg.data.damage import remember_whole
from semiseg.data.doctor.examination import Examination
from semiseg.data.doctor.examine import examine
from semiseg.runtime.files import plain
from semiseg.runtime.launch import is_launched
from semiseg.runtime.lock import only_here
from semiseg.runtime.screen import say, terminal, without_warnings
from semiseg.runtime.stopping import StopRequest
from semiseg.studies.own.facts import Facts, facts_of
from semiseg.studies.own.folds import make_folds
from semiseg.studies.own.plan import RECIPE, Reasons, settle
from semiseg.studies.own.schedule import by_folds, in_words, schedule
from semiseg.studies.own.trainings import RECIPE_FILE, Plan, read_plan, with_steps, write_plan
from semiseg.training.record import CONFIG, METRICS, PLAN, RESULT

MINUTES = 30.0
"""Of the whole command, unless others are asked for."""
MOOT = {"class-not-in-val"}
"""Kinds of findings about the split, which do not matter where folds take its place."""


def train_folder(
    folder: Path,
    given: Mapping[str, object] | None = None,
    *,
    minutes: float = MINUTES,
    baseline: bool = True,
    guard: bool = True,
    resume: bool = False,
    console: Console | None = None,
) -> Path:
    """Plan a training on the pictures and masks in `folder`, run it, and judge it; returns the folder of all of it.

    Args:
        folder: of pictures and masks, in any layout that `semiseg check` knows.
        given: options that win over the plan, by their dotted names; `run` is the folder of the result (None:
            runs/NAME).
        minutes: how long the whole may take on this machine; of no effect where `train.steps` is given.
        baseline: whether the same network is trained on the masks alone too, which the verdict is held against.
        guard: whether the weight of unlabelled images is lowered where their pseudo-labels go wrong.
        resume: go on where the same call was stopped.
        console: where progress goes; None: the terminal.

    Raises ValueError for data that cannot be trained on, options that do not fit, and a folder that is in use or holds
    another training; Stopped at a signal, with the running training saved.
    """
    began, console, options = time.monotonic(), console or terminal(), flatten(given or {})
    whole = isinstance(minutes, int | float) and 0 < minutes < 1e6
    require(whole, f"--minutes is {minutes!r}; expected a number above 0 and below 1,000,000")
    require(
        not is_launched() and options.get("train.devices") in (None, 1, "1"),
        f"a folder is planned and trained in one process: leave --devices out, or train by {RECIPE_FILE} with it",
    )
    require(
        not (folder / PLAN).is_file(),
        f"{folder} is what `semiseg train` made of a folder of pictures: give that folder, and --resume to go on; or "
        f"{folder / RECIPE_FILE} to train by its plan",
    )
    root = options.pop("data.root", None)
    require(root is None, f"the folder is {folder}: leave --data.root out")
    run = Path(str(options.get("run") or Path("runs") / (folder.resolve().name or "own")))
    asked = {"folder": str(folder.resolve()), "options": plain(options), "baseline": baseline, "guard": guard}
    with StopRequest(), only_here(run):
        if (run / PLAN).is_file():
            plan = _again(run, asked, resume, console)
        else:
            # What one training by a recipe has left, which is no plan.
            left = [name for name in (CONFIG, METRICS, RESULT, "checkpoints") if (run / name).exists()]
            require(not left, f"{run} already holds a run ({', '.join(left[:1])}): choose another folder by --run")
            plan = _plan(folder, run, options, asked, minutes=minutes, began=began, console=console)
        with without_warnings("semiseg.data"):  # the examination said them, of all masks
            from semiseg.studies.own.run import run_plan

            run_plan(plan, run, console)
    return run


def _again(run: Path, asked: Mapping[str, Any], resume: bool, console: Console) -> Plan:
    """The plan that is in the folder. Raises ValueError where it is another's, or `resume` is False."""
    require(
        resume,
        f"{run} already holds a training: go on with it by --resume, choose another folder by --run, or delete it",
    )
    plan = read_plan(run)
    before, now = (flatten({k: v for k, v in each.items() if k != "run"}) for each in (plan.asked, asked))
    changed = [key for key in before | now if before.get(key) != now.get(key) and key != "options.run"]
    require(
        not changed,
        f"{run} was planned with other options: "
        + ", ".join(
            f"{key.removeprefix('options.')} was {before.get(key)!r} and is {now.get(key)!r}" for key in changed
        )
        + ". Resume with the same, or choose another folder by --run",
    )
    _check_same_data(plan, run, console)
    say(console, f"Going on in {run}, as planned before:")
    _show(plan.reasons, console)
    return plan


def _check_same_data(plan: Plan, run: Path, console: Console) -> None:
    """Raise ValueError where the data are others than those planned for: scores of both must not be mixed."""
    before = plan.details.get("data")
    if before is None:
        say(console, "This plan was made by an older version: whether the data have changed since is not known.")
        return
    from semiseg.studies.own.state import differences, open_unscaled, state_of

    changed = differences(before, state_of(open_unscaled(plan.config.data)))
    require(
        not changed,
        f"{plan.config.data.root} has changed since {run} was planned: {'; '.join(changed)}. Scores of both must not "
        "be mixed: put the data back as they were, or train anew with another --run",
    )


def _check_outside(run: Path, found: Examination) -> None:
    """Raise ValueError where what is written to `run` would lie among the pictures or the masks."""
    root, inside = found.root, run.resolve()
    paths = [*(image.path for image in found.images), *found.masks.values()]
    first = {parts[0] for path in paths if len(parts := path.relative_to(root).parts) > 1}
    require(
        inside != root.resolve() and not any(inside.is_relative_to((root / name).resolve()) for name in first),
        f"--run {run} is among the pictures or masks of {root}, and what is written there would be taken for more of "
        "them: choose another folder by --run",
    )


def _usable(facts: Facts) -> tuple[Facts, Reasons]:
    """Facts for folds, of the masks with a labelled pixel, and a line about the others."""
    masks = tuple(id_ for id_ in facts.masks if facts.present[id_])
    empty = [id_ for id_ in sorted(facts.masks) if not facts.present[id_]]
    require(
        len(masks) > 1,
        f"{len(masks)} of {len(facts.masks)} masks has a labelled pixel where its picture has data; expected 2 or "
        "more, for one to train and one to validate. Draw more classes",
    )
    some = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
    words = f"{len(empty)} without a labelled pixel ({some}): in no fold, and not in the last training's masks"
    return replace(facts, masks=masks), (("left out", words),) if empty else ()


def _plan(
    folder: Path, run: Path, given: Flat, asked: Mapping[str, Any], *, minutes: float, began: float, console: Console
) -> Plan:
    """Look at the data and the machine, plan, and write the plan's files."""
    words = {key: value for key, value in given.items() if key != "run"}
    base = load_config(RECIPE, {**words, "data.root": str(folder)})
    found = examine(base.data, console=console)
    for line in found.table():
        say(console, line)
    _refuse(found)
    _check_outside(run, found)
    from semiseg.studies.own.state import open_unscaled, state_of, unlearnt

    dataset = open_unscaled(found.options)
    remember_whole(dataset)  # the examination has read every file
    facts = facts_of(found, dataset)
    folded = by_folds(facts)
    facts = facts_of(found, dataset, every_mask=True) if folded and len(facts.present) < len(facts.masks) else facts
    facts, left_out = _usable(facts) if folded else (facts, ())
    for finding in found.findings:
        if finding.level == "warning" and not (folded and finding.kind in MOOT):
            say(console, f"  warning: {finding.words}")
    from semiseg.studies.own.measure import machine_here, measure
    from semiseg.studies.own.verdict import unlearnt_in_words

    machine = machine_here(base.train.device, base.train.threads)
    guarded = {"train.guard": "lower" if asked["guard"] else "off"}
    settings = settle(facts, machine, found.options, {**guarded, **words})
    state = state_of(dataset)
    say(console, "\nPlan, from these data and this machine:")
    _show(settings.reasons, console)
    config, speed = settings.config, None
    steps = config.train.steps if "train.steps" in given else None
    if steps is None:
        say(console, "  measuring a few steps ...")
        speed = measure(config)
    spent = time.monotonic() - began
    made = schedule(
        config, facts, speed=speed, minutes=minutes, spent=spent, baseline=bool(asked["baseline"]), steps=steps
    )
    masks = {id_: facts.present[id_] for id_ in facts.masks} if made.folds else {}
    folds = make_folds(masks, made.folds, config.seed) if made.folds else ()
    blind = " ".join(unlearnt_in_words(unlearnt(folds, state)))
    last = (*left_out, *in_words(made, config, facts), *([("unseen", blind)] if blind else []))
    _show(last, console)
    details = {"minutes": minutes, "expected_seconds": made.seconds, "short": made.short, "data": state}
    details |= {"machine": asdict(machine) | {"presets": sorted(machine.presets)}}
    plan = Plan(
        config=with_steps(config, made.steps, words),
        reasons=settings.reasons + last,
        folds=folds,
        baseline=made.baseline,
        asked=asked,
        details=details | {"speed": None if speed is None else asdict(speed)},
    )
    write_plan(plan, run)
    say(console, f"\nThe plan is {run / RECIPE_FILE}: an ordinary recipe, to be edited and given to `semiseg train`.")
    return plan


def _refuse(found: Examination) -> None:
    """Raise ValueError where it cannot be trained on."""
    errors = [finding.words for finding in found.findings if finding.level == "error"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    root = found.root
    require(
        not errors, f"{root} cannot be trained on yet{more}: {''.join(errors[:1])}. `semiseg check {root}` tells all"
    )


def _show(reasons: Reasons, console: Console) -> None:
    for name, words in reasons:
        say(console, f"  {name:<10} {words}")
