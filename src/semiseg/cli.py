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
from semiseg.method_options import METHOD_OPTIONS
from semiseg.option_types import methods_with, repair


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command, `tokens` after `semiseg`. Returns the exit status: 0, 2 for a mistake, 130 if stopped."""
    tokens = join_booleans(sys.argv[1:] if tokens is None else tokens)
    try:
        build_app(tokens)(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _fail(_explain(error))
    except (ValueError, OSError) as error:
        if not _is_users(error):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return _stopped(tokens)
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
    app.command(with_evaluation_options(evaluate), name="evaluate")
    for command in (predict, demo, report, methods, recipes):
        app.command(command)
    data = App(name="data", help="Prepare very many unlabelled images.")
    for command in (shard, index):
        data.command(command)
    app.command(data)
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
    from semiseg import experiment

    run = experiment.train(config, resume=resume)
    from semiseg import report

    print(report.write_report(run))


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


def shard(
    source: Path,
    /,
    *,
    out: Path,
    root: Path | None = None,
    shard_size: int | None = None,
    images: int | None = None,
) -> None:
    """Write unlabelled images as tar shards with an index, for --data.unlabeled_shards; a stopped one goes on.

    Parameters
    ----------
    source
        A dataset's folder (its images/ without masks), a folder of images, or a list file.
    out
        Folder for the shards.
    root
        Folder whose images a list names. Default: that of the list.
    shard_size
        Bytes per shard, about. Default: a gigabyte.
    images
        Images per shard, instead.
    """
    from semiseg.data import sharding

    _print_shards(out, len(sharding.write_shards(source, out, root=root, shard_size=shard_size, images=images)))


def index(folder: Path, /) -> None:
    """Index tar shards, whoever made them, for --data.unlabeled_shards.

    Parameters
    ----------
    folder
        The folder of the .tar files.
    """
    from semiseg.data import indexing

    _print_shards(folder, len(indexing.index_shards(folder)))


def _print_shards(folder: Path, count: int) -> None:
    print(f"{count} images in {folder}; train with --data.unlabeled_shards {shlex.quote(str(folder))}")


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


def _explain(error: CycloptsError) -> str:
    """cyclopts' message, unless the option is another method's: then whose."""
    if isinstance(error, UnknownOptionError) and error.token is not None:
        key = (error.token.keyword or "").removeprefix("--")
        if key.startswith("method.") and methods_with(key):
            return f"--{key}: this method has no such option; {repair(key, ())}"
    return str(error)


def _is_users(error: Exception) -> bool:
    """Whether to spare the traceback: for what the system says of a file, and for a ValueError of our own checks."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or error.filename is not None
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
