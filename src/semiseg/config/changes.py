"""Options in which two configs give different runs."""

from __future__ import annotations

from pathlib import Path

from semiseg.config.checks import FREE_ON_RESUME
from semiseg.config.fields import marked
from semiseg.config.layers import flatten
from semiseg.config.recipe import Config, config_to_dict


def check_same_run(config: Config, saved: Config, folder: Path) -> None:
    """Raise ValueError where resuming the run in `folder` would be neither the old run nor a new one."""
    changed = changed_options(config, saved)
    if changed:
        raise ValueError(
            f"{folder} was started with other options: {', '.join(changed[:5])}. Resume with the same, or use another "
            "--run"
        )


def changed_options(config: Config, saved: Config) -> list[str]:
    """In what `config` would give another run than `saved`, as `optim.lr was 0.02 and is 0.5`."""
    ours, theirs = (flatten(config_to_dict(c)) for c in (config, saved))
    # That the images are the same is checked by the lists.
    changed = [key for key in ours if ours[key] != theirs.get(key)]
    free = {"run", "recipe", *marked(config.method, FREE_ON_RESUME)}
    return [f"{key} was {theirs.get(key)!r} and is {ours[key]!r}" for key in changed if key not in free]
