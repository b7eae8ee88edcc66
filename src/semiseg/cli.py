"""The command line: parse, call one function of the package, print.

The options of `train` are generated from the dataclasses, so help, types and the nearest name to a mistyped one come
from cyclopts, and only what was typed is handed on as overrides. torch is imported by the commands that compute, never
by `--help` or by a mistake in the options.
"""

from __future__ import annotations

import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import CycloptsError, UnknownOptionError

from semiseg.config import Config, config_to_dict, flatten, load_config, shipped_recipes
from semiseg.method_options import METHOD_OPTIONS
from semiseg.option_types import attribute_docs, methods_with, option_help, option_types, repair


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command, `tokens` after `semiseg`. Returns the exit status: 0, 2 for a mistake, 130 if stopped."""
    tokens = _join_booleans(sys.argv[1:] if tokens is None else tokens)
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
    app.command(_train_command(tokens), name="train")
    app.command(_evaluate_command(), name="evaluate")
    for command in (predict, demo, report, methods, recipes):
        app.command(command)
    return app


_ORDER = ["", "method", "data", "augment", "network", "loss", "optim", "train", "evaluation"]
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
    from semiseg import experiment

    evaluation = {key.removeprefix("evaluation."): value for key, value in options.items()}
    scores = experiment.evaluate_run(run, checkpoint=checkpoint, subset=subset, evaluation=evaluation, root=root)
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


def methods() -> None:
    """List the methods."""
    _print_table({name: (options.__doc__ or "").partition("\n")[0] for name, options in METHOD_OPTIONS.items()})


def recipes() -> None:
    """List the recipes."""
    _print_table(shipped_recipes())


def _print_table(rows: Mapping[str, str]) -> None:
    for name, text in rows.items():
        print(f"{name:<{max(map(len, rows))}}  {text}")


def _train_command(tokens: Sequence[str]) -> Callable[..., None]:
    config = _named_config(tokens) if tokens[:1] == ["train"] else Config()
    values = flatten(config_to_dict(config))
    values["method"] = values.pop("method.name")
    texts = attribute_docs(Config) | option_help(config.method)
    types = {key: kind for key, kind in option_types(config.method).items() if key != "recipe"}
    return _with_options(train, [_parameter(key, kind, texts[key], values[key]) for key, kind in types.items()])


def _named_config(tokens: Sequence[str]) -> Config:
    """The config of the recipe, preset and method that the tokens name, as far as one can tell before parsing."""
    recipe = next((token for token in tokens[1:2] if not token.startswith("-")), None)
    words = [*tokens, ""]
    chosen = {
        key: words[at + 1] for key in ("preset", "method") for at, word in enumerate(tokens) if word == f"--{key}"
    }
    chosen |= {key: word.partition("=")[2] for key in ("preset", "method") for word in tokens if f"--{key}=" in word}
    return load_config(recipe or "folder", chosen if recipe else {k: v for k, v in chosen.items() if k == "method"})


def _evaluate_command() -> Callable[..., None]:
    texts = option_help("supervised")
    types = {key: kind for key, kind in option_types("supervised").items() if key.startswith("evaluation.")}
    return _with_options(
        evaluate, [_parameter(key, kind, f"{texts[key]} Default: the run's.") for key, kind in types.items()]
    )


def _parameter(key: str, kind: Any, text: str, default: object = None) -> inspect.Parameter:
    """One option as cyclopts reads it; `default` is for the help only."""
    section, _, name = key.rpartition(".")
    spec = Parameter(
        name=f"--{key}",
        help=text,
        negative=f"--{section}.no-{name}" if kind is bool else (),
        show_default=_shown if default is not None else False,
        group=Group(section or "run", sort_key=_ORDER.index(section.split(".")[0])),
    )
    return inspect.Parameter(
        key.replace(".", "__"), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, spec]
    )


def _shown(value: object) -> str:
    """A default as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _with_options(command: Callable[..., None], options: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """`command` with its **options spelled out; it is called with those that were typed, under their dotted names."""

    def run(*arguments: Any, **typed: Any) -> None:
        command(*arguments, **{key.replace("__", "."): value for key, value in typed.items()})

    fixed = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    parameters = [*fixed, *options]
    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _join_booleans(tokens: Sequence[str]) -> list[str]:
    """`--a.b true` as `--a.b=true`: cyclopts reads a boolean after a space as an argument of its own."""
    joined: list[str] = []
    for token in tokens:
        follows = bool(joined) and joined[-1].startswith("--") and "=" not in joined[-1]
        if token in ("true", "false") and follows:
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined


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
