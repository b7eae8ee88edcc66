"""From a recipe and a few overrides to a checked `Config`, and back to YAML.

A recipe is a YAML file whose sections are the dataclasses of `semiseg.config.options`. It is read in layers, the later
wins:

    the recipe < its preset < the overrides (the command line)

No torch here: `semiseg --help` reads this file and must answer at once.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from semiseg.config import options
from semiseg.config.checks import Seed, check_value, shown
from semiseg.config.fields import ConfigError, check_method, has_prototypes, nearest, sections, type_hints
from semiseg.config.layers import Flat, Layer, flatten, mapping_of
from semiseg.config.methods import METHOD_OPTIONS, UnlabeledOptions
from semiseg.config.methods.supervised import SupervisedOptions
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
    data: options.DataOptions = field(default_factory=options.DataOptions)
    augment: options.AugmentOptions = field(default_factory=options.AugmentOptions)
    network: options.NetworkOptions = field(default_factory=options.NetworkOptions)
    loss: options.LossOptions = field(default_factory=options.LossOptions)
    optim: options.OptimOptions = field(default_factory=options.OptimOptions)
    train: options.TrainOptions = field(default_factory=options.TrainOptions)
    evaluation: options.EvaluationOptions = field(default_factory=options.EvaluationOptions)

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
        check_value("seed", self.seed, Seed)
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
    document = read_yaml(path)
    if not isinstance(document, Mapping) or not document:
        kind = "nothing" if not document else "text" if isinstance(document, str) else f"a {type(document).__name__}"
        raise ConfigError(f"{path} is no recipe: it holds {kind}; expected `name: value` lines")
    return _resolve(document, f"{path}: ", path.stem, overrides)


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe: a shipped name first, then a path. Raises ConfigError with the shipped names."""
    shipped = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    path = shipped.get(str(recipe), Path(recipe))
    if not os.path.exists(path):  # False too for a name that no file can have
        raise ConfigError(
            f"there is no recipe {shown(str(recipe), 1000)}, nor a file or folder of that name; "
            f"{nearest(str(recipe), shipped)}"
        )
    if path.is_dir():
        inside = next((path / name for name in ("config.yaml", "recipe.yaml") if (path / name).is_file()), None)
        of_run = f"{path} is a folder, and no recipe: " + (f"give {inside}" if inside else "give a YAML file")
        raise ConfigError(f"{of_run}. `semiseg train FOLDER` takes a folder of pictures and masks")
    return path


def _resolve(document: Mapping[str, Any], place: str, name: str, overrides: Mapping[str, object] | None) -> Config:
    """Lay the preset and the overrides over a recipe; every layer is checked before the next hides its mistakes."""
    typed = Layer("--", flatten(overrides or {}))
    recipe = dict(document)
    presets = mapping_of(recipe.pop("presets", None), f"{place}presets")
    preset = typed.values.get("preset", recipe.get("preset"))
    preset = None if preset in (None, "none") else str(preset)
    layers = [Layer.from_document(place, {"recipe": name, **recipe})]
    # A run's config.yaml names its preset but has none: its options are already in it.
    if preset is not None and (presets or "preset" in typed.values):
        if not presets:
            raise ConfigError(f"{place}this recipe has no presets; leave --preset {preset} out")
        if preset not in presets:
            raise ConfigError(f"{place}there is no preset {shown(preset)}; {nearest(preset, presets)}")
        where = f"{place}presets.{preset}"
        layers.append(Layer.from_document(f"{where}.", mapping_of(presets[preset], where)))
    chosen = [layer.method for layer in layers if layer.method] + [typed.values.get("method")]
    method = check_method([name for name in ["prototype", *chosen] if name is not None][-1])
    flat: Flat = {}
    for layer in [*layers, typed]:
        flat |= layer.checked(method)
    where = place.removesuffix(": ") + (" with the options given" if typed.values else "")
    return _build(flat | {"method": method, "preset": preset}, where)


def _build(flat: Mapping[str, Any], place: str) -> Config:
    """The dataclasses from dotted keys in their types; they check ranges, and `place` says whose they are."""
    top = {key: value for key, value in flat.items() if "." not in key}
    parts: dict[str, Any] = {}
    try:
        top.pop("prototypes", None)
        for name, section in sections(top["method"]).items():
            if name == "prototypes":
                parts["method"] = replace(parts["method"], prototypes=_build_prototypes(parts["method"], flat))
            else:
                parts[name] = _build_section(section, f"{name}.", flat)
        return Config(method_options=parts.pop("method"), **top, **parts)
    except ValueError as error:
        raise ConfigError(f"{error} (in {place})") from None


def _build_prototypes(own: Any, flat: Mapping[str, Any]) -> PrototypesOptions | None:
    """The section `prototypes` over the method's default, which is none for a method of another paper."""
    if not flat.get("prototypes", own.prototypes is not None):
        return None
    values = {key.partition(".")[2]: value for key, value in flat.items() if key.startswith("prototypes.")}
    return replace(own.prototypes or PrototypesOptions(), **values)


def _build_section(section: Any, prefix: str, flat: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {}
    for name, kind in type_hints(section).items():
        if is_dataclass(kind):
            values[name] = _build_section(kind, f"{prefix}{name}.", flat)
        elif prefix + name in flat:
            values[name] = flat[prefix + name]
    return section(**values)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Every option in plain types (str, int, float, bool, None, list, dict): for YAML and for a checkpoint."""
    document = asdict(config, dict_factory=_plain)
    own = document.pop("method_options")
    prototypes = {"prototypes": own.pop("prototypes")} if "prototypes" in own else {}
    document["method"] = {"name": document["method"], **own}
    return document | prototypes


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Fields with their values: paths as text, tuples as lists."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in items}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def option_values(config: Config) -> Flat:
    """Dotted key -> value of every option of the config's method. Prototypes that are off show their defaults."""
    flat = flatten(config_to_dict(config))
    flat["method"] = flat.pop("method.name")
    if has_prototypes(config.method):
        used = getattr(config.method_options, "prototypes", None)
        flat |= {"prototypes": used is not None, **flatten(asdict(used or PrototypesOptions()), "prototypes.")}
    return flat


def config_from_dict(document: Mapping[str, Any], overrides: Mapping[str, object] | None = None) -> Config:
    """The config that `config_to_dict` wrote, with `overrides` as for `load_config`.

    Raises ConfigError where it does not fit this version's options.
    """
    return _resolve(document, "saved config: ", "saved", overrides)


def config_text(config: Config) -> str:
    """Every option, resolved, as YAML that `load_config` reads back to an equal config."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def save_config(config: Config, path: str | Path) -> None:
    """Write `config_text` into a file."""
    Path(path).write_text(config_text(config), "utf-8")
