"""Bookkeeping of a case: what was read, what was compared, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class Tracked(Mapping[str, Any]):
    """A mapping that remembers which keys were read."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self._content[key]
        self.read.add(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def raw(self) -> dict[str, Any]:
        """The content, read by the harness itself: leaves no trace."""
        return self._content


@dataclass
class Ledger:
    """What was compared, and what is wrong."""

    arrays: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    parameters_checked: bool = False
    files: set[str] = field(default_factory=set)
    distances: dict[str, float] = field(default_factory=dict)
