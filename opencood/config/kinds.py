"""The kinds of values a configuration key can have, each with the words an error message uses for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opencood.config.parsers.context import is_number


@dataclass(frozen=True)
class Kind:
    """A test and its description."""

    expected: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.expected} or {other.expected}", lambda value: self.accepts(value) or other.accepts(value))


def numbers(count: int, layout: str) -> Kind:
    """A list of so many numbers."""

    def accepts(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == count and all(map(is_number, value))

    return Kind(f"a list of {count} numbers {layout}", accepts)


def one_of(*words: str) -> Kind:
    """One of a few words."""
    return Kind("one of " + ", ".join(words), lambda value: value in words)


def items(kind: Kind, what: str) -> Kind:
    """A list whose items all have one kind."""
    return Kind(f"a list of {what}", lambda value: isinstance(value, list | tuple) and all(map(kind.accepts, value)))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TEXT = Kind("text", lambda value: isinstance(value, str))
BOOL = Kind("true or false", lambda value: isinstance(value, bool))
INT = Kind("a whole number", _is_int)
POSITIVE_INT = Kind("a whole number above 0", lambda value: _is_int(value) and value > 0)
NUMBER = Kind("a number", is_number)
NOT_NEGATIVE = Kind("a number not below 0", lambda value: is_number(value) and value >= 0)
MAP = Kind("a map", lambda value: isinstance(value, Mapping))
LIST = Kind("a list", lambda value: isinstance(value, list | tuple))
NOTHING_LISTED = Kind("[]", lambda value: value == [])
ANY = Kind("any value", lambda value: True)
TEXTS = items(TEXT, "texts")
NUMBERS = items(NUMBER, "numbers")
MAPS = items(MAP, "maps")
RANGE = numbers(6, "[x0, y0, z0, x1, y1, z1] in metres")
VOXEL = numbers(3, "[x, y, z] in metres")
BOUND = numbers(3, "[low, high, step]")
PAIR = numbers(2, "[low, high]")
