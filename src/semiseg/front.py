"""The front door: `train` by a recipe and a few words, and the run that comes out of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from semiseg.config.fields import ConfigError, methods_with, option_types, repair
from semiseg.config.recipe import Config, config_from_dict, config_to_dict, load_config, shipped_recipes
from semiseg.data.dataset import Dataset, Pixels
from semiseg.evaluation.model import Model, load_model
from semiseg.training import experiment, finished
from semiseg.training.experiment import Network
from semiseg.training.record import CONFIG, PLAN, RESULT, VERDICT, run_behind

if TYPE_CHECKING:
    from semiseg.analysis.suggest import Suggestions


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A run folder, and the dataset and the network that it was given, if it was. `Run("runs/mine")` is one, too."""

    folder: Path
    dataset: Dataset | None = None
    network: Network | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def config(self) -> Config:
        """Every option; of several trainings on a folder the chosen one's. Raises ConfigError: the folder is no run."""
        return load_config(run_behind(self.folder) / CONFIG)

    @property
    def result(self) -> dict[str, Any]:
        """What result.json holds: scores of the best and the last checkpoint, and what they came from.

        Raises ValueError where the run is not finished, or the file is damaged.
        """
        path = run_behind(self.folder) / RESULT
        if not path.is_file():
            raise ValueError(f"{path} is not there: train to the last step, with resume=True where the run was stopped")
        return _read(path)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """Whether the unlabelled images helped, as verdict.json says after a training on a folder; else None.

        `words` are the sentences; `chosen` is `method` or `baseline`; scores are in per cent, and `difference` has the
        interval. Raises ValueError where the file is damaged.
        """
        path = self.folder / VERDICT
        return _read(path) if path.is_file() else None

    @cached_property
    def model(self) -> Model:
        """What the run has learnt, as `semiseg.load_model` gives it; read once."""
        return load_model(self.folder, network=self.network)

    def predict(self, image: object, **options: Any) -> tuple[Pixels, NDArray[np.float32]]:
        """Class indices (H, W) uint8 and confidences (H, W) float32 of an image; all as in `Model.predict`."""
        return self.model.predict(image, **options)

    def evaluate(self, subset: str = "val", **options: Any) -> dict[str, Any]:
        """Scores on the `val` or `test` images, or on pictures of your own; `options` as in `semiseg.evaluate`."""
        given = {"network": self.network, **options}
        if "images" in given or "masks" in given:
            return evaluate(self, **given)
        return evaluate(self, subset=subset, **{"dataset": self.dataset, **given})

    def suggest(self, count: int = 10, **options: Any) -> Suggestions:
        """Which unlabelled images to label next; `options` as in `semiseg.analysis.suggest.suggest`."""
        from semiseg.analysis.suggest import suggest  # with what draws, which nothing else here needs

        paths = {key: Path(options[key]) for key in ("images", "out", "root") if options.get(key) is not None}
        return suggest(self.folder, count, **{"dataset": self.dataset, "network": self.network, **options, **paths})

    def report(self) -> Path:
        """Write report.html into the run folder; returns its path."""
        from semiseg.report import write_report  # with what draws, which nothing else here needs

        if (self.folder / PLAN).is_file():
            from semiseg.studies.own.page import write_page

            return write_page(self.folder)
        return write_report(self.folder)


def evaluate(
    run: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores of a run, on its own images or on yours.

    Without `images`, a checkpoint on the run's `val` or `test` images, as in `semiseg.training.finished.evaluate`:
    `checkpoint`, `subset`, `evaluation`, `root`, `dataset`, `network`, `console`. With the folders `images` and
    `masks`, its model on these, as in `semiseg.analysis.own_pictures.evaluate_pictures`: `out`, `evaluation`,
    `tolerance`, `worst`, `network`, `console`. Raises ValueError for one folder without the other, and as these do.
    """
    if images is None and masks is None:
        return finished.evaluate(run, **options)
    if images is None or masks is None:
        given, lacking = ("images", "masks") if masks is None else ("masks", "images")
        raise ValueError(f"{given} are given without {lacking}: name both folders")
    from semiseg.analysis.own_pictures import evaluate_pictures

    if options.get("out") is not None:
        options["out"] = Path(options["out"])
    return evaluate_pictures(Path(run), Path(images), Path(masks), **options)


def train(
    recipe: str | os.PathLike[str] | Config,
    *,
    resume: bool = False,
    console: Console | None = None,
    dataset: Dataset | str | None = None,
    network: Network | str | None = None,
    minutes: float | None = None,
    baseline: bool | None = None,
    guard: bool | None = None,
    **options: Any,
) -> Run:
    """Train on a folder of your own, or by a recipe, to the last step.

    Args:
        recipe: a folder of pictures and masks, for which a training is planned; or a shipped name (`folder`), a YAML
            file, or a Config.
        resume: go on from the last checkpoint of the run folder, or start where there is no run; with more `steps`,
            beyond the end of a finished run.
        console: where progress goes; None: the terminal.
        dataset: one of your own, as `Dataset.from_items` makes it, instead of the recipe's; or data.dataset by name.
        network: one of your own, as `wrap` makes it, of which a copy is trained; or a function that makes one, for
            methods that train several; or network.name.
        minutes: of a folder, what the whole may take. None: 30.
        baseline: of a folder, whether to train on the masks alone too, for the verdict. None: yes.
        guard: of a folder, whether to lower the weight of unlabelled images where pseudo-labels go wrong. None: yes.
        options: options over the recipe's, or the plan's, by the last part of their names: `steps` for train.steps,
            `root` for data.root, `threshold` for method.threshold. Of two names that end alike the one with fewer parts
            is meant; where they have as many, give the whole: `**{"optim.momentum": 0.9}`.

    Raises ValueError for a mistake in all of this, and where the run folder holds a run and `resume` is False.
    """
    if isinstance(dataset, str):
        dataset, options["data.dataset"] = None, dataset
    if isinstance(network, str):
        network, options["network.name"] = None, network
    wishes = {"minutes": minutes, "baseline": baseline, "guard": guard}
    wishes = {key: value for key, value in wishes.items() if value is not None}
    if not isinstance(recipe, Config) and _is_own_folder(recipe):
        if dataset is not None or network is not None:
            raise ValueError("a folder is planned for its own pictures: give `dataset` and `network` with a recipe")
        from semiseg.studies.own.begin import train_folder  # with the studies, which nothing else here needs

        given = whole_names(options, load_config("folder", {k: v for k, v in options.items() if k == "method"}).method)
        return Run(train_folder(Path(recipe), given, resume=resume, console=console, **wishes))
    if wishes:
        none = "" if isinstance(recipe, Config) or str(recipe) in shipped_recipes() else f", and {recipe} is none"
        raise ValueError(f"{', '.join(wishes)}: for a training on a folder{none}; a recipe has `steps` and `method`")
    if isinstance(recipe, Config):
        document = config_to_dict(recipe)
        config = config_from_dict(document, whole_names(options, recipe.method)) if options else recipe
    else:
        chosen = {key: options[key] for key in ("method", "preset") if key in options}
        method = load_config(os.fspath(recipe), chosen).method
        config = load_config(os.fspath(recipe), whole_names(options, method))
    folder = experiment.train(config, resume, console, longer=True, dataset=dataset, network=network)
    return Run(folder, dataset, network)


def _read(path: Path) -> dict[str, Any]:
    """What a run's JSON file holds. Raises ValueError where it is damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        found = error
    if not isinstance(found, dict):
        why = f": {found}" if isinstance(found, Exception) else ""
        raise ValueError(f"{path} is damaged, or no result of semiseg{why}. Train again with resume=True to write it")
    return found


def _is_own_folder(recipe: str | os.PathLike[str]) -> bool:
    """No shipped recipe, and no run folder."""
    return str(recipe) not in shipped_recipes() and os.path.isdir(recipe) and not (Path(recipe) / CONFIG).is_file()


def whole_names(options: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Options by their dotted names, from those by the last part. Raises ConfigError where none, or several, end so."""
    method = str(options.get("method") or method)
    types = option_types(method)
    found = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return {_whole_name(name, types): value for name, value in found.items()}


def _whole_name(name: str, types: Mapping[str, Any]) -> str:
    if name in types or "." in name:
        return name
    if methods_with(f"method.{name}") and f"method.{name}" not in types and not _ending(name, types):
        return f"method.{name}"  # another method's, as will be said
    found = _ending(name, types)
    if not found:
        raise ConfigError(f"{name}: there is no such option; {repair(name, types)}")
    if len(found) > 1:
        several = " or ".join(f'**{{"{key}": ...}}' for key in found)
        raise ConfigError(f"{name} may be {', '.join(found)}: give the whole name, as {several}")
    return found[0]


def _ending(name: str, types: Mapping[str, Any]) -> list[str]:
    """The options with that last part; of several, the ones with the fewest parts."""
    found = [key for key in types if key.rpartition(".")[2] == name]
    return [key for key in found if key.count(".") == min(other.count(".") for other in found)]
