"""From a recipe and a few overrides to a checked `Config`, and back to YAML.

A recipe is a YAML file whose sections are the dataclasses of `semiseg.config.options`. It is read in layers, the later
wins:

    the recipe < its preset < the overrides (the command line)

No torch here: `semiseg --help` reads this file and must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from semiseg.config.fields import ConfigError, check_method, has_prototypes, nearest, sections, type_hints
from semiseg.config.layers import Flat, Layer, flatten, mapping_of
from semiseg.config.methods import METHOD_OPTIONS, UnlabeledOptions
from semiseg.config.methods.supervised import SupervisedOptions
from semiseg.config.options import (
    AugmentOptions,
    DataOptions,
    EvaluationOptions,
    LossOptions,
    NetworkOptions,
    OptimOptions,
    TrainOptions,
)
from semiseg.config.prototypes import PrototypesOptions
from semiseg.config.yaml_file import read_yaml

RECIPES = Path(__file__).parent / "recipes"
"""Folder of the shipped recipes."""


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
    """Run folder; by default runs/RECIPE-METHOD-seedS."""
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
        mapping_of(read_yaml(path), str(path)), f"{path}: ", path.stem, Layer("--", flatten(overrides or {}))
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


def _resolve(document: Mapping[str, Any], place: str, name: str, overrides: Layer) -> Config:
    """Lay the preset and the overrides over a recipe; every layer is checked before the next hides its mistakes."""
    recipe = dict(document)
    presets = mapping_of(recipe.pop("presets", None), f"{place}presets")
    preset = overrides.values.get("preset", recipe.get("preset"))
    preset = None if preset in (None, "none") else str(preset)
    layers = [Layer.from_document(place, {"recipe": name, **recipe})]
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


def _preset(presets: Mapping[str, Any], name: str, place: str) -> Layer:
    if not presets:
        raise ConfigError(f"{place}this recipe has no presets; leave --preset {name} out")
    if name not in presets:
        raise ConfigError(f"{place}there is no preset {name!r}; {nearest(name, presets)}")
    return Layer.from_document(f"{place}presets.{name}.", mapping_of(presets[name], f"{place}presets.{name}"))


def _build(flat: Mapping[str, Any], place: str) -> Config:
    """The dataclasses from dotted keys in their types; they check ranges, and `place` says whose they are."""
    top = {key: value for key, value in flat.items() if "." not in key}
    parts: dict[str, Any] = {}
    try:
        top.pop("prototypes", None)
        for name, options in sections(top["method"]).items():
            if name == "prototypes":
                parts["method"] = replace(parts["method"], prototypes=_build_prototypes(parts["method"], flat))
            else:
                parts[name] = _build_section(options, f"{name}.", flat)
        return Config(method_options=parts.pop("method"), **top, **parts)
    except ValueError as error:
        raise ConfigError(f"{error} (in {place})") from None


def _build_prototypes(options: Any, flat: Mapping[str, Any]) -> PrototypesOptions | None:
    """The section `prototypes` over the method's default, which is none for a method of another paper."""
    if not flat.get("prototypes", options.prototypes is not None):
        return None
    values = {key.partition(".")[2]: value for key, value in flat.items() if key.startswith("prototypes.")}
    return replace(options.prototypes or PrototypesOptions(), **values)


def _build_section(options: type, prefix: str, flat: Mapping[str, Any]) -> Any:
    hints = type_hints(options)
    values = {item.name: flat[prefix + item.name] for item in fields(options) if prefix + item.name in flat}
    for name in (item.name for item in fields(options) if is_dataclass(hints[item.name])):
        values[name] = _build_section(hints[name], f"{prefix}{name}.", flat)
    return options(**values)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Every option in plain types (str, int, float, bool, None, list, dict): for YAML and for a checkpoint."""
    document = _plain(asdict(config))
    options = document.pop("method_options")
    prototypes = {"prototypes": options.pop("prototypes")} if "prototypes" in options else {}
    document["method"] = {"name": document["method"], **options}
    return document | prototypes


def option_values(config: Config) -> Flat:
    """Dotted key -> value of every option of the config's method. Prototypes that are off show their defaults."""
    flat = flatten(config_to_dict(config))
    flat["method"] = flat.pop("method.name")
    if has_prototypes(config.method):
        used = getattr(config.method_options, "prototypes", None)
        flat |= {"prototypes": used is not None, **flatten(asdict(used or PrototypesOptions()), "prototypes.")}
    return flat


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
    return _resolve(document, "saved config: ", "saved", Layer("--", flatten(overrides or {})))


def save_config(config: Config, path: str | Path) -> None:
    """Write every option, resolved, as YAML that `load_config` reads back to an equal config."""
    Path(path).write_text(yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True), "utf-8")
