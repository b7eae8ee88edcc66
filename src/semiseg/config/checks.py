"""What every option uses: its type, its range, and what stands beside a field.

A number's range is part of its type, `lr: Annotated[float, Range(0, 1e6, above=True)]`, so that an option has its range
where it is declared, and files, the command line and Python meet the same check when the options are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

LONGEST = 60  # characters of a value in a message


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition`: for the user's mistakes in an option."""
    if not condition:
        raise ValueError(message)


def shown(value: object, longest: int = LONGEST) -> str:
    """`value` in a message: its repr, in one line and cut to `longest` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = "a number of very many digits"
    return text if len(text) <= longest else f"{text[:longest]}…"


def shown_key(key: str) -> str:
    """A key of a file in a message: as it stands, unless it is long or not printable."""
    return key if len(key) <= LONGEST and key.isprintable() else shown(key)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included unless `above` the first and `below` the second are asked."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether `value` lies in it; NaN lies in none."""
        over = self.low < value if self.above else self.low <= value
        return over and (value < self.high if self.below else value <= self.high)

    def words(self, name: str) -> str:
        """As `0 < name <= 4`."""
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        return f"{low} {'<' if self.above else '<='} {name} {'<' if self.below else '<='} {high}"


Count = Annotated[int, Range(1, 10**9)]
"""How many, at least one."""
CountFrom0 = Annotated[int, Range(0, 10**9)]
"""How many, or 0."""
Seed = Annotated[int, Range(0, 2**63 - 1)]
"""Of random numbers; torch takes 63 bits."""
Share = Annotated[float, Range(0, 1)]
"""A share or a probability."""
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
"""A share that leaves something, as of a running average."""
Weight = Annotated[float, Range(0, 1e6)]
"""A factor of a loss and the like; 0 is off."""
Positive = Annotated[float, Range(0, 1e6, above=True)]
"""A factor that cannot be 0."""


def describe(kind: Any) -> str:
    """What values a type takes, in words."""
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return describe(inner[0])
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("none" if arg is NoneType else describe(arg) for arg in inner)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if get_origin(kind) is tuple:
        count = "any number of" if inner[-1] is Ellipsis else len(inner)
        return f"{count} values, each {describe(inner[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(kind) or f"{kind.__name__}(...)"


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raise ValueError, with what was expected of the option `name`, unless `value` is of the type and in its range."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        check_value(name, value, inner[0])
        last = name.rpartition(".")[2].lstrip("-")
        wrong = [each for each in inner[1:] if isinstance(each, Range) and value not in each]
        require(not wrong, f"{name} is {shown(value)}; expected {', '.join(each.words(last) for each in wrong)}")
    elif origin in (Union, UnionType):
        try:
            if value is not None:
                check_value(name, value, next(arg for arg in inner if arg is not NoneType))
        except ValueError as error:
            raise ValueError(f"{error}, or none") from None
    elif origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis and isinstance(value, list | tuple) else inner
        whole = isinstance(value, list | tuple) and len(value) == len(kinds)
        require(whole, f"{name} is {shown(value)}; expected {describe(kind)}")
        for each, item_kind in zip(value, kinds, strict=True):  # type: ignore[arg-type]
            check_value(name, each, item_kind)
    else:
        require(_is_of(value, kind), f"{name} is {shown(value)}; expected {describe(kind)}")


def _is_of(value: object, kind: Any) -> bool:
    """Whether `value` is of a type without parts; True is no number, and neither NaN nor infinity is one."""
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if kind in (int, float) and isinstance(value, int):  # a range refuses what is too large for a float
        return not isinstance(value, bool)
    if kind is float:
        return isinstance(value, float) and math.isfinite(value)
    if kind in (str, Path):
        return isinstance(value, str | Path) and "\0" not in str(value)  # which no name of a file can hold
    return isinstance(value, kind)


@cache
def types_of(options: type) -> dict[str, Any]:
    """Field -> its type, with its range, of a dataclass."""
    hints = get_type_hints(options, include_extras=True)
    return {item.name: hints[item.name] for item in fields(options)} if is_dataclass(options) else {}


class Options:
    """What options inherit: every field is checked, type and range, when they are made."""

    section: ClassVar[str] = "method"
    """Of a config, which stands before a field's name in messages."""

    def __post_init__(self) -> None:
        for name, kind in types_of(type(self)).items():
            check_value(f"{self.section}.{name}", getattr(self, name), kind)

    @property
    def reads_class_pixels(self) -> bool:
        """Whether the number of labelled pixels of each class has to be counted before the first step."""
        return False


FREE_ON_RESUME = {"resume": "free"}
"""Metadata of an option that changes nothing in the weights: it may differ when a run is resumed."""
COUNTED = {"costs": "counted"}
"""Metadata of an option that the cost of a step follows from; every option of method, prototypes, network, loss is,"""
NOT_COUNTED = {"costs": "free"}
"""except options with this, which only scale or select."""
