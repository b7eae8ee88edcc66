"""YAML as people write it: a key that stands twice is refused."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from semiseg.config.fields import ConfigError


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises ConfigError where it is not YAML, or a key stands twice in one mapping."""
    try:
        return _parsed(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """Kept, as a table of the paper loads one recipe a hundred times; nobody changes what is kept."""
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; YAML's own loader forgets the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class, once every key was looked at."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                problem = f"{key.value!r} stands more than once: join them"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)
