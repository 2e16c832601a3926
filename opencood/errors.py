"""The errors a user can cause. Each message names the file or key, what is wrong and how to fix it.

Command lines print such a message without a stack trace; everything else is a bug and keeps its trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class OpencoodError(Exception):
    """Base of all errors that carry a message for the user."""


class ConfigError(OpencoodError):
    """A hypes YAML, a command-line value or a component's arguments are wrong."""


class DataError(OpencoodError):
    """A data folder or one of its files is missing, truncated, corrupt or inconsistent."""


class CheckpointError(OpencoodError):
    """A checkpoint is missing, unreadable, or belongs to another model."""


class StorageError(OpencoodError):
    """Something could not be written completely (disk full, no permission)."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest valid name, or an empty string."""
    close = get_close_matches(str(name), [str(v) for v in valid], n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
