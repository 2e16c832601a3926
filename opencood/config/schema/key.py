"""One entry of the table of configuration keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opencood.config.kinds import Kind


class _Required:
    """Marks a key without a default."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Key:
    """One key of a section: ``default`` is what its absence means, or ``REQUIRED``."""

    name: str
    kind: Kind
    default: Any
    meaning: str
