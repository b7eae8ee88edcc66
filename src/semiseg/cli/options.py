"""The options of `train` and `evaluate` on the command line, generated from the dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Group, Parameter

from semiseg.config.fields import attribute_docs, option_help, option_types
from semiseg.config.layers import flatten
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Config, config_to_dict, load_config, option_values

Command = Callable[..., None]

_SHORT = {"train.devices": "--devices"}  # options with a second, shorter name
_SHORT_HERE = {"train.steps": "--steps"}  # of a comparison
_ORDER = ["", "method", "prototypes", "data", "augment", "network", "loss", "optim", "train", "evaluation"]


FIRST = (
    *("preset", "seed", "run", "method", "prototypes", "data.root", "data.labeled", "augment.crop_height"),
    *("augment.crop_width", "network.encoder", "optim.lr", "train.steps", "train.batch_labeled"),
    *("train.batch_unlabeled", "train.devices"),
)
"""The fifteen options that people change first: `--help` shows these, `--help-all` every one."""
HELP_ALL = "--help-all"


def with_train_options(command: Command, tokens: Sequence[str]) -> Command:
    """`command` with every option of a config; the help shows the defaults of the recipe that `tokens` name."""
    config = named_config(tokens) if tokens[:1] == [command.__name__] else Config()
    values = option_values(config)
    texts = attribute_docs(Config) | option_help(config.method)
    types = {key: kind for key, kind in option_types(config.method).items() if key != "recipe"}
    everything = HELP_ALL in tokens
    parameters = [
        _parameter(key, kind, texts[key], values.get(key), show=everything or key in FIRST, one_group=not everything)
        for key, kind in types.items()
    ]
    return _with_options(command, parameters)


def named_config(tokens: Sequence[str], options: Sequence[str] = ("preset", "method")) -> Config:
    """The config of the recipe and the `options` that the tokens name, as far as one can tell before parsing."""
    recipe = next((token for token in tokens[1:2] if not token.startswith("-")), None)
    words = [*tokens, ""]
    chosen = {key: words[at + 1] for key in options for at, word in enumerate(tokens) if word == f"--{key}"}
    chosen |= {key: word.partition("=")[2] for key in options for word in tokens if f"--{key}=" in word}
    return load_config(recipe or "folder", chosen if recipe else {k: v for k, v in chosen.items() if k == "method"})


def with_compare_options(command: Command, tokens: Sequence[str]) -> Command:
    """`command` with the options that all runs of a comparison share, and any method's options as words."""
    if tokens[:1] != [command.__name__]:
        return _with_options(command, [])
    values = flatten(
        config_to_dict(
            named_config(
                [token for token in tokens if not token.startswith("--method") or token.startswith("--methods")]
            )
        )
    )
    return _with_options(command, [*_shared_options(values), *_options_of_any_method()])


def with_reproduce_options(command: Command, tokens: Sequence[str]) -> Command:
    """`command` likewise; defaults, which each table and scale has of its own, are not shown."""
    if tokens[:1] != [command.__name__]:
        return _with_options(command, [])
    shared = [each for each in _shared_options({}) if each.name != "preset"]  # which is its own
    return _with_options(command, [*shared, *_options_of_any_method()])


def _shared_options(values: Mapping[str, object]) -> list[inspect.Parameter]:
    """The options that all runs of a comparison share, without the ones that it sets itself."""
    texts = attribute_docs(Config) | option_help("supervised")
    own = ("recipe", "run", "seed", "method", "train.devices")
    return [
        _parameter(key, kind, texts[key], values.get(key), _SHORT_HERE)
        for key, kind in option_types("supervised").items()
        if key not in own
    ]


def _options_of_any_method() -> list[inspect.Parameter]:
    """The methods' own options; words, as what is a number to one may be a switch to another."""
    texts: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    for method in METHOD_OPTIONS:
        for key, text in option_help(method).items():
            if key.partition(".")[0] in ("method", "prototypes"):
                texts.setdefault(key, text)
                owners.setdefault(key, []).append(method)
    return [_parameter(key, str, f"{text} Of {', '.join(owners[key])}.") for key, text in texts.items()]


def with_evaluation_options(command: Command) -> Command:
    """`command` with the options of the evaluation."""
    texts = option_help("supervised")
    types = {key: kind for key, kind in option_types("supervised").items() if key.startswith("evaluation.")}
    del types["evaluation.hidden"]  # of training
    return _with_options(
        command, [_parameter(key, kind, f"{texts[key]} Default: the run's.") for key, kind in types.items()]
    )


def _parameter(
    key: str,
    kind: Any,
    text: str,
    default: object = None,
    short: Mapping[str, str] = _SHORT,
    show: bool = True,
    one_group: bool = False,
) -> inspect.Parameter:
    """One option as cyclopts reads it; `default` is for the help only."""
    section, _, name = key.rpartition(".")
    spec = Parameter(
        name=[f"--{key}", short[key]] if key in short else f"--{key}",
        help=text,
        show=show,
        negative=f"--{section}{section and '.'}no-{name}" if kind is bool else (),
        show_default=_shown if default is not None else False,
        group=Group("Options", sort_key=0)
        if one_group
        else Group(section or "run", sort_key=_ORDER.index(section.split(".")[0])),
    )
    return inspect.Parameter(
        key.replace(".", "__"), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, spec]
    )


def _shown(value: object) -> str:
    """A default as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _with_options(command: Command, options: Sequence[inspect.Parameter]) -> Command:
    """`command` with its **options spelled out; called with what was typed, under dotted names."""

    def run(*arguments: Any, **typed: Any) -> None:
        command(*arguments, **{key.replace("__", "."): value for key, value in typed.items()})

    fixed = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    parameters = [*fixed, *options]
    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def join_booleans(tokens: Sequence[str]) -> list[str]:
    """`--a.b true` as `--a.b=true`: cyclopts reads a boolean after a space as an argument of its own."""
    joined: list[str] = []
    for token in tokens:
        follows = bool(joined) and joined[-1].startswith("--") and "=" not in joined[-1]
        if token in ("true", "false") and follows:
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined
