"""The errors a user can cause. Each message names the file or key, what is wrong and how to fix it.

Command lines print such a message without a stack trace; everything else is a bug and keeps its trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# How torch's DataLoader hands over what a worker raised: the same class, with the worker's trace as its message.
_FROM_WORKER = re.compile(r"Caught (?P<name>\w+) in [^\n]*\.\nOriginal Traceback")


class OpencoodError(Exception):
    """Base of all errors that carry a message for the user.

    An error that was raised in a loader worker and is raised again in the main process keeps its message and loses the
    worker's trace, so that it reads the same whatever the number of workers.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_without_worker_trace(str(message)))


class ConfigError(OpencoodError):
    """A hypes YAML, a command-line value or a component's arguments are wrong."""


class DataError(OpencoodError):
    """A data folder or one of its files is missing, truncated, corrupt or inconsistent."""


class CheckpointError(OpencoodError):
    """A checkpoint is missing, unreadable, or belongs to another model."""


class StorageError(OpencoodError):
    """Something could not be written completely (disk full, no permission)."""


def _without_worker_trace(message: str) -> str:
    found = _FROM_WORKER.match(message)
    if found is None:
        return message
    return re.split(rf"\n[\w.]*\b{found['name']}: ", message)[-1].rstrip("\n")


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest valid name, or an empty string."""
    close = get_close_matches(str(name), [str(v) for v in valid], n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
