"""From a recipe and a few overrides to a checked `Config`, and back to YAML.

A recipe is a YAML file whose sections are the dataclasses of `semiseg.config.options`. It is read in layers, the later
wins:

    the recipe < its preset < the overrides (the command line)

Every layer is flattened to dotted keys, `data.scale: 0.5`, and every key is checked against the table of options that
exist. Three keys of a file stand for more than themselves: `method` is a name or a mapping with a `name`, `methods`
holds the options of each method in this recipe, and `presets` holds named layers, one of which `preset` chooses.

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from semiseg.config.fields import (
    ConfigError,
    check_method,
    convert,
    describe,
    nearest,
    option_types,
    repair,
    sections,
    type_hints,
)
from semiseg.config.methods import METHOD_OPTIONS, SupervisedOptions, UnlabeledOptions
from semiseg.config.options import (
    AugmentOptions,
    DataOptions,
    EvaluationOptions,
    LossOptions,
    NetworkOptions,
    OptimOptions,
    TrainOptions,
)
from semiseg.config.yaml_file import read_yaml

RECIPES = Path(__file__).parent / "recipes"
"""Folder of the shipped recipes."""

Flat = dict[str, object]
"""Dotted key -> value, as it stands in a file or was typed."""


@dataclass(frozen=True)
class Config:
    """Everything a run depends on. Equal configs give equal runs."""

    recipe: str = "folder"
    """Name of the recipe this came from."""
    preset: str | None = None
    """One of the recipe's named sets of options."""
    seed: int = 0
    """Of all randomness of the run."""
    run: Path | None = None
    """Run folder. None: runs/RECIPE-METHOD-seedS."""
    method: str = "prototype"
    """The method; its own options are listed by `--method NAME --help`."""
    method_options: SupervisedOptions | UnlabeledOptions = None  # type: ignore[assignment]  # None: the defaults
    """The method's own options: an instance of METHOD_OPTIONS[method]."""
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        expected = METHOD_OPTIONS[check_method(self.method)]
        if self.method_options is None:
            object.__setattr__(self, "method_options", expected())
        if type(self.method_options) is not expected:
            got = type(self.method_options).__name__
            raise ConfigError(f"method {self.method!r} takes {expected.__name__}, but method_options is {got}")
        if self.train.compile and self.network.checkpoint:
            raise ConfigError(
                "train.compile and network.checkpoint do not go together: torch cannot compile it; take one"
            )
        self.network.check_crop(self.augment.crop_height, self.augment.crop_width)
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; expected a whole number from 0")
        at_once = self.train.batch_unlabeled // self.train.accumulate
        if at_once < 2 and isinstance(self.method_options, UnlabeledOptions) and self.method_options.needs_partner:
            raise ConfigError(
                f"{self.method} mixes each unlabelled image with another of its batch, and gets {at_once} at a time: "
                "raise train.batch_unlabeled or lower train.accumulate to have at least 2"
            )

    @property
    def run_folder(self) -> Path:
        """Where the run goes: `run`, or runs/RECIPE-METHOD-seedS."""
        return self.run or Path("runs") / f"{self.recipe}-{self.method}-seed{self.seed}"


# Layers ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """Options from one place; `place` stands before a key in a message: `FILE: `, or `--` for the command line."""

    place: str
    values: Flat
    method: str | None = None
    """The method that this layer chooses."""
    own: Flat = field(default_factory=dict)
    """What stands under `method`: for the method chosen here or, where none is, for every method that has it."""
    methods: Mapping[str, Flat] = field(default_factory=dict)
    """What stands under `methods`: each method's own options."""

    @classmethod
    def from_document(cls, place: str, document: Mapping[str, object]) -> _Layer:
        """A recipe, or one of its presets."""
        rest = dict(document)
        own = rest.pop("method", None)
        own = dict(own) if isinstance(own, Mapping) else {"name": own}
        name = own.pop("name", None)
        methods = _mapping(rest.pop("methods", None), f"{place}methods")
        return cls(
            place,
            flatten(rest),
            method=None if name is None else check_method(name, place),
            own=own,
            methods={check_method(key, f"{place}methods: "): _mapping(methods[key], place + key) for key in methods},
        )

    def for_method(self, method: str) -> Flat:
        """The layer as `method` reads it: options that are meant for other methods are left out."""
        names = {key: {item.name for item in fields(options)} for key, options in METHOD_OPTIONS.items()}
        foreign = set().union(*names.values()) - names[method] if self.method is None else set()
        own = self.own if self.method in (None, method) else {}
        mine = {**self.methods.get(method, {}), **{key: value for key, value in own.items() if key not in foreign}}
        return self.values | {f"method.{key}": value for key, value in mine.items()}

    def checked(self, method: str) -> Flat:
        """`for_method` with every value in its option's type. Raises ConfigError where a key or a value is wrong."""
        types = option_types(method)
        return {key: self._check(key, value, types) for key, value in self.for_method(method).items()}

    def _check(self, key: str, value: object, types: Mapping[str, Any]) -> object:
        if key not in types:
            raise ConfigError(f"{self.place}{key}: there is no such option; {repair(key, types)}")
        try:
            return convert(value, types[key])
        except ValueError:
            raise ConfigError(f"{self.place}{key} is {value!r}; expected {describe(types[key])}") from None


def _mapping(value: object, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {value!r}; expected `name: value` lines")
    return {str(key): item for key, item in value.items()}


def flatten(document: Mapping[str, object], prefix: str = "") -> Flat:
    """Nested mappings as dotted keys; an empty section (`data:` and nothing more) has none."""
    flat: Flat = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif value is not None or name not in sections("supervised"):
            flat[name] = value
    return flat


# Recipe -> Config -> YAML ---------------------------------------------------------------------------------------------


def shipped_recipes() -> dict[str, str]:
    """Name -> what it is (the first comment line) of every recipe in the package."""
    files = sorted(RECIPES.glob("*.yaml"))
    return {file.stem: file.read_text("utf-8").partition("\n")[0].lstrip("# ") for file in files}


def load_config(recipe: str | Path, overrides: Mapping[str, object] | None = None) -> Config:
    """The checked config of a recipe.

    `recipe` is a shipped name (`camvid`) or a YAML file, a run's config.yaml among them. `overrides` are dotted keys
    (`train.steps`) with values of the option's type or in words as on the command line (`"1e-3"`, `"true"`, `"none"`).
    Raises ConfigError for an unknown recipe, option or choice, a wrong type, or a value out of range.
    """
    path = find_recipe(recipe)
    return _resolve(
        _mapping(read_yaml(path), str(path)), f"{path}: ", path.stem, _Layer("--", flatten(overrides or {}))
    )


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe: a shipped name first, then a path. Raises ConfigError with the shipped names."""
    shipped = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    path = shipped.get(str(recipe), Path(recipe))
    if not path.is_file():
        raise ConfigError(
            f"there is no recipe {str(recipe)!r}, nor a file of that name; {nearest(str(recipe), shipped)}"
        )
    return path


def _resolve(document: Mapping[str, Any], place: str, name: str, overrides: _Layer) -> Config:
    """Lay the preset and the overrides over a recipe; every layer is checked before the next hides its mistakes."""
    recipe = dict(document)
    presets = _mapping(recipe.pop("presets", None), f"{place}presets")
    preset = overrides.values.get("preset", recipe.get("preset"))
    preset = None if preset in (None, "none") else str(preset)
    layers = [_Layer.from_document(place, {"recipe": name, **recipe})]
    # A run's config.yaml names its preset but has none: its options are already in it.
    if presets or "preset" in overrides.values:
        layers += [_preset(presets, preset, place)] if preset is not None else []
    chosen = [layer.method for layer in layers if layer.method] + [overrides.values.get("method")]
    method = check_method([name for name in ["prototype", *chosen] if name is not None][-1])
    flat: Flat = {}
    for layer in [*layers, overrides]:
        flat |= layer.checked(method)
    where = place.removesuffix(": ") + (" with the options given" if overrides.values else "")
    return _build(flat | {"method": method, "preset": preset}, where)


def _preset(presets: Mapping[str, Any], name: str, place: str) -> _Layer:
    if not presets:
        raise ConfigError(f"{place}this recipe has no presets; leave --preset {name} out")
    if name not in presets:
        raise ConfigError(f"{place}there is no preset {name!r}; {nearest(name, presets)}")
    return _Layer.from_document(f"{place}presets.{name}.", _mapping(presets[name], f"{place}presets.{name}"))


def _build(flat: Mapping[str, Any], place: str) -> Config:
    """The dataclasses from dotted keys in their types; they check ranges, and `place` says whose they are."""
    top = {key: value for key, value in flat.items() if "." not in key}
    parts: dict[str, Any] = {}
    try:
        for name, options in sections(top["method"]).items():
            parts[name] = _build_section(options, f"{name}.", flat)
        return Config(method_options=parts.pop("method"), **top, **parts)
    except ValueError as error:
        raise ConfigError(f"{error} (in {place})") from None


def _build_section(options: type, prefix: str, flat: Mapping[str, Any]) -> Any:
    hints = type_hints(options)
    values = {item.name: flat[prefix + item.name] for item in fields(options) if prefix + item.name in flat}
    for name in (item.name for item in fields(options) if is_dataclass(hints[item.name])):
        values[name] = _build_section(hints[name], f"{prefix}{name}.", flat)
    return options(**values)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Every option in plain types (str, int, float, bool, None, list, dict): for YAML and for a checkpoint."""
    document = _plain(asdict(config))
    document["method"] = {"name": document["method"], **document.pop("method_options")}
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def config_from_dict(document: Mapping[str, Any], overrides: Mapping[str, object] | None = None) -> Config:
    """The config that `config_to_dict` wrote, with `overrides` as for `load_config`.

    Raises ConfigError where it does not fit this version's options.
    """
    return _resolve(document, "saved config: ", "saved", _Layer("--", flatten(overrides or {})))


def save_config(config: Config, path: str | Path) -> None:
    """Write every option, resolved, as YAML that `load_config` reads back to an equal config."""
    Path(path).write_text(yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True), "utf-8")
