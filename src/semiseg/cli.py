"""The command line: parse, call one function of the package, print.

The options of `train` are generated from the dataclasses, so help, types and the nearest name to a mistyped one come
from cyclopts, and only what was typed is handed on as overrides. torch is imported by the commands that compute, never
by `--help` or by a mistake in the options.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnknownOptionError

from semiseg.command_options import join_booleans, with_evaluation_options, with_train_options
from semiseg.config import flatten, load_config, shipped_recipes
from semiseg.launch import STOPPED, AloneError, first_to_fail, is_first, launch, resolve_devices
from semiseg.method_options import METHOD_OPTIONS
from semiseg.option_types import methods_with, repair


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command, `tokens` after `semiseg`. Returns the exit status: 0, 2 for a mistake, 130 if stopped."""
    tokens = join_booleans(sys.argv[1:] if tokens is None else tokens)
    try:
        build_app(tokens)(tokens, exit_on_error=False, print_error=False)
    except AloneError as alone:
        status = launch(main, tokens, alone.devices)
        return _stopped(tokens) if status == STOPPED else status
    except KeyboardInterrupt:
        return _stopped(tokens) if is_first() else STOPPED
    except Exception as error:
        if not first_to_fail():
            return 1
        if not _is_users(error):
            raise
        return _fail(_explain(error))
    return 0


def build_app(tokens: Sequence[str] = ()) -> App:
    """The application; the options of `train` are those of the recipe and the method that `tokens` name."""
    app = App(
        name="semiseg",
        help=_ABOUT,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `main` tells how to go on
    )
    app.command(with_train_options(train, tokens), name="train")
    app.command(with_train_options(estimate, tokens), name="estimate")
    app.command(with_evaluation_options(evaluate), name="evaluate")
    for command in (predict, demo, report, bench, methods, recipes):
        app.command(command)
    return app


_ABOUT = "Semantic segmentation from a few labelled images and many unlabelled ones."


def train(recipe: str, /, *, resume: bool = False, **options: Any) -> None:
    """Train by a recipe.

    `semiseg recipes` lists the recipes, `semiseg methods` the methods; `train RECIPE --method NAME --help` shows that
    method's options, with the recipe's values as defaults.

    Parameters
    ----------
    recipe
        A shipped recipe, a YAML file, or the config.yaml of a run.
    resume
        Go on from the last checkpoint of the run folder.
    """
    config = load_config(recipe, options)
    resolve_devices(config.train.devices)  # before the import: whoever only starts the others needs nothing of it
    from semiseg import experiment

    run = experiment.train(config, resume=resume)
    if not is_first():
        return
    from semiseg import report

    print(report.write_report(run))


def estimate(recipe: str, /, *, device: str = "here", **options: Any) -> None:
    """Tell what a recipe costs before it is run: operations, memory, hours. Takes the options of `train`.

    Parameters
    ----------
    recipe
        A shipped recipe, or a YAML file.
    device
        `here`, which is measured for a second, or h200, h100, a100, l4, rtx4090.
    """
    config = load_config(recipe, options)
    from semiseg import estimate

    for key, value in estimate.estimate(config, device).items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")


def evaluate(
    run: Path,
    /,
    *,
    checkpoint: Literal["best", "last"] = "best",
    subset: Annotated[Literal["val", "test"], Parameter(name="--set")] = "val",
    root: Annotated[Path | None, Parameter(name="--data.root")] = None,
    **options: Any,
) -> None:
    """Score a trained run.

    Parameters
    ----------
    run
        The run folder.
    checkpoint
        The one with the best score on the validation images, or the last.
    subset
        Which images.
    root
        Where the data are now. Default: where they were at the training.
    """
    from semiseg import runs

    evaluation = {key.removeprefix("evaluation."): value for key, value in options.items()}
    scores = runs.evaluate_run(run, checkpoint=checkpoint, subset=subset, evaluation=evaluation, root=root)
    for key, value in flatten(scores).items():
        print(f"{key}: {value}")


def predict(run: Path, images: Path, /, *, out: Path, window: int | None = None, stride: int | None = None) -> None:
    """Segment images with a trained run.

    Parameters
    ----------
    run
        The run folder.
    images
        An image, or a folder of images.
    out
        Folder for masks/, overlays/ and confidence/.
    window
        Predict in overlapping windows of so many pixels a side. Default: as the run was scored, whole or in windows.
    stride
        Pixels between two windows. Default: three quarters of the window.
    """
    from semiseg import inference

    count = inference.predict_images(run, images, out, window=window, stride=stride)
    print(f"{count} masks in {out / inference.MASKS}")


def demo(*, out: Path = Path("runs/demo"), steps: int | None = None, seed: int = 0) -> None:
    """Train with and without unlabelled images on drawn scenes, and compare: no download, no GPU.

    Parameters
    ----------
    out
        Folder for the runs and the report; a stopped demo goes on there.
    steps
        Optimizer steps per method. Default: the recipe's.
    seed
        Of all randomness.
    """
    from semiseg import demo

    demo.demo(out, steps, seed)


def report(run: Path, /, *others: Path, out: Path | None = None) -> None:
    """Write the report of a run, finished or not, or of runs against the first.

    Parameters
    ----------
    run
        The run folder; where there are more, the baseline.
    others
        Run folders to hold against it.
    out
        The file. Default: report.html in the run folder.
    """
    from semiseg import report

    if not others and out is None:
        print(report.write_report(run))
        return
    runs = [run, *others]
    words = report.summary(runs)
    print(words, report.write_comparison(runs, out or run / "comparison.html", "Comparison", words), sep="\n")


def bench(
    what: Literal["all", "step", "prototypes", "data", "evaluate", "start"] = "all",
    /,
    *,
    out: Path = Path("bench.json"),
    device: str = "auto",
    repeats: int = 5,
) -> None:
    """Measure what the package costs on this machine, side by side with what it could cost.

    Parameters
    ----------
    what
        `step`: a training step over its network passes. `prototypes`: the sampled head. `data`: the weak view.
        `evaluate`: windows, counting, the K-means start. `start`: the help, and a million files.
    out
        JSON file for the tables.
    device
        `auto`, `cpu` or `cuda:N`.
    repeats
        Rounds whose median counts.
    """
    from semiseg import bench, distributed

    names = list(bench.BENCHMARKS) if what == "all" else [what]
    bench.run(names, out, distributed.pick_device(device), repeats)


def methods() -> None:
    """List the methods."""
    _print_table({name: (options.__doc__ or "").partition("\n")[0] for name, options in METHOD_OPTIONS.items()})


def recipes() -> None:
    """List the recipes."""
    _print_table(shipped_recipes())


def _print_table(rows: Mapping[str, str]) -> None:
    for name, text in rows.items():
        print(f"{name:<{max(map(len, rows))}}  {text}")


def _fail(message: str) -> int:
    print(f"semiseg: error: {message}", file=sys.stderr)
    return 2


def _explain(error: Exception) -> str:
    """The error's message, unless an option is another method's: then whose."""
    if isinstance(error, UnknownOptionError) and error.token is not None:
        key = (error.token.keyword or "").removeprefix("--")
        if key.startswith("method.") and methods_with(key):
            return f"--{key}: this method has no such option; {repair(key, ())}"
    return str(error)


def _is_users(error: Exception) -> bool:
    """Whether to spare the traceback: for a mistyped option, what the system says of a file, our own ValueErrors."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or error.filename is not None
    if not isinstance(error, ValueError):
        return isinstance(error, CycloptsError)
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return last.f_globals.get("__name__", "").startswith("semiseg.")


def _stopped(tokens: Sequence[str]) -> int:
    print("\nsemiseg: stopped", file=sys.stderr)
    if tokens[:1] == ["train"]:
        again = [*tokens, *([] if "--resume" in tokens else ["--resume"])]
        print(f"semiseg: to go on from the last checkpoint: semiseg {shlex.join(again)}", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
