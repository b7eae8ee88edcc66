"""Options from one place, laid over options from another.

Every layer is flattened to dotted keys, `data.scale: 0.5`, and every key is checked against the table of options that
exist. Three keys of a file stand for more than themselves: `method` is a name or a mapping with a `name`, `methods`
holds the options of each method in this recipe, and `presets` holds named layers, one of which `preset` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from semiseg.config.checks import describe, shown, shown_key
from semiseg.config.fields import (
    RENAMED,
    ConfigError,
    check_method,
    convert,
    has_prototypes,
    now,
    option_types,
    repair,
    sections,
)
from semiseg.config.methods import METHOD_OPTIONS

Flat = dict[str, object]
"""Dotted key -> value, as it stands in a file or was typed."""


@dataclass(frozen=True)
class Layer:
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
    def from_document(cls, place: str, document: Mapping[str, object]) -> Layer:
        """A recipe, or one of its presets."""
        rest = dict(document)
        own = rest.pop("method", None)
        own = dict(own) if isinstance(own, Mapping) else {"name": own}
        if "prototypes" in rest:  # a section of the method's own options, as a run's config.yaml writes it
            own["prototypes"] = rest.pop("prototypes")
        name = own.pop("name", None)
        methods = mapping_of(rest.pop("methods", None), f"{place}methods")
        methods = {check_method(key, f"{place}methods: "): mapping_of(methods[key], place + key) for key in methods}
        return cls(place, flatten(rest), None if name is None else check_method(name, place), own, methods)

    def for_method(self, method: str) -> Flat:
        """The layer as `method` reads it: options that are meant for other methods are left out."""
        names = {key: {item.name for item in fields(options)} for key, options in METHOD_OPTIONS.items()}
        foreign = set().union(*names.values()) - names[method] if self.method is None else set()
        if has_prototypes(method):  # an old spelling is refused, though another method has an option of this name
            foreign -= {key.removeprefix("method.") for key in RENAMED}
        own = self.own if self.method in (None, method) else {}
        general = {key: value for key, value in own.items() if key not in foreign}
        flat = dict(self.values)
        for key, value in [*self.methods.get(method, {}).items(), *general.items()]:  # the later wins, option by option
            flat |= _prototypes_section(value) if key == "prototypes" else {f"method.{key}": value}
        if "prototypes" not in flat and any(key.startswith("prototypes.") for key in flat):
            flat["prototypes"] = True
        return flat

    def checked(self, method: str) -> Flat:
        """`for_method` with every value in its option's type. Raises ConfigError where a key or a value is wrong."""
        types, checked = option_types(method), {}
        for key, value in self.for_method(method).items():
            if key not in types:
                raise ConfigError(self.place + _unknown(key, value, types))
            try:
                checked[key] = convert(now(key, value), types[key])
            except ValueError:
                raise ConfigError(f"{self.place}{key} is {shown(value)}; expected {describe(types[key])}") from None
        useless = [key for key in self.values if key.startswith("prototypes.")]
        if useless and checked["prototypes"] is False:
            raise ConfigError(f"{self.place}{useless[0]}: prototypes are turned off here too; leave one of them out")
        return checked


def _unknown(key: str, value: object, types: Mapping[str, Any]) -> str:
    """What is wrong about a key that is no option: a section without its names, an option with names, or the name."""
    inside = [name.rpartition(".")[2] for name in types if name.startswith(f"{key}.")]
    if inside:
        return f"{key} is {shown(value)}; expected `name: value` lines of {', '.join(inside[:3])} and others"
    outer = key.rpartition(".")[0]
    if outer in types and outer not in ("method", "prototypes"):
        return f"{outer} holds {shown_key(key.rpartition('.')[2])}; expected {describe(types[outer])}"
    return f"{shown_key(key)}: there is no such option; {repair(key, types)}"


def _prototypes_section(value: object) -> Flat:
    """The section `prototypes` of a method in dotted keys: a mapping, true, or false and none for off."""
    if isinstance(value, Mapping):
        return {"prototypes": True, **flatten(value, "prototypes.")}
    if isinstance(value, bool) or value in (None, "none", "true", "false"):
        return {"prototypes": value not in (None, False, "none", "false")}
    return {"method.prototypes": value}  # the number K in version 0.1: refused with the new spelling


def mapping_of(value: object, what: str) -> dict[str, Any]:
    """A mapping of a file, empty where nothing stands. Raises ConfigError, which says `what`, for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {shown(value)}; expected `name: value` lines")
    return {str(key): item for key, item in value.items()}


def flatten(document: Mapping[str, object], prefix: str = "") -> Flat:
    """Nested mappings as dotted keys; an empty section (`data:` and nothing more, or `{}`) has none."""
    flat: Flat = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        elif value not in (None, {}) or name not in (*sections("supervised"), "data.scenes", "data.bands"):
            flat[name] = value
    return flat
