"""What can be chosen by name, and stays open: an entry that is added has its name known to the options at once.

No torch here: the names of what is shipped stand beside the options, the entries where their code is.
"""

from __future__ import annotations

import difflib
from collections import UserDict
from collections.abc import Mapping
from typing import TypeVar

from semiseg.config.checks import require

Entry = TypeVar("Entry")

CUSTOM = "custom"
"""Name, in a config, of a dataset or a network that was given as an object."""


class Registry(UserDict[str, Entry]):
    """A dict whose keys are `names` too, the list that an option is checked against."""

    def __init__(self, names: list[str], entries: Mapping[str, Entry]) -> None:
        """`names` may hold the keys of `entries` already."""
        self.names = names
        super().__init__(entries)

    def __setitem__(self, name: str, entry: Entry) -> None:
        if name == CUSTOM:
            raise ValueError(f"the name {CUSTOM!r} is for objects that have none; choose another")
        super().__setitem__(name, entry)
        if name not in self.names:
            self.names.append(name)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.names.remove(name)


def check_name(option: str, name: str, names: list[str], registry: str) -> None:
    """Raise ValueError with the nearest name unless `name` is one of `names`, or stands for an object."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    hint = f"did you mean {lower[close[0]]}? Expected" if close else "expected"
    require(
        name in (*names, CUSTOM),
        f"{option} is {name!r}; {hint} one of: {', '.join(names)}. Your own is added to semiseg.{registry} first",
    )
