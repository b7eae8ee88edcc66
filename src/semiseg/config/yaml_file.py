"""YAML as people write it: small, a key that stands twice is refused, and a file of another kind is told as such."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from semiseg.config.checks import shown
from semiseg.config.fields import ConfigError

LARGEST = 1_000_000  # bytes
DEEPEST = 20  # levels; a config has four
MOST = 10_000  # values, each counted wherever an alias repeats it

# What PyYAML raises for values that it cannot make, such as `!!int x`, `!!timestamp x` and a date of a 13th month.
_UNMADE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises ConfigError, which names the file and quotes nothing of it, where it is no YAML.

    So it does for a file that is too large, nested too deeply or inflated by aliases, and for a key that stands twice.
    """
    try:
        if not os.path.isfile(path):
            raise ConfigError(f"{path} is no file: expected a YAML file")
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; expected YAML of at most {LARGEST:,}")
        return _parsed(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8: expected YAML") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_words(error)}. Mend it there, or give another file") from None


def _words(error: yaml.YAMLError) -> str:
    """Where and what; without the lines of the file that PyYAML quotes, which may be another file's contents."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return f"{problem if problem.isprintable() and len(problem) < 200 else shown(problem)}{place}"


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """Kept, as a table of the paper loads one recipe a hundred times; nobody changes what is kept."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except _UNMADE as error:
        raise yaml.constructor.ConstructorError(
            problem=f"a value that cannot be made ({type(error).__name__})"
        ) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Refuses deep nesting, aliases that inflate a file, and a key that stands twice, of which YAML keeps the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, int] = {}  # of the nodes, by id: values, with all inside

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the base class, once its depth and its size were looked at."""
        self.depth += 1
        mark = self.peek_event().start_mark
        _check(self.depth <= DEEPEST, f"nested more than {DEEPEST} levels deep", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        _check(not is_alias or id(node) in self.sizes, "an alias inside what it stands for", mark)
        self.sizes.setdefault(id(node), 1 + sum(self.sizes[id(part)] for part in _parts(node)))
        _check(self.sizes[id(node)] <= MOST, f"more than {MOST:,} values, an alias counted as all it stands for", mark)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class, once every key was looked at."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                _check(key.value not in seen, f"{shown(key.value)} stands more than once: join them", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# Whole numbers in tens alone: YAML 1.1 reads 010 as eight, and 1:30 as ninety.
_WHOLE = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _WHOLE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_WHOLE, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))


def _parts(node: Any) -> Iterator[yaml.Node]:
    """The nodes inside one: items, or keys and values."""
    for part in [] if isinstance(node, yaml.ScalarNode) else node.value:
        yield from part if isinstance(part, tuple) else [part]


def _check(condition: bool, problem: str, mark: Any) -> None:
    if not condition:
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)
