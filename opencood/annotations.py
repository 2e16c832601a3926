"""Annotations of constructor parameters as the kinds of YAML values that they accept.

Only plain annotations are judged (``int``, ``Sequence[float]``, ``str | None``...); whatever else stands there accepts
every value. Numbers may be whole where fractions are expected, and nothing else is converted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float | np.floating)


def _is_switch(value: Any) -> bool:
    """Published files write 0 and 1 as well."""
    return isinstance(value, bool | np.bool_) or (_is_whole(value) and value in (0, 1))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "str": ("text", lambda value: isinstance(value, str)),
    "bool": ("true or false", _is_switch),
    "None": ("null", lambda value: value is None),
    "Mapping": ("a map", lambda value: isinstance(value, Mapping)),
    "dict": ("a map", lambda value: isinstance(value, Mapping)),
    "Sequence": ("a list", _is_list),
    "list": ("a list", _is_list),
    "tuple": ("a list", _is_list),
}
_LIST = re.compile(r"(?:Sequence|list)\[(int|float|str)\]$")


def expected(annotation: Any, value: Any) -> str | None:
    """Return in words what an annotation expects if ``value`` is something else, or None if it may be right."""
    wanted = []
    for choice in _choices(annotation):
        found = _LIST.match(choice)
        words, accepts = _KINDS.get(choice.partition("[")[0], ("", lambda _: True))
        if found is not None and accepts(value):
            item_words, item_accepts = _KINDS[found[1]]
            words = f"a list whose items are each {item_words}"
            if all(map(item_accepts, value)):
                return None
        elif accepts(value):
            return None
        wanted.append(words)
    return " or ".join(wanted)


def _choices(annotation: Any) -> list[str]:
    """The members of a union as text; a union inside brackets falls apart into names that accept everything."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "Any")
    return [choice.strip() for choice in text.split(" | ")]
