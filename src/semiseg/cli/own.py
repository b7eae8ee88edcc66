"""The command that trains: by a recipe, or on a folder of one's own. Its docstring is the command line's help."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from semiseg.cli.options import RUN, is_own_folder
from semiseg.config.checks import require
from semiseg.config.recipe import load_config, shipped_recipes
from semiseg.runtime.launch import is_first, resolve_devices
from semiseg.runtime.screen import printable

Switch = Literal["on", "off"]


def train(
    recipe: str,
    /,
    *,
    resume: Annotated[bool, Parameter(group=RUN)] = False,
    minutes: Annotated[float | None, Parameter(group=RUN)] = None,
    baseline: Annotated[Switch | None, Parameter(group=RUN)] = None,
    guard: Annotated[Switch | None, Parameter(group=RUN)] = None,
    **options: Any,
) -> None:
    """Train on a folder of your own, or by a recipe.

    For a folder a training is planned, and a verdict says whether the unlabelled pictures helped; options win over the
    plan. `semiseg recipes` lists the recipes, `semiseg methods` the methods. `--method NAME --help` adds the method's
    own options to those below, `--help-all` lists every one.

    Parameters
    ----------
    recipe
        A folder of pictures, a shipped recipe, or a YAML file.
    resume
        Go on from the last checkpoint of the run folder; with more --train.steps, beyond the end of a finished run.
    minutes
        Of a folder: minutes that the whole may take. Default: 30.
    baseline
        Of a folder: train on the masks alone too. Default: on.
    guard
        Of a folder: watch the pseudo-labels. Default: on.
    """
    wishes = {"minutes": minutes, "baseline": baseline, "guard": guard}
    if is_own_folder(recipe):
        _train_folder(Path(recipe), options, resume, {key: value for key, value in wishes.items() if value is not None})
        return
    if recipe in shipped_recipes() and os.path.isdir(recipe):
        print(f"semiseg: {recipe} is taken for the recipe of that name; ./{recipe} is the folder", file=sys.stderr)
    asked = [f"--{key}" for key, value in wishes.items() if value is not None]
    require(not asked, f"{', '.join(asked)}: for a training on a folder; a recipe has --train.steps and --method")
    config = load_config(recipe, options)
    folder = config.run_folder
    require(folder.is_dir() or not os.path.lexists(folder), f"--run is {folder}, which is a file; expected a folder")
    resolve_devices(config.train.devices)  # before the import: whoever only starts the others needs nothing of it
    from semiseg.training import start

    run = start.train(config, resume=resume, longer=True)
    if is_first():
        from semiseg import report

        for words in report.doubts_of(run):
            print("Note:", printable(words))
        for words in report.closing(run):
            print(printable(words))
        print(printable(report.write_report(run)))


def _train_folder(folder: Path, options: dict[str, Any], resume: bool, wishes: dict[str, Any]) -> None:
    load_config("folder", options)  # a mistake is told before torch is imported
    print(f"Looking at {printable(folder)} ...", flush=True)
    from semiseg.studies.own.begin import MINUTES, train_folder

    switches = {key: value == "on" for key, value in wishes.items() if key != "minutes"}
    minutes = wishes.get("minutes", MINUTES)
    train_folder(folder, options, minutes=minutes, resume=resume, **switches)
