"""The options of a config on the command line, made from the dataclasses.

cyclopts binds them: a command's `**options` are unpacked from a TypedDict whose keys are the dotted names, so that the
command is called with what was typed and nothing else. From the dataclasses themselves it would fill in the class's
defaults instead of the recipe's, check that mixture, and not tell what was typed. So the recipe's defaults are written
into the help here; names, types, choices, `none` and the nearest names are cyclopts' work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial, reduce, wraps
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypedDict, Union, Unpack, get_args, get_origin

from cyclopts import Group, Parameter
from cyclopts.exceptions import CoercionError

from semiseg.config.fields import OLD_VALUES, attribute_docs, convert, now, option_help, option_types
from semiseg.config.methods import METHOD_OPTIONS
from semiseg.config.recipe import Config, load_config, option_values, shipped_recipes

CONFIG = "config.yaml"
"""The file by which a run folder is known."""
Command = Callable[..., int | None]

_CROP = ("augment.crop_height", "augment.crop_width")
FIRST = {
    "Data": ("data.root", "data.labeled"),
    "Method": ("method", "prototypes", "network.encoder"),
    "Training": ("train.steps", "train.batch_labeled", "train.batch_unlabeled", *_CROP, "optim.lr", "train.devices"),
    "Run": ("run", "preset", "seed"),
}
"""The fifteen options that people change first, in groups: `--help` shows these, `--help-all` every one."""
HELP_ALL = "--help-all"

_SHORT = {"train.devices": "--devices", "train.steps": "--steps"}  # second, shorter names
_TITLES = (*FIRST, "Prototypes", "Augment", "Network", "Loss", "Optim", "Train", "Evaluation")
_GROUPS = {title: Group(title, sort_key=place) for place, title in enumerate(_TITLES)}
RUN = _GROUPS["Run"]


def with_options(command: Command, tokens: Sequence[str]) -> Command:
    """`command` with its **options spelled out where `tokens` are its own: they name recipe, preset and method."""

    @wraps(command)
    def run(*arguments: Any, **typed: Any) -> int | None:
        return command(*arguments, **typed)

    run.__annotations__ = {name: read_exactly(kind) for name, kind in command.__annotations__.items()}
    if command.__name__ in _OPTIONS_OF and tokens[:1] == [command.__name__]:
        options = TypedDict("Options", _OPTIONS_OF[command.__name__](tokens), total=False)  # type: ignore[misc]
        run.__annotations__["options"] = Unpack[options]
    return run


def read_exactly(kind: Any) -> Any:
    """The type `kind` with its whole numbers, numbers and paths read as in a recipe.

    By itself cyclopts rounds 2.7 to a whole number, takes nan for a number, and an empty path for the current folder.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (int, float, Path):
        return Annotated[kind, Parameter(converter=_read)]
    if origin is Annotated:
        return Annotated[(read_exactly(inner[0]), *inner[1:])]  # type: ignore[return-value]
    if origin in (Union, UnionType) and {int, float, Path} & set(inner):  # cyclopts calls it without the None
        return Annotated[kind, Parameter(converter=_read_or_none)]
    if origin in (Union, UnionType):
        return reduce(or_, map(read_exactly, inner))
    return tuple[tuple(map(read_exactly, inner))] if origin is tuple else kind  # type: ignore[misc]


def _read_or_none(kind: Any, tokens: Sequence[Any]) -> Any:
    return None if tokens[0].value.lower() in ("none", "null") else _read(kind, tokens)


def _read(kind: Any, tokens: Sequence[Any], key: str = "") -> Any:
    try:
        return convert(now(key, tokens[0].value), kind)
    except ValueError:
        raise CoercionError(token=tokens[0], target_type=kind) from None


def named_config(tokens: Sequence[str], options: Sequence[str] = ("preset", "method")) -> Config:
    """The config of the recipe and the `options` that the tokens name, as far as one can tell before parsing."""
    recipe = next((token for token in tokens[1:2] if not token.startswith("-")), None)
    if recipe is not None and is_own_folder(recipe):
        recipe = "folder"  # from which the plan departs
    chosen: dict[str, object] = {}
    for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
        name, equals, value = token.partition("=")
        if name.startswith("--") and name[2:] in options:
            chosen[name[2:]] = value if equals else after
    if recipe is None:
        chosen.pop("preset", None)
    return load_config(recipe or "folder", chosen)


def is_own_folder(words: str) -> bool:
    """Whether what stands in a recipe's place is a folder of pictures: no shipped recipe, and no run."""
    return words not in shipped_recipes() and os.path.isdir(words) and not os.path.isfile(os.path.join(words, CONFIG))


def _of_run(tokens: Sequence[str]) -> dict[str, Any]:
    """Every option of one run, with its values in the config that the tokens name."""
    config = named_config(tokens)
    asked = any(token.partition("=")[0] == "--method" for token in tokens)  # for this method: show what is its own
    types = option_types(config.method)
    own = [key for key in types if asked and key.startswith(("method.", "prototypes."))]
    return _parameters(types, option_help(config.method), tokens, option_values(config), own=own)


def _of_comparison(tokens: Sequence[str]) -> dict[str, Any]:
    """The options that all runs of a comparison share, and every method's own."""
    values = option_values(named_config(tokens, ["preset"]))
    return _of_many_runs(tokens, {key: value for key, value in values.items() if key in option_types("supervised")})


def _of_reproduction(tokens: Sequence[str]) -> dict[str, Any]:
    """Likewise; each table and scale has defaults of its own, and `--preset` is the reproduction's own."""
    return {key: kind for key, kind in _of_many_runs(tokens, {}).items() if key != "preset"}


def _of_many_runs(tokens: Sequence[str], values: Mapping[str, object]) -> dict[str, Any]:
    """Without what the command sets itself. What is of other types in other methods is taken as words."""
    shared, texts = option_types("supervised"), option_help("supervised")
    types = {key: kind for key, kind in shared.items() if key not in ("run", "seed", "method", "train.devices")}
    for method in METHOD_OPTIONS:
        own = {key: kind for key, kind in option_types(method).items() if key not in shared}
        types |= {key: kind if types.get(key, kind) == kind else str for key, kind in own.items()}
        for key in own:
            texts[key] = f"{texts[key][:-1]}, {method}." if key in texts else f"{option_help(method)[key]} Of {method}."
    return _parameters(types, texts, tokens, values, hidden=["data.labeled"])  # which is refused for --labeled


def _of_evaluation(tokens: Sequence[str]) -> dict[str, Any]:
    """The options of the evaluation."""
    types = {key: kind for key, kind in option_types("supervised").items() if key.startswith("evaluation.")}
    del types["evaluation.hidden"]  # of training
    own = [key for key in types if key != "evaluation.windows_at_once"]
    return _parameters(types, option_help("supervised"), tokens, dict.fromkeys(types, "the run's"), own=own)


_OPTIONS_OF: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "train": _of_run,
    "estimate": _of_run,
    "compare": _of_comparison,
    "reproduce": _of_reproduction,
    "evaluate": _of_evaluation,
}


def _parameters(
    types: Mapping[str, Any],
    texts: Mapping[str, str],
    tokens: Sequence[str],
    values: Mapping[str, object],
    *,
    own: Collection[str] = (),
    hidden: Collection[str] = (),
) -> dict[str, Any]:
    """Dotted key -> type with what cyclopts is to know of the option; `values` are the defaults of the help.

    The help lists FIRST and `own` without `hidden`, or all where the tokens ask for it.
    """
    everything = HELP_ALL in tokens
    titles = {key: title for title, keys in FIRST.items() for key in keys}
    texts = {**attribute_docs(Config), **texts}
    made: dict[str, Any] = {}
    for key in (key for key in dict.fromkeys([*titles, *types]) if key in types and key != "recipe"):
        section = key.partition(".")[0].capitalize()
        title = section if everything else titles.get(key, section)
        parameter = Parameter(
            name=[f"--{key}", *([_SHORT[key]] if key in _SHORT else [])],
            help=texts[key] if everything else re.split(r"(?<=\.) (?=[A-Z`])", texts[key])[0],
            show=everything or ((key in titles or key in own) and key not in hidden),
            show_default=_shown(values[key]) if values.get(key) is not None else False,
            group=_GROUPS.get(title, RUN),
        )
        kind = Annotated[types[key], Parameter(converter=partial(_read, key=key))] if key in OLD_VALUES else types[key]
        made[key] = Annotated[read_exactly(kind), parameter]
    return made


def _shown(value: object) -> str:
    """A default as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def join_booleans(tokens: Sequence[str]) -> list[str]:
    """`--a.b true` as `--a.b=true`: cyclopts reads a boolean after a space as an argument of its own."""
    joined: list[str] = []
    for token in tokens:
        if token in ("true", "false") and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined
